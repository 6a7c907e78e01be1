"""What ``autospine predict`` left in a folder: masks, and beside them reports on their vertebrae."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.column_report import FoundVertebra
from autospine.core.errors import DataError, LabelError
from autospine.core.geometry import Triple
from autospine.core.volume import Volume
from autospine.io.checks import present_values
from autospine.io.column_reports import load_report, report_path
from autospine.io.images import image_stem, is_image, read_labels
from autospine.vertebrae.centroids import body_centres

#: Masks are bytes.
_VALUES: Final = 256


@dataclass(frozen=True)
class PredictedMask:
    """A predicted mask.

    Args:
        name: Of the scan it belongs to.
        mask: Its file.
    """

    name: str
    mask: Path


@dataclass(frozen=True)
class PredictedColumn:
    """A mask in autospine's own labels, and its vertebrae.

    Args:
        mask: Labels 1..26 as uint8, shape (1, z, y, x).
        vertebrae: Those in the mask, from head to foot, by the same labels.
        reported: Whether they come from a report; else nothing is known of what the border cuts.
        others: Values of the file that its report does not name; they are background in ``mask``.
    """

    mask: Volume
    vertebrae: tuple[FoundVertebra, ...]
    reported: bool
    others: tuple[int, ...] = ()

    @property
    def centres(self) -> dict[int, Triple]:
        """LPS world position (x, y, z) in mm of each body's centre, by label."""
        return {vertebra.label: vertebra.centre for vertebra in self.vertebrae}


def find_predictions(folder: Path) -> tuple[PredictedMask, ...]:
    """The masks that stand directly in a folder, by name.

    Raises:
        DataError: There is none, or two have the same name.
    """
    masks = sorted(path for path in folder.glob("*") if is_image(path))
    if not masks:
        raise DataError(
            "There are no masks in this folder.", where=folder, remedy="Name the --output of a prediction."
        )
    by_name: dict[str, PredictedMask] = {}
    for path in masks:
        name = image_stem(path)
        if name in by_name:
            raise DataError(
                f"There are two masks of {name}: {by_name[name].mask.name} and {path.name}.",
                where=folder,
                remedy="Remove the one that is not meant.",
            )
        by_name[name] = PredictedMask(name, path)
    return tuple(by_name.values())


def read_column(prediction: PredictedMask) -> PredictedColumn:
    """A mask and its vertebrae, as its report names them.

    Without a report, the values are taken for autospine's labels, and body centres are derived.

    Raises:
        ImageError: The mask is damaged or holds fractions.
        GeometryError: Its header is degenerate.
        LabelError: It holds values that mean no vertebra, or lacks some that its report names.
        DocumentError: The report is damaged.
    """
    mask = read_labels(prediction.mask)
    report = load_report(prediction.mask.parent, prediction.name)
    counts = _voxels(mask.array[0], prediction.mask)
    if report is None:
        labels = _recoded(mask, {label: label for label in anatomy.COLUMN_LABELS}, counts, prediction.mask)
        return PredictedColumn(labels, _derived(labels, counts), reported=False)
    coding = {v.label: _label_of(v.name, prediction) for v in report.vertebrae}
    if not set(coding) <= set(counts):
        raise LabelError(
            f"The mask holds the values {_listed(counts)}, its report names {_listed(coding)}.",
            where=prediction.mask,
            remedy=f"Predict it again, or delete {report_path(prediction.mask.parent, prediction.name)}.",
        )
    # A report names all vertebrae, so what it does not name is something else.
    others = dict.fromkeys(set(counts) - set(coding), 0)
    labels = _recoded(mask, coding | others, counts, prediction.mask)
    found = [replace(vertebra, label=coding[vertebra.label]) for vertebra in report.vertebrae]
    ordered = sorted(found, key=lambda vertebra: anatomy.rank_of(vertebra.label))
    return PredictedColumn(labels, tuple(ordered), reported=True, others=tuple(sorted(others)))


def _derived(labels: Volume, counts: Mapping[int, int]) -> tuple[FoundVertebra, ...]:
    voxel = labels.grid.voxel_volume
    centres = body_centres(labels.array[0], labels.grid)
    return tuple(
        FoundVertebra(label, anatomy.name_of(label), centres[label], counts[label] * voxel)
        for label in sorted(centres, key=anatomy.rank_of)
    )


def _voxels(array: NDArray[Any], where: Path) -> dict[int, int]:
    """How often each value but 0 occurs, counted slice by slice to save memory."""
    if array.min() < 0 or array.max() >= _VALUES:
        raise _unknown([v for v in present_values(array) if not 0 <= v < _VALUES], where)
    counts = np.sum([np.bincount(plane.ravel(), minlength=_VALUES) for plane in array], axis=0)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts) if value}


def _recoded(mask: Volume, coding: Mapping[int, int], counts: Mapping[int, int], where: Path) -> Volume:
    unknown = sorted(set(counts) - set(coding))
    if unknown:
        raise _unknown(unknown, where)
    table = np.zeros(_VALUES, np.uint8)
    for value, label in coding.items():
        table[value] = label
    return Volume(table[mask.array], mask.grid)


def _unknown(values: list[int], where: Path) -> LabelError:
    return LabelError(
        f"The mask holds values that mean no vertebra: {_listed(values)}.",
        where=where,
        remedy="Known are 1..25 for C1..L6 and 26 for T13; other values need a report that names them.",
    )


def _label_of(name: str, prediction: PredictedMask) -> int:
    if name not in anatomy.COLUMN:
        raise LabelError(
            f"The report names {name!r}, which is no vertebra.",
            where=report_path(prediction.mask.parent, prediction.name),
            remedy=f"Known names are C1..C7, T1..T13 and L1..L6, for instance {anatomy.COLUMN[0]}.",
        )
    return anatomy.label_of(name)


def _listed(values: Any) -> str:
    return ", ".join(map(str, sorted(values))) or "none"
