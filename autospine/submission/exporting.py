"""The body centres of predictions as files in several formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.io.centroid_files import Centre, slicer_text, table_text, verse_text
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes
from autospine.reporting import Reporter
from autospine.submission.predictions import PredictedColumn, PredictedMask, find_predictions, read_column

#: The table of all scans.
TABLE: Final = "centroids.csv"

#: Ending and text of the formats that have a file a scan; endings are those of the published data.
_FORMATS: Final[Mapping[str, tuple[str, Callable[[PredictedColumn], str]]]] = {
    "verse": (
        "_seg-subreg_ctd.json",
        lambda found: verse_text(found.centres, found.mask.grid, CentroidFrame(axis_codes(found.mask.grid))),
    ),
    "verse19": ("_ctd.json", lambda found: verse_text(found.centres, found.mask.grid, VERSE19_FLAT)),
    "verse20": ("_iso-ctd.json", lambda found: verse_text(found.centres, found.mask.grid, VERSE20_FLAT)),
    "slicer": (".mrk.json", lambda found: slicer_text(found.centres)),
}


@dataclass(frozen=True)
class Export:
    """Files to write.

    Args:
        files: Their texts by name.
        vertebrae: Names of the vertebrae of each scan, from head to foot.
    """

    files: Mapping[str, str]
    vertebrae: Mapping[str, tuple[str, ...]]


def export(predictions: Path, formats: Sequence[str], reporter: Reporter) -> Export:
    """The body centres of all predictions in a folder.

    Args:
        predictions: Folder of masks, with reports beside them or without.
        formats: ``verse``, ``verse19``, ``verse20``, ``slicer``, ``csv``.
        reporter: Where progress is told.

    Raises:
        DataError: There is no mask, or a mask or report cannot be used.
        KeyError: There is no such format.
    """
    found = find_predictions(predictions)
    files: dict[str, str] = {}
    rows: list[Centre] = []
    vertebrae: dict[str, tuple[str, ...]] = {}
    with reporter.bar(len(found), "export") as advance:
        for prediction in found:
            column = read_column(prediction)
            for ending, text in (_FORMATS[name] for name in formats if name != "csv"):
                files[f"{prediction.name}{ending}"] = text(column)
            rows += _rows(prediction, column)
            vertebrae[prediction.name] = tuple(vertebra.name for vertebra in column.vertebrae)
            advance(prediction.name)
    if "csv" in formats:
        files[TABLE] = table_text(rows)
    return Export(files, vertebrae)


def _rows(prediction: PredictedMask, column: PredictedColumn) -> list[Centre]:
    return [
        Centre(prediction.name, v.label, v.centre, v.visible if column.reported else None, v.probability)
        for v in column.vertebrae
    ]
