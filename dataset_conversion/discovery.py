"""Finding files in a source folder, however it was unpacked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from autospine.core.errors import DataError, UsageError

#: Resource forks of macOS archives, and converted data sets.
_SKIPPED: Final = {"__macosx", "imagestr", "imagests", "labelstr", "labelsts"}


def find_files(source: Path, target: Path) -> list[Path]:
    """All files below ``source`` in a fixed order, without hidden ones, macOS leftovers and ``target``.

    Linked folders are followed, each real folder once.

    Raises:
        DataError: ``source`` is no folder.
        UsageError: ``target`` is ``source`` itself.
    """
    if not source.is_dir():
        raise DataError(
            "There is no such folder.", where=source, remedy="Name the folder the data set was unpacked to."
        )
    if source.resolve() == target.resolve():
        raise UsageError(
            "The converted data set would stand in its own source.",
            where=target,
            remedy="Choose another --output.",
        )
    found: list[Path] = []
    seen = {target.resolve()}
    for folder, names, files in os.walk(source, followlinks=True):
        here = Path(folder)
        seen.add(here.resolve())
        names[:] = sorted(
            name
            for name in names
            if not name.startswith(".")
            and name.lower() not in _SKIPPED
            and (here / name).resolve() not in seen
        )
        found += [here / name for name in sorted(files) if not name.startswith(".")]
    return found


def nearest(path: Path, candidates: Sequence[Path]) -> Path | None:
    """The candidate that shares the longest part of its folder with ``path``; the first of equals."""

    def distance(candidate: Path) -> tuple[int, Path]:
        shared = len(Path(os.path.commonpath([path.parent, candidate.parent])).parts)
        return (-shared, candidate)

    return min(candidates, key=distance, default=None)


def nothing_found(source: Path, looked_for: str, files: int) -> DataError:
    """The error for a folder without a single scan."""
    return DataError(
        f"No scan was found among {files} files. Looked for {looked_for}.",
        where=source,
        remedy="Name the folder the data set was unpacked to.",
    )
