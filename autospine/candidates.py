"""Combinations of trained configurations, scored case by case on their out-of-fold predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine import __version__
from autospine.core import anatomy
from autospine.core.anchor import Anchor
from autospine.core.column_report import ColumnReport, Decoding
from autospine.core.dataset import Case
from autospine.core.errors import DataError, DocumentError, GeometryError, UsageError
from autospine.core.geometry import Orientation, Triple
from autospine.core.plan import Plan
from autospine.core.run import RunFolder
from autospine.core.volume import Volume
from autospine.evaluation.identification import strict_hits
from autospine.evaluation.overlap import Overlap, overlaps
from autospine.inference.clustering import decode_clusters
from autospine.inference.decoding import Decoded, decode_argmax, found_in_mask, name_together
from autospine.inference.export import export_combinations
from autospine.inference.groups import Witness
from autospine.inference.prediction import Prediction, stored_files
from autospine.io import documents
from autospine.io.images import read_labels
from autospine.postprocessing import variants
from autospine.vertebrae.centroids import body_centres

#: mm around its centre in which a vertebra is its body, and that a whole one keeps clear of the border.
_BODY: Final = 12.0
_CLEAR: Final = 2.0

#: Names of the configurations that predict together, in the plan's order.
Combination = tuple[str, ...]


@dataclass(frozen=True)
class Contender:
    """A combination and how its names are decided.

    Args:
        members: Names of the configurations.
        decoding: Voxel by voxel or for the column as a whole.
    """

    members: Combination
    decoding: Decoding = "argmax"


@dataclass(frozen=True)
class CandidateTask:
    """One case to score.

    Args:
        case: With its reference mask and the bodies' centres that are given.
        predictions: Where each configuration's out-of-fold prediction stands, without suffix.
        contenders: What to merge, with equal weights, name and score.
        plan: What the predictions were made by.
        cache: Document that keeps the result.
        post_processed: Whether every post-processing variant of a mask is scored, not the mask alone.
    """

    case: Case
    predictions: Mapping[str, Path]
    contenders: tuple[Contender, ...]
    plan: Plan
    cache: Path
    post_processed: bool = False


@dataclass(frozen=True)
class Scored:
    """What one contender reached in one case.

    Args:
        counts: By variant (one, the mask itself, unless post-processed): voxel counts by label.
        identified: Reference vertebrae that are named right and stand in their place (``strict_hits``).
        vertebrae: Reference vertebrae.
        invented: Names given to what is no such vertebra in the reference.
    """

    counts: tuple[dict[int, Overlap], ...]
    identified: int = 0
    vertebrae: int = 0
    invented: int = 0

    @property
    def all_right(self) -> bool:
        """Whether every reference vertebra is identified and nothing else was named."""
        return self.identified == self.vertebrae and self.invented == 0


@dataclass(frozen=True)
class CaseCounts:
    """What was counted in one case.

    Args:
        inputs: Hash of everything it was counted from.
        scored: By contender.
    """

    inputs: str
    scored: tuple[Scored, ...]


def all_combinations(names: Sequence[str], largest: int | None = None) -> tuple[Combination, ...]:
    """Every non-empty combination of at most ``largest`` names, the simplest first."""
    sizes = range(1, min(largest or len(names), len(names)) + 1)
    return tuple(chosen for size in sizes for chosen in combinations(names, size))


def all_contenders(plan: Plan, combinations: Sequence[Combination]) -> tuple[Contender, ...]:
    """Every way in which combinations of configurations can decide on names.

    Voxel by voxel where all members tell levels apart; as a column where one of them tells where vertebrae
    are; by clustering where no member knows names.
    """
    configurations = {c.name: c for c in plan.configurations}
    voxels, columns, clusters = [], [], []
    for members in combinations:
        chosen = [configurations[name] for name in members]
        naming = [c.tells_levels for c in chosen]
        if all(naming):
            voxels.append(Contender(members))
        if plan.column is not None and any(c.locates for c in chosen):
            columns.append(Contender(members, "sequence"))
        if not any(naming):
            clusters.append(Contender(members, "clusters"))
    return (*voxels, *columns, *clusters)


def find_predictions(folder: RunFolder, plan: Plan) -> dict[str, dict[str, Path]]:
    """Complete out-of-fold predictions of the folds that are trained.

    Returns:
        By configuration, in the plan's order, and by case: the stored prediction's path without suffix.
        Configurations without any are left out, and those that only find centres for another.
    """
    found: dict[str, dict[str, Path]] = {}
    for configuration in plan.configurations:
        if configuration.target == "centroids":
            continue
        for fold in folder.trained_folds(configuration.name):
            # The mask is written after the logits, so its presence says that the prediction is complete.
            for mask in sorted(folder.validation(configuration.name, fold).glob("[!.]*.nii.gz")):
                name = mask.name.removesuffix(".nii.gz")
                found.setdefault(configuration.name, {})[name] = mask.with_name(name)
    return found


def seconds_per_case(folder: RunFolder, plan: Plan, configuration: str) -> float | None:
    """Seconds that all trained folds of a configuration take for one case, from the times of validation.

    Those of the stages before it count as well. Every fold's ``validation/seconds.json`` holds the seconds
    its one network took, by case.

    Returns:
        None when a fold's times were not recorded.
    """
    previous = plan.configuration(configuration).previous_stage
    total = seconds_per_case(folder, plan, previous) if previous else 0.0
    if total is None:
        return None
    for fold in folder.trained_folds(configuration):
        path = folder.validation(configuration, fold) / "seconds.json"
        times = documents.load(path, dict[str, float]) if path.is_file() else {}
        if not times:
            return None
        total += sum(times.values()) / len(times)
    return total


def score_case(task: CandidateTask) -> CaseCounts:
    """Merge, export, name and score one case; done before from the same inputs, it is read from the cache.

    Raises:
        GeometryError: A prediction does not lie on the reference's grid.
        ImageError: A file is unreadable.
        StorageError: The disk refuses.
    """
    inputs = _inputs(task)
    known = _known(task.cache)
    if known is not None and known.inputs == inputs:
        return known
    assert task.case.label is not None
    reference = read_labels(task.case.label)
    members = {name: Prediction.load(path) for name, path in task.predictions.items()}
    for name, member in members.items():
        if not member.trace.grid.matches(reference.grid):
            raise GeometryError(
                f"The prediction {task.predictions[name]} does not lie on this reference's grid.",
                where=task.case.label,
                remedy="The data set was changed after the training: train again or restore its files.",
            )
    centres = _reference_centres(task, reference)
    masks, witnesses = _argmax_masks(task, members), _witnesses(task, members)
    anchor = _first_anchor(task.plan, centres, reference)
    scored = tuple(
        _scored(task, _named(task, contender, members, witnesses, masks, anchor), reference, centres)
        for contender in task.contenders
    )
    result = CaseCounts(inputs, scored)
    documents.save(task.cache, result)
    return result


def _argmax_masks(
    task: CandidateTask, members: Mapping[str, Prediction]
) -> Mapping[Combination, NDArray[Any]]:
    """Masks of the combinations decided voxel by voxel; each member is resampled once for all of them."""
    chosen = [contender.members for contender in task.contenders if contender.decoding == "argmax"]
    if not chosen:
        return {}
    weights = [dict.fromkeys(names, 1.0) for names in chosen]
    return dict(zip(chosen, export_combinations(members, weights, task.plan.classes), strict=True))


def _witnesses(task: CandidateTask, members: Mapping[str, Prediction]) -> dict[str, Witness]:
    """The members of contenders that name columns, heard once for all of them."""
    names = {name for c in task.contenders if c.decoding == "sequence" for name in c.members}
    return {name: Witness.of(members[name], task.plan) for name in names}


def _named(
    task: CandidateTask,
    contender: Contender,
    members: Mapping[str, Prediction],
    witnesses: Mapping[str, Witness],
    masks: Mapping[Combination, NDArray[Any]],
    anchor: Anchor | None,
) -> tuple[NDArray[Any], Mapping[int, Triple]]:
    """A contender's mask and the centres of its vertebrae by label value."""
    equal = [1.0] * len(contender.members)
    if contender.decoding == "argmax":
        mask, grid = masks[contender.members], members[contender.members[0]].trace.grid
        return mask, {v.label: v.centre for v in found_in_mask(mask, grid, task.plan)}
    if contender.decoding == "sequence":
        decoded = name_together([witnesses[name] for name in contender.members], equal, task.plan)
    else:
        decoded = _clustered([members[name] for name in contender.members], equal, task.plan, anchor)
    return decoded.labels, {v.label: v.centre for v in decoded.column.vertebrae}


