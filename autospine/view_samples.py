"""One training sample of each view: a window, the region around a vertebra, or a step of a walk.

What a network is asked at prediction is what it is shown here: a region whose middle misses the vertebra by a
few millimetres, as that of a vertebra found by another network will; and patches in which some vertebrae have
been dealt with, the next one is wanted, and sometimes there is none left (Lessmann et al., "Iterative fully
convolutional neural networks for automatic vertebra segmentation and identification", MedIA 53, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import UsageError
from autospine.core.geometry import FloatArray
from autospine.patch_reading import (
    PatchRequest,
    Sample,
    centred_start,
    patch_middle,
    patch_start,
    read_sample,
)
from autospine.preprocessed import PreprocessedCase

#: Share of a walk's samples that lie around a vertebra, by up to this share of the patch off its centre.
_AROUND: Final = 0.8
_DISPLACED: Final = 0.25
#: Share of a walk's samples in which all vertebrae have been dealt with.
_DONE: Final = 0.1


def draw_sample(
    case: PreprocessedCase,
    previous: Any | None,
    request: PatchRequest,
    foreground: bool,
    margins: Sequence[int],
    rng: np.random.Generator,
) -> Sample:
    """A sample of the view that is asked for.

    Args:
        case: Where it is cut out of.
        previous: Stored class map of a previous stage, if there is one.
        request: What it looks like.
        foreground: Whether a window is to be centred on a labelled voxel.
        margins: Voxels beyond the patch, on either side of each of its axes, that augmentation needs.
        rng: What is random comes from it.

    Returns:
        Arrays by name, see ``sampling.PatchLoader``; without the batch's axis.

    Raises:
        UsageError: A walk with a previous stage's class map.
    """
    if request.view == "vertebrae":
        return _vertebra(case, previous, request, margins, rng)
    if request.view == "walk":
        if previous is not None:
            raise UsageError(
                "A walk's extra channel is its memory; a previous stage's classes cannot enter as well.",
                remedy="Set the configuration's feed to none.",
            )
        return _step(case, request, margins, rng)
    centre = _labelled_voxel(case, rng) if foreground else None
    start = patch_start(case.labels.shape, request, centre, rng)
    return read_sample(case, previous, start, request, margins)


def _vertebra(
    case: PreprocessedCase,
    previous: Any | None,
    request: PatchRequest,
    margins: Sequence[int],
    rng: np.random.Generator,
) -> Sample:
    """A region around one vertebra, which alone is labelled; somewhere and empty where there is none."""
    present = [channel for channel in sorted(case.centres) if _occurs(case, channel)]
    if present:
        chosen = present[int(rng.integers(len(present)))]
        centre = np.asarray(case.centres[chosen]) + rng.uniform(-1, 1, 3) * np.asarray(request.jitter)
        start: tuple[int, ...] = centred_start(centre, request.patch)
        point = centre - patch_middle(start, request.patch)
    else:
        chosen, point = None, np.zeros(3)
        start = patch_start(case.labels.shape, request, None, rng)
    sample = read_sample(case, previous, start, request, margins)
    sample["labels"] = _only(sample["labels"], chosen, 1)
    return sample | {"point": point[None].astype(np.float32)}


def _step(
    case: PreprocessedCase, request: PatchRequest, margins: Sequence[int], rng: np.random.Generator
) -> Sample:
    """A patch with the vertebrae above a random one in memory, and the first of the others to be found."""
    column = [channel for channel in request.order if _occurs(case, channel)]
    current = int(rng.integers(len(column))) if column else 0
    known = column if rng.random() < _DONE else column[:current]
    if rng.random() < _AROUND and column:
        reach = _DISPLACED * np.asarray(request.patch)
        start: tuple[int, ...] = centred_start(
            _middle(case, column[current]) + rng.uniform(-reach, reach), request.patch
        )
    else:
        start = patch_start(case.labels.shape, request, None, rng)
    sample = read_sample(case, None, start, request, margins)
    labels = sample["labels"]
    wanted = _first(labels, margins, column[len(known) :], request.least)
    return sample | {
        "labels": _only(labels, wanted, wanted or 0),
        "previous": np.isin(labels, known).astype(np.int8),
        "whole": np.array(_whole(case, wanted), dtype=np.float32),
    }


def _first(
    labels: NDArray[np.int8], margins: Sequence[int], channels: Sequence[int], least: int
) -> int | None:
    """The first of the channels with enough voxels within the margins."""
    middle = labels[tuple(slice(a, n - a) for a, n in zip(margins, labels.shape, strict=True))]
    counts = np.bincount(np.maximum(middle, 0).ravel(), minlength=max(channels, default=0) + 1)
    return next((channel for channel in channels if counts[channel] >= least), None)


def _whole(case: PreprocessedCase, channel: int | None) -> float:
    """1 if a vertebra is in view as a whole, 0 if the upper or lower border cuts it, NaN for none.

    Judged by the voxels that are known of it: of a large vertebra a sample, which may miss a mere touch.
    """
    if channel is None:
        return np.nan
    axis = case.trace.axes.index(0)
    along = case.locations[channel][:, axis]
    return float(along.min() > 0 and along.max() < case.trace.shape[axis] - 1)


def _only(labels: NDArray[np.int8], channel: int | None, value: int) -> NDArray[np.int8]:
    """Labels in which one vertebra has ``value`` and all others are background; ignored voxels stay so."""
    result = np.minimum(labels, 0)
    if channel is not None:
        result[labels == channel] = value
    return result


def _occurs(case: PreprocessedCase, channel: int) -> bool:
    return len(case.locations.get(channel, ())) > 0


def _middle(case: PreprocessedCase, channel: int) -> FloatArray:
    """Centre of a vertebra's body in voxels, or where that is not known, of its voxels."""
    known = case.centres.get(channel)
    return np.asarray(case.locations[channel].mean(axis=0) if known is None else known)


def _labelled_voxel(case: PreprocessedCase, rng: np.random.Generator) -> NDArray[Any] | None:
    """A voxel of a class drawn uniformly among those of the case; None without any."""
    present = sorted(label for label, voxels in case.locations.items() if len(voxels))
    if not present:
        return None
    voxels = case.locations[present[int(rng.integers(len(present)))]]
    voxel: NDArray[Any] = voxels[int(rng.integers(len(voxels)))]
    return voxel
