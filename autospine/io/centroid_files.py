"""Body centres for others to read: VerSe's JSON files, tables, and point lists for 3D Slicer.

The VerSe files are read back by ``autospine.io.centroids``, which also defines their three frames.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from autospine.core import anatomy
from autospine.core.errors import DocumentError
from autospine.core.geometry import Grid, Triple
from autospine.io.centroids import CentroidFrame

#: Columns of the table; positions are LPS, so x grows to the patient's left and y to the back.
COLUMNS: Final = (
    "case",
    "label",
    "verse_id",
    "name",
    "x_lps_mm",
    "y_lps_mm",
    "z_lps_mm",
    "visible",
    "probability",
)

#: Slicer tells its own JSON documents by this address; it does not visit it.
_SLICER_SCHEMA: Final = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_DIGITS: Final = 3


@dataclass(frozen=True)
class Centre:
    """A row of the table: one vertebra of one case.

    Args:
        case: The scan's name.
        label: Of the vertebra, 1..26.
        position: LPS world position (x, y, z) in mm of the centre of its body.
        visible: Share of the vertebra that is in view; None when nobody knows.
        probability: That its name is right; None when nobody knows.
    """

    case: str
    label: int
    position: Triple
    visible: float | None = None
    probability: float | None = None


def verse_text(centres: Mapping[int, Triple], grid: Grid, frame: CentroidFrame, digits: int = 2) -> str:
    """VerSe's centroid file as text.

    Args:
        centres: LPS world positions (x, y, z) in mm by label.
        grid: The grid of the scan.
        frame: What X, Y and Z shall mean. Frames that count voxels are those of the subject-based files,
            which name their axes in a ``direction`` entry; flat files have none.
        digits: Decimals of X, Y and Z.

    Raises:
        KeyError: A label is not in 1..26.
    """
    entries: list[dict[str, Any]] = [] if frame.millimetres else [{"direction": list(frame.codes)}]
    for label, world in sorted(centres.items()):
        x, y, z = (round(float(v), digits) for v in frame.from_world(grid, world))
        entries.append({"label": anatomy.to_verse(label), "X": x, "Y": y, "Z": z})
    return json.dumps(entries) + "\n"


def table_text(centres: Iterable[Centre]) -> str:
    """A CSV table, one row a vertebra, with the columns ``COLUMNS``; unknown shares stay empty.

    Raises:
        KeyError: A label is not in 1..26.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for centre in centres:
        shares = ["" if v is None else f"{v:.4f}" for v in (centre.visible, centre.probability)]
        names = (centre.label, anatomy.to_verse(centre.label), anatomy.name_of(centre.label))
        writer.writerow([centre.case, *names, *(f"{v:.{_DIGITS}f}" for v in centre.position), *shares])
    return text.getvalue()


def read_table(path: Path) -> tuple[Centre, ...]:
    """The rows of a table that ``table_text`` made; columns may stand in any order.

    Raises:
        DocumentError: The file cannot be read, lacks columns, or a row is garbled.
    """
    rows = csv.DictReader(io.StringIO(_read(path), newline=""))
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise _damaged(path, f"it lacks the columns {', '.join(missing)}")
    try:
        return tuple(_centre(row) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"line {rows.line_num}: {error}") from error


def slicer_text(centres: Mapping[int, Triple]) -> str:
    """A point list for 3D Slicer (``.mrk.json``), one point a vertebra, head to foot, in LPS mm.

    Args:
        centres: LPS world positions (x, y, z) in mm by label.

    Raises:
        KeyError: A label is not in 1..26.
    """
    points = [
        {
            "id": str(number),
            "label": anatomy.name_of(label),
            "description": f"VerSe {anatomy.to_verse(label)}",
            "position": [round(float(v), _DIGITS) for v in centres[label]],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, label in enumerate(sorted(centres, key=anatomy.rank_of), start=1)
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(points),
        "controlPoints": points,
    }
    return json.dumps({"@schema": _SLICER_SCHEMA, "markups": [markup]}, indent=1) + "\n"


def read_slicer(path: Path) -> dict[int, Triple]:
    """The vertebrae among the points of a Slicer file, ours or one saved by Slicer.

    Points that are not called like a vertebra, or were never placed, are left out.

    Returns:
        LPS world positions (x, y, z) in mm by label.

    Raises:
        DocumentError: The file is damaged.
    """
    try:
        return dict(_slicer_points(json.loads(_read(path))["markups"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _slicer_points(markups: Iterable[Mapping[str, Any]]) -> Iterable[tuple[int, Triple]]:
    for markup in markups:
        # RAS differs from LPS in the sense of its first two axes; Slicer writes LPS unless told otherwise.
        sign = -1.0 if markup.get("coordinateSystem", "LPS") == "RAS" else 1.0
        for point in markup["controlPoints"]:
            if point["label"] in anatomy.COLUMN and point.get("positionStatus", "defined") == "defined":
                x, y, z = (float(v) for v in point["position"])
                yield anatomy.label_of(point["label"]), (sign * x, sign * y, z)


def _centre(row: Mapping[str, str]) -> Centre:
    x, y, z = (float(row[column]) for column in ("x_lps_mm", "y_lps_mm", "z_lps_mm"))
    visible, probability = (float(row[c]) if row[c] else None for c in ("visible", "probability"))
    label = int(row["label"])
    anatomy.name_of(label)
    return Centre(row["case"], label, (x, y, z), visible, probability)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> DocumentError:
    return DocumentError(
        f"The body centres cannot be read ({reason}).", where=path, remedy="Export them again."
    )