def _clustered(
    members: Sequence[Prediction], weights: Sequence[float], plan: Plan, anchor: Anchor | None
) -> Decoded:
    """Named from the reference's first whole vertebra, as its user would; empty where no names fit."""
    if not plan.labels.vertebrae:  # nothing but the mask as a whole can be compared
        return decode_argmax(members, weights, plan)
    grid = members[0].trace.grid
    nothing = Decoded(np.zeros(grid.shape, dtype=np.uint8), ColumnReport("clusters", (), named=False))
    if anchor is None:
        return nothing
    try:
        return decode_clusters(members, weights, plan, anchor)
    except (DataError, UsageError):  # too many were found for the column
        return nothing


def _first_anchor(plan: Plan, centres: Mapping[int, Triple], reference: Volume) -> Anchor | None:
    """The reference's first vertebra whose body the border does not cut."""
    levels = {plan.labels.vertebrae[value]: value for value in centres}
    for level in sorted(levels, key=anatomy.rank_of):
        if _has_whole_body(reference, levels[level], centres[levels[level]]):
            return Anchor(level)
    return None


def _has_whole_body(reference: Volume, value: int, centre: Triple) -> bool:
    """Whether what a vertebra has around the centre of its body keeps clear of upper and lower border."""
    orientation = Orientation.to_canonical(reference.grid)
    canonical = reference.reoriented(orientation)
    places = np.argwhere(canonical.array[0] == value)
    middle = np.asarray(canonical.grid.to_index(centre))
    away = (places - middle)[:, 1:] * canonical.grid.spacing[1:]
    heights = places[np.hypot(*away.T) < _BODY, 0]
    clear = max(1, math.ceil(_CLEAR / canonical.grid.spacing[0]))
    top = canonical.grid.shape[0] - 1
    return bool(len(heights)) and bool(heights.min() >= clear and heights.max() <= top - clear)


