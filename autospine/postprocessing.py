"""Post-processing: keeping only the largest connected component, where cross-validation says it helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from acvl_utils.morphology.morphology_helper import cc3d_label_with_component_sizes
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from autospine.core.ensemble import PostProcessing
from autospine.core.geometry import Box
from autospine.evaluation.overlap import Overlap

Counts = Mapping[int, Overlap]

_NEIGHBOURS: Final = 26


def apply(labels: NDArray[Any], post_processing: PostProcessing) -> NDArray[Any]:
    """Turn all but the largest components into background; voxels sharing a face, edge or corner connect.

    Components of equal size are all kept.

    Args:
        labels: Label map (z, y, x); not changed.
        post_processing: What to keep.

    Returns:
        A new label map.
    """
    result = labels.copy()
    box = Box.around(result) if post_processing.foreground else None
    if box is not None:
        _clear_smaller(result[box.slices], result[box.slices] != 0)
    boxes = find_objects(result) if post_processing.labels else []
    for value in post_processing.labels:
        if value <= len(boxes) and boxes[value - 1] is not None:
            part = result[boxes[value - 1]]
            _clear_smaller(part, part == value)
    return result


def variants(
    labels: NDArray[Any], values: Sequence[int]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What ``choose`` compares: a label map as it is and under three post-processings.

    Removing parts of one label leaves the others alone, so filtering all labels at once tells what
    filtering any one of them would do.

    Args:
        labels: Label map (z, y, x).
        values: The foreground labels.

    Returns:
        The map itself; the largest component of all labels as one; the largest of every label; the
        latter after the former.
    """
    every = PostProcessing(labels=tuple(values))
    whole = apply(labels, PostProcessing(foreground=True))
    return labels, whole, apply(labels, every), apply(whole, every)


def choose(cases: Sequence[Sequence[Counts]]) -> tuple[PostProcessing, list[Counts]]:
    """The rule of nnU-Net v2: accept what helps on out-of-fold predictions.

    1. The largest component of all labels as one is kept if the mean over the labels of their Dice
       rises and no label's Dice falls.
    2. On that result, the largest component of a single label is kept if that label's Dice rises.

    A label's Dice here is its mean over the cases where either mask shows it, so that false positives
    count; a label that occurs nowhere takes no part.

    Args:
        cases: For every out-of-fold case the voxel counts by label of its four ``variants``.

    Returns:
        The rule's choice, and each case's counts under it.
    """
    plain, whole = _dice([case[0] for case in cases]), _dice([case[1] for case in cases])
    foreground = _mean(whole) > _mean(plain) and all(whole.get(k, v) >= v for k, v in plain.items())
    before = [case[1 if foreground else 0] for case in cases]
    after = [case[3 if foreground else 2] for case in cases]
    old, new = _dice(before), _dice(after)
    labels = tuple(label for label in old if new.get(label, 0.0) > old[label])
    counts = [_mixed(kept, filtered, labels) for kept, filtered in zip(before, after, strict=True)]
    return PostProcessing(foreground, labels), counts


def _mixed(kept: Counts, filtered: Counts, labels: Sequence[int]) -> Counts:
    """The filtered counts of ``labels`` and the others' own; a label may vanish where voxels are ignored."""
    others = {label: overlap for label, overlap in kept.items() if label not in labels}
    return others | {label: overlap for label, overlap in filtered.items() if label in labels}


def _dice(cases: Sequence[Counts]) -> dict[int, float]:
    labels = sorted({label for case in cases for label in case})
    return {label: float(np.mean([case[label].dice for case in cases if label in case])) for label in labels}


def _mean(values: Mapping[int, float]) -> float:
    return float(np.mean(list(values.values()))) if values else 0.0


def _clear_smaller(labels: NDArray[Any], mask: NDArray[np.bool_]) -> None:
    components, sizes = cc3d_label_with_component_sizes(np.ascontiguousarray(mask), _NEIGHBOURS)
    largest = max(sizes.values(), default=0)
    kept = [component for component, size in sizes.items() if size == largest]
    labels[mask & ~np.isin(components, kept)] = 0
