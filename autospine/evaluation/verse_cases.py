"""What is measured in one scan for VerSe's figures, and over a folder of scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from autospine.core import anatomy
from autospine.core.dataset import Case
from autospine.core.errors import UsageError
from autospine.core.geometry import Triple
from autospine.evaluation.case_centres import FlatFrame, predicted_centres, reference_centres
from autospine.evaluation.identification import (
    Centres,
    centre_distances,
    finite_centres,
    official_hits,
    shift,
    strict_hits,
)
from autospine.evaluation.overlap import Overlap
from autospine.evaluation.report import match
from autospine.evaluation.scores import Coding, MaskPair, ScoringTask, compare_labels, read_masks
from autospine.evaluation.surface import SurfaceDistances
from autospine.evaluation.verse import CaseMeasures, Presence, VertebraMeasure
from autospine.io.parallel import parallel_map
from autospine.reporting import Reporter

_Compared = Mapping[int, tuple[Overlap, SurfaceDistances | None]]

#: The percentile of the distances that is their maximum.
_MAXIMUM: Final = 100.0


@dataclass(frozen=True)
class Meaning:
    """What the files of a set of scans mean.

    Args:
        coding: What the values of both masks mean.
        known: The data set's cases by identifier: whom they show, and their centres by mask value.
        flat: Whose frame centroid files beside the masks have; by default they count voxels.
    """

    coding: Coding
    known: Mapping[str, Case] = field(default_factory=dict)
    flat: FlatFrame | None = None


@dataclass(frozen=True)
class VerseTask:
    """One case to measure.

    Args:
        scoring: Its masks and their coding.
        listed: Reference centres that the data set lists, LPS mm by autospine's own label.
        flat: Whose frame centroid files beside the masks have.
    """

    scoring: ScoringTask
    listed: Mapping[int, Triple] = field(default_factory=dict)
    flat: FlatFrame | None = None


@dataclass(frozen=True)
class Measured:
    """Measures of a set of scans.

    Args:
        cases: In the order of their identifiers.
        unmatched: Predictions without a reference; not measured.
    """

    cases: tuple[CaseMeasures, ...]
    unmatched: tuple[str, ...] = ()


def measure(
    predictions: Path,
    references: Path,
    meaning: Meaning,
    *,
    workers: int = 1,
    allow_missing: bool = False,
    reporter: Reporter | None = None,
) -> Measured:
    """Measure predicted masks against reference masks of the same stem.

    Args:
        predictions: A folder of masks, or one mask.
        references: A folder of masks, or one mask if ``predictions`` is one.
        meaning: What the files mean.
        workers: Processes.
        allow_missing: Whether a missing prediction counts as all vertebrae missed instead of being an error.
        reporter: Where progress is told; by default nowhere.

    Raises:
        UsageError: A path does not exist, one is a file and the other a folder, or no label is a vertebra.
        DataError: There are no references, or predictions are missing and that is not allowed.
        GeometryError: Prediction and reference lie on different grids.
        LabelError: A mask holds undeclared values.
        DocumentError: A report or a centroid file is damaged.
    """
    if not meaning.coding.vertebrae:
        raise UsageError(
            "None of the labels is called like a vertebra.",
            remedy="Name them C1 to L6 in dataset.json, or choose --protocol surface.",
        )
    pairs, unmatched = match(predictions, references, allow_missing)
    tasks = [_task(name, *files, meaning) for name, files in pairs.items()]
    cases = []
    with (reporter or Reporter(quiet=True)).bar(len(tasks), "evaluate") as advance:
        for case in parallel_map(measure_case, tasks, workers):
            cases.append(case)
            advance(case.identifier)
    return Measured(tuple(cases), unmatched)


def measure_case(task: VerseTask) -> CaseMeasures:
    """Read the masks and the centres of a case and measure them.

    Raises:
        GeometryError: The two masks lie on different grids.
        LabelError: A mask holds values that the coding does not declare.
        ImageError: A file is unreadable.
        DocumentError: A report or a centroid file is damaged.
    """
    scoring = task.scoring
    masks, unjudged = _in_own_labels(read_masks(scoring), scoring.coding)
    reference = reference_centres(scoring.reference, masks.reference, masks.grid, task.listed, task.flat)
    prediction = predicted_centres(scoring.prediction, masks.prediction, masks.grid, task.flat)
    true = finite_centres(reference.positions)
    judged = _judged(finite_centres(prediction.positions), true, masks, unjudged)
    return CaseMeasures(
        identifier=scoring.identifier,
        patient=scoring.patient,
        predicted=scoring.prediction is not None,
        vertebrae=tuple(_vertebrae(masks, true, judged)),
        foreground_dice=_foreground_dice(masks),
        shift=shift(true, judged),
        reference_source=reference.source,
        prediction_source=prediction.source,
    )


def _task(name: str, reference: Path, prediction: Path | None, meaning: Meaning) -> VerseTask:
    case = meaning.known.get(name)
    labels = meaning.coding.vertebrae
    listed = {labels[v]: position for v, position in case.centroids.items() if v in labels} if case else {}
    patient = case.group if case else name
    return VerseTask(ScoringTask(name, patient, reference, prediction, meaning.coding), listed, meaning.flat)


def _in_own_labels(masks: MaskPair, coding: Coding) -> tuple[MaskPair, frozenset[int]]:
    """The masks with autospine's own labels, what is no vertebra as 0, and the labels that nobody judges."""
    labels = coding.vertebrae
    table = np.zeros(max(coding.names) + 1, np.int32)
    table[list(labels)] = list(labels.values())
    pair = MaskPair(table[masks.prediction], table[masks.reference], masks.grid)
    return pair, frozenset(labels[value] for value in masks.unjudged if value in labels)