def _scored(
    task: CandidateTask,
    named: tuple[NDArray[Any], Mapping[int, Triple]],
    reference: Volume,
    centres: Mapping[int, Triple],
) -> Scored:
    mask, found = named
    labels, ignore = task.plan.labels.foreground, task.plan.labels.ignore
    masks = variants(mask, labels) if task.post_processed else (mask,)
    counts = tuple(overlaps(variant, reference.array[0], labels, ignore) for variant in masks)
    names = task.plan.labels.vertebrae
    true = {names[value]: centre for value, centre in centres.items()}
    called = {names[value]: centre for value, centre in found.items()}
    return Scored(counts, len(strict_hits(true, called)), len(true), len(called.keys() - true.keys()))


def _reference_centres(task: CandidateTask, reference: Volume) -> dict[int, Triple]:
    """Bodies' centres by label value, of the vertebrae in the reference mask: given, or found in the mask."""
    counts = overlaps(reference.array[0], reference.array[0], tuple(task.plan.labels.vertebrae))
    given = {value: centre for value, centre in task.case.centroids.items() if value in counts}
    missing = [value for value in counts if value not in given]
    return {**given, **body_centres(reference.array[0], reference.grid, missing)}


def _inputs(task: CandidateTask) -> str:
    assert task.case.label is not None
    members = {name: [_state(p) for p in stored_files(path)] for name, path in task.predictions.items()}
    plan = task.plan.classes, task.plan.labels, task.plan.column, task.plan.partial
    choice = task.contenders, task.post_processed, __version__
    return documents.content_hash(members, _state(task.case.label), task.case.centroids, plan, choice)


def _state(path: Path) -> int:
    """Its size: cheap, and compressed files that differ hardly ever have the same."""
    return path.stat().st_size


def _known(cache: Path) -> CaseCounts | None:
    try:
        return documents.load(cache, CaseCounts) if cache.is_file() else None
    except DocumentError:
        return None  # damaged: counted anew
