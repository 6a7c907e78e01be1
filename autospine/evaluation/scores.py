"""The scores of one case: every label of a prediction against its reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.dataset import LabelSchema
from autospine.core.errors import GeometryError, LabelError
from autospine.core.geometry import Grid, Triple
from autospine.core.volume import Volume
from autospine.evaluation.overlap import Overlap, overlaps
from autospine.evaluation.surface import SurfaceDistances, surface_distances
from autospine.io.images import read_labels

Status = Literal["found", "missed", "false positive"]

_VERSE_UNANNOTATED: Final = (26, 27)


@dataclass(frozen=True)
class Coding:
    """Which mask values are scored and what they are called.

    Args:
        names: Name by value of what is scored.
        background: Values that count as background.
        ignore: Reference value of voxels that are not scored.
    """

    names: Mapping[int, str]
    background: tuple[int, ...] = (0,)
    ignore: int | None = None

    @classmethod
    def of_schema(cls, labels: LabelSchema) -> Coding:
        """The coding of a data set's masks."""
        return cls({value: labels.names[value] for value in labels.foreground}, ignore=labels.ignore)

    @classmethod
    def consecutive(cls) -> Coding:
        """Autospine's own: C1..L6 are 1..25 and T13 is 26."""
        return cls.of_schema(LabelSchema.vertebral_column())

    @classmethod
    def verse(cls) -> Coding:
        """VerSe's: T13 is 28; sacrum (26) and coccyx (27) count as background."""
        names = {anatomy.to_verse(label): anatomy.name_of(label) for label in anatomy.COLUMN_LABELS}
        return cls(names, (0, *_VERSE_UNANNOTATED))

    @property
    def vertebrae(self) -> dict[int, int]:
        """Autospine's own label (1..26) by value, for the values whose names are vertebrae."""
        return {v: anatomy.label_of(name) for v, name in self.names.items() if name in anatomy.COLUMN}


@dataclass(frozen=True)
class LabelScore:
    """One label of one case.

    Args:
        label: Its value in the masks.
        name: Its name.
        status: ``"found"`` in both masks; ``"missed"``: only in the reference; ``"false positive"``:
            only in the prediction.
        dice: Dice coefficient; 0 unless found.
        nsd: Surface Dice at the report's tolerance; 0 unless found.
        hd95: 95 % Hausdorff distance in mm; None unless found, because there is no second surface.
        assd: Average symmetric surface distance in mm; None unless found.
    """

    label: int
    name: str
    status: Status
    dice: float
    nsd: float
    hd95: float | None
    assd: float | None


@dataclass(frozen=True)
class CaseScore:
    """All labels of one case. The means are over its reference labels, a missed one counting as 0.

    Args:
        identifier: The case.
        patient: Whom it shows; cases of one patient are resampled together.
        predicted: Whether there was a prediction at all.
        labels: One entry per label in either mask.
        dice: Mean Dice; None when the reference is empty.
        dice_with_false_positives: Mean Dice where labels only predicted count as 0 too.
        nsd: Mean surface Dice.
        hd95: Mean over the labels found, in mm.
        assd: Mean over the labels found, in mm.
    """

    identifier: str
    patient: str
    predicted: bool
    labels: tuple[LabelScore, ...]
    dice: float | None
    dice_with_false_positives: float | None
    nsd: float | None
    hd95: float | None
    assd: float | None

    @property
    def reference(self) -> tuple[LabelScore, ...]:
        """The labels that occur in the reference."""
        return tuple(score for score in self.labels if score.status != "false positive")


@dataclass(frozen=True)
class ScoringTask:
    """One case to score.

    Args:
        identifier: The case.
        patient: Whom it shows.
        reference: Its reference mask.
        prediction: Its predicted mask; None when it is missing.
        coding: What the values mean, in both masks.
        tolerance: mm within which surfaces count as equal.
    """

    identifier: str
    patient: str
    reference: Path
    prediction: Path | None
    coding: Coding = field(default_factory=Coding.consecutive)
    tolerance: float = 1.0


@dataclass(frozen=True)
class MaskPair:
    """The two masks of a case; what is not scored is 0 in both.

    Args:
        prediction: Label map (z, y, x); empty if there is no prediction.
        reference: Label map of the same shape.
        grid: The lattice of both.
        unjudged: Predicted values that occur only where the reference says that nothing is scored.
    """

    prediction: NDArray[np.int32]
    reference: NDArray[np.int32]
    grid: Grid
    unjudged: frozenset[int] = frozenset()


def score_case(task: ScoringTask) -> CaseScore:
    """Read the two masks of a case and score them; a missing prediction is scored as an empty one.

    Raises:
        GeometryError: The two masks lie on different grids.
        LabelError: A mask holds values that the coding does not declare.
        ImageError: A file is unreadable.
    """
    masks = read_masks(task)
    labels = score_labels(
        masks.prediction, masks.reference, masks.grid.spacing, task.coding.names, task.tolerance
    )
    return _summarised(task, labels)


