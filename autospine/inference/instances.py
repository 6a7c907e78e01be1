"""Vertebrae that were outlined one by one, put together into one prediction.

The prediction is like that of a network which has learnt where bodies have their centres, so that columns are
named from it in the same way, and ensembles may mix the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import Box, FloatArray, Grid, Triple
from autospine.core.plan import CENTRE_CHANNELS, Plan
from autospine.core.trace import Trace
from autospine.inference.prediction import Prediction
from autospine.io.scratch import IN_MEMORY, Scratch
from autospine.targets import heat_sigma
from autospine.vertebrae.centroids import body_centres

#: Log-odds beyond which nothing becomes more certain, and those of what is out of the question.
_SURE: Final = 15.0
_NEVER: Final = -20.0
#: No name is less probable; its logarithm must be finite.
_FLOOR: Final = 1e-5
#: The heat as a logit lies within that of this value and its complement.
_COLDEST: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Instance:
    """A vertebra outlined by itself.

    Args:
        box: Where it was looked for, within the stored grid.
        odds: Log-odds of belonging to it, float32 of the box's shape.
        names: Probability of each output channel of the plan, that of background 0, (classes,).
        centre: Of its body, in voxels of the stored grid.
    """

    box: Box
    odds: NDArray[np.float32]
    names: FloatArray
    centre: Triple


def merge_instances(
    instances: Iterable[Instance], trace: Trace, plan: Plan, scratch: Scratch = IN_MEMORY
) -> Prediction:
    """One prediction of all vertebrae: each voxel belongs to the one that claims it with the highest odds.

    Of every instance only the part nearest to its centre counts. With the odds as ``log(p / (1 - p))``, the
    logits are 0 for background and the odds plus ``log(names)`` for the others: their softmax is 1 - p and
    p * names.

    Args:
        instances: Taken one by one, so that they need not be in memory together.
        trace: From the scan to the stored grid.
        plan: Whose channels are meant.
        scratch: Where the prediction goes.

    Returns:
        Logits and centre channels in half precision. Beside them the merging needs one map in single
        precision.
    """
    logits = scratch.empty((len(plan.classes), *trace.shape), np.float16)
    logits[0], logits[1:] = 0, _NEVER
    centres = scratch.empty((CENTRE_CHANNELS, *trace.shape), np.float16)
    centres[1:] = 0
    centres[0] = _logit(np.zeros(1))[0]
    highest = np.full(trace.shape, _NEVER, dtype=np.float32)
    spacing = trace.stored_grid.spacing
    for instance in instances:
        odds = _cleaned(instance, spacing)
        if odds is None:
            continue
        view = (slice(None), *instance.box.slices)
        wins = odds > highest[instance.box.slices]
        won = odds[wins]
        highest[instance.box.slices][wins] = won
        for channel, name in enumerate(np.log(np.maximum(instance.names[1:], _FLOOR)), start=1):
            logits[view][channel][wins] = won + name
        _point_to_centre(centres[view][1:], wins, instance, spacing)
        _warm(centres[0], instance.centre, spacing)
    return Prediction(logits, trace, centres, scratch)


def nearest_part(mask: NDArray[np.bool_], point: FloatArray, spacing: Triple) -> NDArray[np.bool_]:
    """The connected component of a mask that comes nearest to a point.

    Args:
        mask: Shape (a, b, c).
        point: In voxels of the mask; may lie outside.
        spacing: mm along the mask's axes.
    """
    parts, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    if count < 2:
        return mask
    voxels = np.argwhere(mask)
    distances = (((voxels - point) * np.asarray(spacing)) ** 2).sum(axis=1)
    return np.asarray(parts == parts[tuple(voxels[int(distances.argmin())])])


def body_centre(mask: NDArray[np.bool_], box: Box, grid: Grid) -> Triple:
    """Where the body of an outlined vertebra has its centre.

    Args:
        mask: The vertebra, of the box's shape; not empty.
        box: Where it lies on the grid.
        grid: The stored grid.

    Returns:
        In voxels of the grid.
    """
    world = body_centres(mask.astype(np.uint8), grid.cropped(box))[1]
    a, b, c = (float(v) for v in grid.to_index(world))
    return a, b, c


def _cleaned(instance: Instance, spacing: Triple) -> NDArray[np.float32] | None:
    """Odds of the part nearest to the centre, within their limits; None where nothing is likely."""
    likely = instance.odds > 0
    if not likely.any():
        return None
    own = nearest_part(likely, np.asarray(instance.centre) - instance.box.start, spacing)
    odds = np.clip(instance.odds, -_SURE, _SURE)
    odds[likely & ~own] = _NEVER
    return odds


def _point_to_centre(
    vectors: NDArray[np.float16], where: NDArray[np.bool_], instance: Instance, spacing: Triple
) -> None:
    """Let some voxels of a box (3, *box.shape) point to the instance's centre, in mm."""
    for axis, index in enumerate(np.nonzero(where)):
        place = index + instance.box.start[axis]
        vectors[axis][where] = (instance.centre[axis] - place) * spacing[axis]


def _warm(heat: NDArray[np.float16], centre: Triple, spacing: Triple) -> None:
    """Add the heat of one centre to a map of logits."""
    sigma = heat_sigma(spacing)
    reach = sigma * np.sqrt(-2 * np.log(_COLDEST))
    parts, profiles = [], []
    for c, s, n in zip(centre, spacing, heat.shape, strict=True):
        low, high = (int(np.clip(np.rint(c + side * reach / s), 0, n)) for side in (-1, 1))
        parts.append(slice(low, high + 1))
        profiles.append(np.exp(-(((np.arange(n)[parts[-1]] - c) * s) ** 2) / (2 * sigma**2)))
    here = heat[tuple(parts)]
    gaussian = profiles[0][:, None, None] * profiles[1][:, None] * profiles[2]
    np.maximum(here, _logit(gaussian).astype(np.float16), out=here)


def _logit(values: NDArray[Any]) -> FloatArray:
    p = np.clip(values, _COLDEST, 1 - _COLDEST)
    return np.asarray(np.log(p / (1 - p)))
