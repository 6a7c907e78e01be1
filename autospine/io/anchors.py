"""Anchors from the command line: one for all scans, or a table with one a line."""

from __future__ import annotations

import csv
from pathlib import Path

from autospine.core.anchor import Anchor, Anchors
from autospine.core.errors import DocumentError, UsageError


def read_anchors(text: str) -> Anchors:
    """Read ``T12``, ``last=L5``, or the path of a table ``scan,anchor``.

    Args:
        text: An anchor for every scan, or a file's path ending in ``.csv``.

    Raises:
        UsageError: It is no anchor.
        DocumentError: The file cannot be read, or one of its lines is no scan with an anchor.
    """
    if not text.endswith(".csv"):
        return Anchors(Anchor.parse(text))
    path = Path(text)
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"This table cannot be read ({error}).", where=path) from error
    found = {}
    for line, row in enumerate(rows, start=2):
        scan, anchor = row.get("scan"), row.get("anchor")
        if not scan or not anchor:
            raise DocumentError(
                f"Line {line} does not name a scan and its anchor.",
                where=path,
                remedy="Write a table with the columns scan and anchor.",
            )
        try:
            found[scan] = Anchor.parse(anchor)
        except UsageError as error:
            raise DocumentError(f"Line {line}: {error.message}", where=path, remedy=error.remedy) from error
    return Anchors(by_scan=found)