def read_masks(task: ScoringTask) -> MaskPair:
    """Read and check the two masks of a case.

    Raises:
        GeometryError: The two masks lie on different grids.
        LabelError: A mask holds values that the coding does not declare.
        ImageError: A file is unreadable.
    """
    reference = read_labels(task.reference)
    true = _scored_values(reference, task.coding, task.reference)
    if task.prediction is None:
        predicted = np.zeros_like(true)
    else:
        prediction = read_labels(task.prediction)
        _require_same_grid(prediction, reference, task)
        predicted = _scored_values(prediction, task.coding, task.prediction)
    if task.coding.ignore is None:
        return MaskPair(predicted, true, reference.grid)
    # What the reference leaves open is nobody's: neither volume nor surface there is judged.
    ignored = true == task.coding.ignore
    unjudged = np.setdiff1d(predicted[ignored], predicted[~ignored])
    predicted[ignored] = 0
    true[ignored] = 0
    return MaskPair(predicted, true, reference.grid, frozenset(unjudged.tolist()))


def score_labels(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    spacing: Triple,
    names: Mapping[int, str],
    tolerance: float = 1.0,
) -> tuple[LabelScore, ...]:
    """Score every label that occurs in either map.

    Args:
        prediction: Label map (z, y, x).
        reference: Label map of the same shape.
        spacing: mm along z, y, x.
        names: Name of each value to score.
        tolerance: mm within which surfaces count as equal.
    """
    return tuple(
        _label_score(label, names[label], overlap, surface, tolerance)
        for label, overlap, surface in compare_labels(prediction, reference, spacing, sorted(names))
    )


def compare_labels(
    prediction: NDArray[Any], reference: NDArray[Any], spacing: Triple, labels: Sequence[int]
) -> Iterator[tuple[int, Overlap, SurfaceDistances | None]]:
    """Volume overlap and surface distances of every label that occurs in either map.

    Args:
        prediction: Label map (z, y, x).
        reference: Label map of the same shape.
        spacing: mm along z, y, x.
        labels: Positive values to compare.

    Yields:
        Label, overlap, and surface distances, which are None unless both maps hold the label.
    """
    inside = np.flatnonzero((prediction != 0) | (reference != 0))
    values = prediction.ravel()[inside], reference.ravel()[inside]
    found = overlaps(*values, labels)
    boxes = _boxes(values, inside, reference.shape)
    for label, overlap in found.items():
        surface = None
        if overlap.prediction and overlap.reference:
            box = boxes[label]
            surface = surface_distances(reference[box] == label, prediction[box] == label, spacing)
        yield label, overlap, surface


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that exist; None when none does."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _label_score(
    label: int, name: str, overlap: Overlap, surface: SurfaceDistances | None, tolerance: float
) -> LabelScore:
    if surface is None:
        status: Status = "missed" if overlap.reference else "false positive"
        return LabelScore(label, name, status, 0.0, 0.0, None, None)
    nsd = surface.surface_dice(tolerance)
    return LabelScore(label, name, "found", overlap.dice, nsd, surface.hausdorff(), surface.average)


def _summarised(task: ScoringTask, labels: tuple[LabelScore, ...]) -> CaseScore:
    reference = [score for score in labels if score.status != "false positive"]
    return CaseScore(
        identifier=task.identifier,
        patient=task.patient,
        predicted=task.prediction is not None,
        labels=labels,
        dice=mean(score.dice for score in reference),
        dice_with_false_positives=mean(score.dice for score in labels),
        nsd=mean(score.nsd for score in reference),
        hd95=mean(score.hd95 for score in reference),
        assd=mean(score.assd for score in reference),
    )


def _scored_values(volume: Volume, coding: Coding, path: Path) -> NDArray[np.int32]:
    array: NDArray[np.int32] = volume.array[0]
    declared = [*coding.background, *coding.names, *([] if coding.ignore is None else [coding.ignore])]
    unknown = np.setdiff1d(array[array != 0], declared)
    if unknown.size:
        raise LabelError(
            f"The mask holds the undeclared value{'s' if unknown.size > 1 else ''} "
            f"{', '.join(map(str, unknown[:5]))}.",
            where=path,
            remedy="Say what the values mean: --dataset FOLDER, or --coding verse for VerSe's T13 = 28.",
        )
    if len(coding.background) > 1:
        array[np.isin(array, coding.background)] = 0
    return array


def _require_same_grid(prediction: Volume, reference: Volume, task: ScoringTask) -> None:
    if not prediction.grid.same_as(reference.grid):
        raise GeometryError(
            f"This prediction does not lie on the grid of its reference {task.reference}: "
            f"{prediction.grid.shape} voxels of {prediction.grid.spacing} mm against "
            f"{reference.grid.shape} voxels of {reference.grid.spacing} mm.",
            where=task.prediction,
            remedy="Predict on the scan that the reference was drawn on; nothing is resampled here.",
        )


def _boxes(
    values: Sequence[NDArray[Any]], indices: NDArray[np.int64], shape: tuple[int, ...]
) -> list[tuple[slice, ...]]:
    """By value: the smallest box that holds all voxels of this value in either map.

    Args:
        values: Of both maps at some voxels, (n,) each.
        indices: Flat indices of these voxels, (n,).
        shape: Of the maps.
    """
    rows = max(int(map_.max(initial=0)) for map_ in values) + 1
    sides = []
    for place, size in zip(np.unravel_index(indices, shape), shape, strict=True):
        seen = np.zeros((rows, size), dtype=np.bool_)
        for map_ in values:
            seen[map_, place] = True
        sides.append(zip(seen.argmax(axis=1), size - seen[:, ::-1].argmax(axis=1), strict=True))
    return [tuple(slice(int(a), int(b)) for a, b in box) for box in zip(*sides, strict=True)]