def _judged(
    prediction: Centres, reference: Centres, masks: MaskPair, unjudged: frozenset[int]
) -> dict[int, Triple]:
    """Predicted centres but those of which the reference does not say where they belong.

    A vertebra that the reference mask shows and its list of centres lacks is neither hit nor false
    positive; nor is one that was predicted where nothing is scored.
    """
    open_ = unjudged | (set(np.unique(masks.reference).tolist()) - reference.keys())
    return {label: position for label, position in prediction.items() if label not in open_}


def _vertebrae(masks: MaskPair, reference: Centres, prediction: Centres) -> Iterator[VertebraMeasure]:
    compared: _Compared = {
        label: (overlap, surface)
        for label, overlap, surface in compare_labels(
            masks.prediction, masks.reference, masks.grid.spacing, anatomy.COLUMN_LABELS
        )
    }
    official, strict = official_hits(reference, prediction), strict_hits(reference, prediction)
    distances = centre_distances(reference, prediction)
    listed = reference.keys() | prediction.keys() | compared.keys()
    for label in sorted(listed, key=anatomy.rank_of):
        overlap, surface = compared.get(label, (None, None))
        yield VertebraMeasure(
            label=label,
            name=anatomy.name_of(label),
            centre=_presence(label in reference, label in prediction),
            mask=_presence(bool(overlap and overlap.reference), bool(overlap and overlap.prediction)),
            official=label in official,
            strict=label in strict,
            distance=distances.get(label),
            dice=overlap.dice if overlap else None,
            hausdorff=surface.hausdorff(_MAXIMUM) if surface else None,
        )


def _presence(reference: bool, prediction: bool) -> Presence:
    if reference:
        return "both" if prediction else "reference"
    return "prediction" if prediction else "neither"


def _foreground_dice(masks: MaskPair) -> float:
    prediction, reference = masks.prediction > 0, masks.reference > 0
    counts = [int(np.count_nonzero(mask)) for mask in (prediction & reference, prediction, reference)]
    return Overlap(*counts).dice if counts[1] or counts[2] else 1.0
