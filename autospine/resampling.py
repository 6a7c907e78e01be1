"""Changing the number of voxels: images by cubic splines, masks by linear interpolation per label.

Everywhere the outer *edges* of the first and last voxel stay where they are (half-pixel centres), as in
``skimage.transform.resize``, ``scipy.ndimage.zoom(grid_mode=True)`` and
``torch.nn.functional.interpolate(align_corners=False)``, and the border voxel goes on outwards.
Nothing is smoothed before it is made coarser: that is nnU-Net's rule.

Spline interpolation on a grid is separable and linear, so an axis is resampled by multiplication with
one small matrix. Its rows have few entries that matter, hence it is applied block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from autospine.core.geometry import Box
from autospine.core.trace import Trace

FloatMatrix = NDArray[np.float32]
_Int = TypeVar("_Int", bound=np.integer[Any])

_BLOCK_ROWS: Final = 32
#: Spline weights below this are lost in float32 anyway; the cubic prefilter's tail is cut here.
_NEGLIGIBLE: Final = 1e-8


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy multiply on one thread, so that results do not depend on the number of cores."""
    with threadpool_limits(1, user_api="blas"):
        yield


def separate_axis(spacing: Sequence[float], target: Sequence[float], ratio: float | None) -> int | None:
    """The axis so coarse that it is resampled alone, with order 0; None when there is none.

    nnU-Net's rule: the grid is anisotropic when its largest spacing is more than ``ratio`` times the
    smallest; the old grid is asked first, then the new one; two equally coarse axes do not count.

    Args:
        spacing: mm of the old grid.
        target: mm of the new grid.
        ratio: nnU-Net takes 3; None never separates.
    """
    if ratio is None:
        return None
    for candidate in (spacing, target):
        if max(candidate) > ratio * min(candidate):
            coarse = [axis for axis, s in enumerate(candidate) if s == max(candidate)]
            return coarse[0] if len(coarse) == 1 else None
    return None


