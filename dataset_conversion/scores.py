"""xVertSeg's table of fracture scores, kept as it is: its column names are not documented."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core.errors import DocumentError

_NUMBER: Final = re.compile(r"\d+")
_DELIMITERS: Final = ";,\t"


@dataclass(frozen=True)
class Scores:
    """A table, cell by cell as text.

    Args:
        columns: Names of the header row; ``column 1``, ``column 2``, … without one.
        rows: Cells of each row.
        cases: For each row the case it is about, by the first number in its first cell;
            empty if there is none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    cases: tuple[str, ...]


def read_scores(path: Path, prefix: str) -> Scores:
    """Read a table with or without a header, separated by semicolons, commas or tabs.

    Args:
        path: The CSV file.
        prefix: Of case identifiers, before the number with three digits.

    Raises:
        DocumentError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"The scores cannot be read ({error.strerror}).", where=path) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # knows every byte
    delimiter = max(_DELIMITERS, key=text.count)
    table = [
        tuple(cell.strip() for cell in row) for row in csv.reader(text.splitlines(), delimiter=delimiter)
    ]
    table = [row for row in table if any(row)]
    width = max((len(row) for row in table), default=0)
    # A header names columns, so apart from the first cell it holds hardly any number.
    has_header = bool(table) and not any(cell.isdigit() for cell in table[0])
    columns = table[0] if has_header else tuple(f"column {i + 1}" for i in range(width))
    rows = tuple(table[1:] if has_header else table)
    return Scores(columns, rows, tuple(_case(row[0], prefix) for row in rows))


def _case(cell: str, prefix: str) -> str:
    number = _NUMBER.search(cell)
    return f"{prefix}{int(number[0]):03d}" if number else ""
