"""Combinations of trained configurations, scored case by case on their out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from autospine import __version__
from autospine.core.dataset import LabelSchema
from autospine.core.errors import DocumentError, GeometryError
from autospine.core.plan import Plan
from autospine.core.run import RunFolder
from autospine.evaluation.overlap import Overlap, overlaps
from autospine.inference.export import export_combinations
from autospine.inference.prediction import Prediction
from autospine.io import documents
from autospine.io.images import read_labels
from autospine.postprocessing import variants

#: Names of the configurations that predict together, in the plan's order.
Combination = tuple[str, ...]


@dataclass(frozen=True)
class CandidateTask:
    """One case to score.

    Args:
        reference: Its reference mask.
        predictions: Where each configuration's out-of-fold prediction stands, without suffix.
        combinations: What to merge, with equal weights, and score.
        classes: Label value of each output channel.
        labels: What the values mean.
        cache: Document that keeps the result.
        post_processed: Whether every post-processing variant of a combination is scored, not its mask alone.
    """

    reference: Path
    predictions: Mapping[str, Path]
    combinations: tuple[Combination, ...]
    classes: tuple[int, ...]
    labels: LabelSchema
    cache: Path
    post_processed: bool = False


@dataclass(frozen=True)
class CaseCounts:
    """What was counted in one case.

    Args:
        inputs: Hash of everything it was counted from.
        counts: By combination and then by variant (one, the mask itself, unless post-processed): voxel
            counts by label.
    """

    inputs: str
    counts: tuple[tuple[dict[int, Overlap], ...], ...]


def all_combinations(names: Sequence[str], largest: int | None = None) -> tuple[Combination, ...]:
    """Every non-empty combination of at most ``largest`` names, the simplest first."""
    sizes = range(1, min(largest or len(names), len(names)) + 1)
    return tuple(chosen for size in sizes for chosen in combinations(names, size))


def find_predictions(folder: RunFolder, plan: Plan) -> dict[str, dict[str, Path]]:
    """Complete out-of-fold predictions of the folds that are trained.

    Returns:
        By configuration, in the plan's order, and by case: the stored prediction's path without suffix.
        Configurations without any are left out.
    """
    found: dict[str, dict[str, Path]] = {}
    for configuration in plan.configurations:
        for fold in folder.trained_folds(configuration.name):
            # The mask is written after the logits, so its presence says that the prediction is complete.
            for mask in sorted(folder.validation(configuration.name, fold).glob("[!.]*.nii.gz")):
                name = mask.name.removesuffix(".nii.gz")
                found.setdefault(configuration.name, {})[name] = mask.with_name(name)
    return found


def seconds_per_case(folder: RunFolder, configuration: str) -> float | None:
    """Seconds that all trained folds of a configuration take for one case, from the times of validation.

    Every fold's ``validation/seconds.json`` holds the seconds its one network took, by case.

    Returns:
        None when a fold's times were not recorded.
    """
    total = 0.0
    for fold in folder.trained_folds(configuration):
        path = folder.validation(configuration, fold) / "seconds.json"
        times = documents.load(path, dict[str, float]) if path.is_file() else {}
        if not times:
            return None
        total += sum(times.values()) / len(times)
    return total


def score_case(task: CandidateTask) -> CaseCounts:
    """Merge, export and score one case; done before from the same inputs, it is read from the cache.

    Raises:
        GeometryError: A prediction does not lie on the reference's grid.
        ImageError: A file is unreadable.
        StorageError: The disk refuses.
    """
    inputs = _inputs(task)
    known = _known(task.cache)
    if known is not None and known.inputs == inputs:
        return known
    reference = read_labels(task.reference)
    members = {name: Prediction.load(path) for name, path in task.predictions.items()}
    for name, member in members.items():
        if not member.trace.grid.matches(reference.grid):
            raise GeometryError(
                f"The prediction {task.predictions[name]} does not lie on this reference's grid.",
                where=task.reference,
                remedy="The data set was changed after the training: train again or restore its files.",
            )
    weights = [dict.fromkeys(chosen, 1.0) for chosen in task.combinations]
    masks = export_combinations(members, weights, task.classes)
    result = CaseCounts(inputs, tuple(_counts(task, mask, reference.array[0]) for mask in masks))
    documents.save(task.cache, result)
    return result


def _counts(
    task: CandidateTask, mask: NDArray[Any], reference: NDArray[Any]
) -> tuple[dict[int, Overlap], ...]:
    labels, ignore = task.labels.foreground, task.labels.ignore
    masks = variants(mask, labels) if task.post_processed else (mask,)
    return tuple(overlaps(variant, reference, labels, ignore) for variant in masks)


def _inputs(task: CandidateTask) -> str:
    members = {
        name: [_state(path.with_name(path.name + suffix)) for suffix in (".b2nd", ".json")]
        for name, path in task.predictions.items()
    }
    choice = (task.combinations, task.classes, task.post_processed, __version__)
    return documents.content_hash(members, _state(task.reference), choice, task.labels)


def _state(path: Path) -> int:
    """Its size: cheap, and compressed files that differ hardly ever have the same."""
    return path.stat().st_size


def _known(cache: Path) -> CaseCounts | None:
    try:
        return documents.load(cache, CaseCounts) if cache.is_file() else None
    except DocumentError:
        return None  # damaged: counted anew