def resized_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels per axis after resampling, at least one: ``round(spacing / target * shape)``."""
    a, b, c = (max(1, round(s / t * n)) for n, s, t in zip(shape, spacing, target, strict=True))
    return a, b, c


def linear_matrix(positions: NDArray[np.float64], n_in: int) -> FloatMatrix:
    """Linear interpolation at given places.

    Args:
        positions: Input coordinates; 0 is the centre of the first voxel. Beyond the centres of the
            border voxels those go on.
        n_in: Voxels of the input.

    Returns:
        Weights of shape (len(positions), n_in), rows summing to 1.
    """
    clamped = np.clip(positions, 0, n_in - 1)
    lower = np.minimum(clamped.astype(np.int64), max(n_in - 2, 0))
    upper = np.minimum(lower + 1, n_in - 1)
    weight = (clamped - lower).astype(np.float32)
    matrix = np.zeros((len(positions), n_in), dtype=np.float32)
    rows = np.arange(len(positions))
    np.add.at(matrix, (rows, lower), 1 - weight)
    np.add.at(matrix, (rows, upper), weight)
    return matrix


def nearest_matrix(positions: NDArray[np.float64], n_in: int) -> FloatMatrix:
    """Like ``linear_matrix``, but each row takes the one nearest voxel (the upper of two equally near)."""
    nearest = np.clip(np.floor(positions + 0.5).astype(np.int64), 0, n_in - 1)
    return np.asarray(nearest[:, None] == np.arange(n_in), dtype=np.float32)


def resize_positions(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Input coordinates of the centres of ``n_out`` voxels that cover ``n_in`` voxels edge to edge."""
    return np.asarray((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5)


@lru_cache(maxsize=64)
def resize_matrix(n_in: int, n_out: int, order: int = 1) -> FloatMatrix:
    """Weights that take ``n_in`` voxels to ``n_out`` along one axis.

    Args:
        n_in: Voxels before.
        n_out: Voxels after.
        order: Of the spline: 0 nearest, 1 linear, 3 cubic. From 2 on the weights are read off
            ``scipy.ndimage.zoom`` with mode ``"nearest"``, whose border convention is skimage's "edge".

    Returns:
        Read-only array of shape (n_out, n_in), rows summing to 1.
    """
    positions = resize_positions(n_in, n_out)
    if n_in == n_out:
        matrix = np.eye(n_in, dtype=np.float32)
    elif order == 0:
        matrix = nearest_matrix(positions, n_in)
    elif order == 1 or n_in == 1:
        matrix = linear_matrix(positions, n_in)
    else:
        impulses = np.eye(n_in)
        columns = [
            ndimage.zoom(impulse, n_out / n_in, order=order, mode="nearest", grid_mode=True)
            for impulse in impulses
        ]
        matrix = np.stack(columns, axis=1).astype(np.float32)
    matrix.setflags(write=False)  # it is shared by everyone who asks for it
    return matrix


def apply_matrix(matrix: FloatMatrix, array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Multiply one axis of an array by a matrix whose rows have few neighbouring entries that matter.

    Args:
        matrix: Weights of shape (n_out, n_in).
        array: float32 of any shape with ``n_in`` entries along ``axis``.
        axis: Counted from the front.

    Returns:
        float32 with ``n_out`` entries along ``axis``.
    """
    shape = array.shape
    before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
    source = array.reshape(before, shape[axis], after)
    result = np.empty((before, len(matrix), after), dtype=np.float32)
    for first in range(0, len(matrix), _BLOCK_ROWS):
        rows = matrix[first : first + _BLOCK_ROWS]
        used = np.flatnonzero((np.abs(rows) > _NEGLIGIBLE).any(axis=0))
        lo, hi = int(used[0]), int(used[-1]) + 1
        weights, into = rows[:, lo:hi], result[:, first : first + len(rows)]
        if after == 1:
            np.matmul(source[:, lo:hi, 0], weights.T, out=into[..., 0])
        else:
            np.matmul(weights, source[:, lo:hi], out=into)
    return result.reshape(*shape[:axis], len(matrix), *shape[axis + 1 :])


def resample_image(
    array: Iterable[NDArray[Any]], shape: Sequence[int], order: int = 3, separate: int | None = None
) -> NDArray[np.float32]:
    """Resample intensities by splines; each channel stays within its old range.

    Equals ``skimage.transform.resize(channel, shape, order, mode="edge", anti_aliasing=False)`` up to
    float32; with ``separate``, that on every slice and then order 0 across them.

    Args:
        array: Shape (c, z, y, x), any numeric type; or its channels one by one.
        shape: Target voxels along z, y, x.
        order: Of the splines.
        separate: Axis (0, 1 or 2) that is resampled alone with order 0.

    Returns:
        Shape (c, *shape).
    """
    channels = [
        _resample_channel(np.asarray(channel, dtype=np.float32), shape, order, separate) for channel in array
    ]
    return channels[0][None] if len(channels) == 1 else np.stack(channels)


def _resample_channel(
    channel: NDArray[np.float32], shape: Sequence[int], order: int, separate: int | None
) -> NDArray[np.float32]:
    current = channel
    # Splines overshoot at edges; without the clip a vertebra's rim would be denser than any bone.
    inside = tuple(axis for axis in range(3) if axis != separate)
    lowest, highest = channel.min(axis=inside, keepdims=True), channel.max(axis=inside, keepdims=True)
    for axis in _coarsest_first(channel.shape, shape, separate):
        current = apply_matrix(resize_matrix(channel.shape[axis], shape[axis], order), current, axis)
    if order > 1 and current.shape != channel.shape:
        np.clip(current, lowest, highest, out=current)
    if separate is not None and shape[separate] != channel.shape[separate]:
        nearest = resize_matrix(channel.shape[separate], shape[separate], 0).argmax(axis=1)
        current = current.take(nearest, axis=separate)
    return current


def resampling_values(trace: Trace) -> int:
    """Values that are alive at once, at most, while one channel of a scan is resampled."""
    shape = list(trace.cropped_grid.shape)
    whole = current = most = math.prod(shape)
    for axis in _coarsest_first(shape, trace.shape, trace.separate_axis):
        shape[axis] = trace.shape[axis]
        following = math.prod(shape)
        most = max(most, following + current + (whole if current != whole else 0))
        current = following
    return most


def _coarsest_first(shape: Sequence[int], target: Sequence[int], separate: int | None) -> list[int]:
    """The axes that splines resample, in the order that leaves least to do."""
    splined = [axis for axis in range(3) if axis != separate and target[axis] != shape[axis]]
    return sorted(splined, key=lambda axis: target[axis] / shape[axis])


def resample_labels(array: NDArray[_Int], shape: Sequence[int], separate: int | None = None) -> NDArray[_Int]:
    """Resample a mask: every label linearly, then the strongest one a voxel.

    The result is the same as with all labels as one-hot channels, but each label is only interpolated
    inside its own box. Where labels tie the higher one wins, so that thin foreground survives.

    Args:
        array: Integer labels, shape (z, y, x).
        shape: Target voxels along z, y, x.
        separate: Axis that is resampled with order 0.

    Returns:
        The array's type, shape ``shape``.
    """
    matrices = [
        resize_matrix(n_in, n_out, 0 if axis == separate else 1)
        for axis, (n_in, n_out) in enumerate(zip(array.shape, shape, strict=True))
    ]
    return sample_labels(array, matrices)


def sample_labels(array: NDArray[_Int], matrices: Sequence[FloatMatrix]) -> NDArray[_Int]:
    """``resample_labels`` with the caller's own linear weights, one matrix (n_out, n_in) per axis."""
    fill = array.flat[0]
    result = np.full([len(m) for m in matrices], fill, dtype=array.dtype)
    varied = Box.around(array != fill)
    if varied is None:
        return result
    reached = _reached(matrices, varied)
    # Linear weights join neighbours only: one more voxel holds all that the reached ones depend on.
    source = varied.padded((1, 1, 1), array.shape)
    inner = array[source.slices]
    parts = [
        m[rows, columns] for m, rows, columns in zip(matrices, reached.slices, source.slices, strict=True)
    ]
    best = np.zeros(reached.shape, dtype=np.float32)
    into = result[reached.slices]
    lowest = int(inner.min())
    found = ndimage.find_objects(inner.astype(np.int32) - (lowest - 1))
    for label, slices in enumerate(found, start=lowest):
        if slices is not None:
            _contend(label, inner, Box(*_bounds(slices)), parts, best, into)
    return result


def _contend(
    label: int,
    array: NDArray[Any],
    box: Box,
    matrices: Sequence[FloatMatrix],
    best: NDArray[np.float32],
    winner: NDArray[Any],
) -> None:
    """Write ``label`` to ``winner`` where its interpolated weight is at least the ``best`` so far."""
    reached = _reached(matrices, box)
    mine = (array[box.slices] == label).astype(np.float32)
    for axis, matrix in enumerate(matrices):
        mine = apply_matrix(matrix[reached.slices[axis], box.slices[axis]], mine, axis)
    beaten = (mine >= best[reached.slices]) & (mine > 0)
    best[reached.slices][beaten] = mine[beaten]
    winner[reached.slices][beaten] = label


def _reached(matrices: Sequence[FloatMatrix], box: Box) -> Box:
    """The outputs that depend on inputs inside ``box``; an empty box when none does."""
    rows = [
        np.flatnonzero(matrix[:, columns].any(axis=1))
        for matrix, columns in zip(matrices, box.slices, strict=True)
    ]
    if any(r.size == 0 for r in rows):
        return Box((0, 0, 0), (0, 0, 0))
    return Box(tuple(int(r[0]) for r in rows), tuple(int(r[-1]) + 1 for r in rows))


def _bounds(slices: Sequence[slice]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(s.start for s in slices), tuple(s.stop for s in slices)
