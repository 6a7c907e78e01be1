"""xVertSeg's table of fracture scores.

The challenge wants the type and the grade of each vertebra's fracture. Autospine does not judge fractures:
it lists the vertebrae it has found and leaves both columns empty, for a person to fill in. What a person
has filled in stays.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from autospine.core.errors import DocumentError, UsageError
from autospine.io.files import write_text
from autospine.submission.challenge import Challenge, Place

COLUMNS: Final = ("image", "vertebra", "type", "grade")
TYPES: Final = ("normal", "wedge", "biconcave", "crush")
GRADES: Final = ("0", "1", "2", "3")


@dataclass(frozen=True)
class Score:
    """A row of the table.

    Args:
        image: The scan, ``"image016"``.
        vertebra: ``"L1"``.
        type: One of ``TYPES``; empty when not judged.
        grade: One of ``GRADES``; empty when not judged.
    """

    image: str
    vertebra: str
    type: str = ""
    grade: str = ""

    @property
    def judged(self) -> bool:
        """Whether a person has filled in anything."""
        return bool(self.type or self.grade)


def image_name(place: Place) -> str:
    """What the table calls a scan."""
    return f"image{place.name}"


def read_scores(path: Path) -> tuple[Score, ...]:
    """The rows of a table.

    Raises:
        DocumentError: It cannot be read or has other columns.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DocumentError(f"The scores cannot be read ({error}).", where=path) from error
    cells = [tuple(cell.strip() for cell in row) for row in rows if row]
    if not cells or cells[0] != COLUMNS or any(len(row) != len(COLUMNS) for row in cells):
        raise DocumentError(
            f"The table's columns are not {', '.join(COLUMNS)}.",
            where=path,
            remedy="Correct its header and rows, or delete it and submit again.",
        )
    return tuple(Score(*row) for row in cells[1:])


def write_scores(
    challenge: Challenge, output: Path, found: Sequence[tuple[Place, Sequence[str]]], *, force: bool
) -> tuple[str, ...]:
    """List the vertebrae of all scans, with whatever a person has already said about them.

    Args:
        challenge: The challenge; nothing is done unless it asks for scores.
        output: The submission's folder.
        found: Names of the vertebrae by scan, from head to foot.
        force: Begin the tables anew.

    Returns:
        Remarks for the report.

    Raises:
        UsageError: A table that is there has other columns.
        StorageError: The disk refuses.
    """
    if challenge.scores is None:
        return ()
    tables: dict[PurePosixPath, dict[tuple[str, str], Score]] = {}
    for place, vertebrae in found:
        image = image_name(place)
        table = tables.setdefault(challenge.scores.fill(place), {})
        table.update({(image, name): Score(image, name) for name in vertebrae})
    remarks = []
    for path, listed in tables.items():
        rows = listed | _judged(output / path, force=force)
        _save(output / path, rows)
        blank = sum(not row.judged for row in rows.values())
        if blank:
            remarks.append(
                f"{path}: the fractures of {blank} vertebrae are not scored; autospine does not judge them."
            )
    return tuple(remarks)


def _judged(path: Path, *, force: bool) -> dict[tuple[str, str], Score]:
    if force or not path.exists():
        return {}
    try:
        return {(row.image, row.vertebra): row for row in read_scores(path) if row.judged}
    except DocumentError as error:
        remedy = "Move it elsewhere, or replace it by --force."
        raise UsageError(error.message, where=path, remedy=remedy) from error


def _save(path: Path, rows: Mapping[tuple[str, str], Score]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((r.image, r.vertebra, r.type, r.grade) for _, r in sorted(rows.items()))
    if not (path.is_file() and path.read_text(encoding="utf-8") == text.getvalue()):
        write_text(path, text.getvalue())
