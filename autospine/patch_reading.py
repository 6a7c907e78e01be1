"""Patches of stored cases: what is asked for, where a patch lies, and what is read there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import FloatArray
from autospine.core.plan import View
from autospine.preprocessed import PreprocessedCase

Sample = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class PatchRequest:
    """What a batch looks like.

    Args:
        patch: Voxels along the network's axes that remain after augmentation.
        batch_size: Patches a batch.
        foreground_share: Share of a batch centred on a labelled voxel; of windows only.
        padding: Value outside the scan, per channel.
        centres: Number of classes whose bodies' centres a batch holds; 0 for none.
        view: Windows anywhere, regions around single vertebrae, or steps of a walk along the column.
        context: Slices on either side that a 2D patch's image holds as well.
        jitter: Voxels along each axis by which a region may miss its vertebra's centre.
        order: The channels of vertebrae from head to foot; for a walk.
        least: Voxels of the patch that a vertebra must have for a walk to stop at it.
    """

    patch: tuple[int, ...]
    batch_size: int
    foreground_share: float
    padding: tuple[float, ...]
    centres: int = 0
    view: View = "windows"
    context: int = 0
    jitter: tuple[float, ...] = (0.0, 0.0, 0.0)
    order: tuple[int, ...] = ()
    least: int = 20

    def is_foreground(self, sample: int) -> bool:
        """Whether a batch's sample is centred on foreground: the last ones are (nnU-Net's rule)."""
        return sample >= round(self.batch_size * (1 - self.foreground_share))


def read_sample(
    case: PreprocessedCase,
    previous: Any | None,
    start: Sequence[int],
    request: PatchRequest,
    margins: Sequence[int],
) -> Sample:
    """What all views read: ``image``, ``labels``, and where there are such, ``centres`` and ``previous``.

    Args:
        case: The case.
        previous: Stored class map of a previous stage, if there is one.
        start: First voxel of the patch along the three stored axes.
        request: Size of the patch and what lies outside.
        margins: Voxels that are read beyond the patch on either side of the network's axes.
    """
    slices = len(start) - len(margins)
    corner = (*start[:slices], *(a - margin for a, margin in zip(start[slices:], margins, strict=True)))
    size = tuple(n + 2 * margin for n, margin in zip(request.patch, margins, strict=True))
    sample = {
        "image": read_patch(case.image, corner, size, request.padding, request.context),
        "labels": read_patch(case.labels, corner, size, 0),
    }
    if request.centres:
        sample["centres"] = centre_offsets(case, start, request)
    if previous is not None:
        sample["previous"] = read_patch(previous, corner, size, 0)
    return sample


def patch_start(
    shape: Sequence[int],
    request: PatchRequest,
    centre: Sequence[int] | NDArray[Any] | None,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """First voxel of a patch in a case of ``shape``, along all three stored axes.

    A patch reaches over the border only as far as it must because the case is smaller. Without a
    ``centre`` it is drawn uniformly.

    Returns:
        Three indices; for a 2D patch the first is the slice.
    """
    thickness = (1,) * (len(shape) - len(request.patch))
    start = []
    for axis, n in enumerate(shape):
        size = (*thickness, *request.patch)[axis]
        slack = max(0, size - n)
        low = -(slack // 2)
        high = max(low, n - size + slack - slack // 2)
        wanted = int(rng.integers(low, high + 1)) if centre is None else int(centre[axis]) - size // 2
        start.append(min(max(wanted, low), high))
    return tuple(start)


def centred_start(centre: Sequence[float] | FloatArray, patch: Sequence[int]) -> tuple[int, int, int]:
    """First voxel of the 3D patch whose middle lies nearest to ``centre``, wherever that may be."""
    a, b, c = np.rint(np.asarray(centre) - patch_middle((0, 0, 0), patch)).astype(int).tolist()
    return a, b, c


def patch_middle(start: Sequence[int], patch: Sequence[int]) -> FloatArray:
    """Voxel coordinates (3,) of the middle of a patch; a 2D one is a slice thick."""
    size = (1,) * (len(start) - len(patch)) + tuple(patch)
    return np.asarray(np.asarray(start) + (np.asarray(size) - 1) / 2)


def read_patch(
    array: Any,
    start: Sequence[int],
    patch: Sequence[int],
    padding: float | Sequence[float],
    context: int = 0,
) -> NDArray[Any]:
    """Read a patch of an array, stored or not, padded where it reaches over the border.

    Args:
        array: Array of shape (z, y, x) or (c, z, y, x).
        start: First voxel along the three stored axes; may be negative.
        patch: Two or three edge lengths; with two, one slice is read and its axis dropped.
        padding: Value outside; one per channel for an array with channels.
        context: Slices on either side of a 2D patch of an array with channels that are read as well.

    Returns:
        Shape (*patch) or (c, *patch); with ``context`` (c * (2 * context + 1), *patch), the slices in their
        order and all channels of a slice together.
    """
    thickness = (1,) * (len(start) - len(patch))
    box = [(a, a + n) for a, n in zip(start, (*thickness, *patch), strict=True)]
    values = list(padding) if isinstance(padding, Sequence) else [padding]
    if array.ndim == len(start):
        result = np.empty((*thickness, *patch), dtype=array.dtype)
        _read(array, box, values[0], result)
        return result[0] if thickness else result
    if thickness:
        box[0] = (box[0][0] - context, box[0][1] + context)
    result = np.empty([len(values), *(stop - start for start, stop in box)], dtype=array.dtype)
    for channel, value in enumerate(values):
        _read(array, [(channel, channel + 1), *box], value, result[channel : channel + 1])
    return np.moveaxis(result, 1, 0).reshape(-1, *patch) if thickness else result


def centre_offsets(
    case: PreprocessedCase, start: Sequence[int], request: PatchRequest
) -> NDArray[np.float32]:
    """Where the bodies' centres lie, in voxels from the middle of a patch.

    Args:
        case: Gives the centres.
        start: First voxel of the patch.
        request: Size of the patch and number of classes.

    Returns:
        Along the three stored axes, of a 2D patch too, shape (classes, 3); NaN for classes without a known
        centre.
    """
    middle = patch_middle(start, request.patch)
    offsets = np.full((request.centres, 3), np.nan, dtype=np.float32)
    for channel, centre in case.centres.items():
        offsets[channel] = centre - middle
    return offsets


def _read(array: Any, box: Sequence[tuple[int, int]], padding: float, target: NDArray[Any]) -> None:
    """Put a box of an array into ``target``, and the padding where the box lies outside of the array."""
    inside = [(max(a, 0), min(b, n)) for (a, b), n in zip(box, array.shape, strict=True)]
    if inside != list(box):
        target.fill(padding)
    if all(a < b for a, b in inside):
        place = tuple(slice(a - first, b - first) for (a, b), (first, _) in zip(inside, box, strict=True))
        target[place] = array[tuple(slice(a, b) for a, b in inside)]
