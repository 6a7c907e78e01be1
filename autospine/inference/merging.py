"""A member's logits on the scan's voxels, block by block, and what can be known of a block beforehand.

All members of an ensemble are of the same scan, so they meet on its oriented (canonical) grid, whatever
axis order, crop and resolution each of them has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from autospine.core.geometry import Box, Orientation
from autospine.core.trace import Trace
from autospine.inference.prediction import Prediction
from autospine.resampling import FloatMatrix, linear_matrix, nearest_matrix

Edges = Sequence[tuple[int, int]]
Index = tuple[int, int, int]
Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]

#: Classes that are nowhere in a block more probable than this change no single-precision sum.
_IMPROBABLE: Final = 1e-8
_TINY: Final = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Sampler:
    """Logits that can be resampled to any block of the oriented scan.

    Args:
        logits: Shape (classes, z, y, x): model resolution, canonical axis order.
        box: What they cover, on the oriented scan.
        matrices: Per axis, weights of shape (voxels of the box, voxels of the logits).
    """

    logits: NDArray[Any]
    box: Box
    matrices: tuple[FloatMatrix, FloatMatrix, FloatMatrix]

    @classmethod
    def of(cls, prediction: Prediction) -> Sampler:
        """Prepare a prediction; the logits are not copied."""
        trace = prediction.trace
        logits = Orientation.permutation(trace.axes).invert(prediction.logits)
        return cls(logits, trace.box, scan_matrices(trace))

    def sample(self, block: Box, channels: NDArray[np.intp]) -> torch.Tensor:
        """Resampled logits of some channels.

        Args:
            block: On the oriented scan, inside ``box``.
            channels: Indices.

        Returns:
            float32 of shape (len(channels), *block.shape).
        """
        needed = [self._needed(axis, block.start[axis], block.stop[axis]) for axis in range(3)]
        source = self.logits[(slice(None), *(columns for _, columns in needed))]
        values = torch.from_numpy(np.ascontiguousarray(source[channels], dtype=np.float32))
        z, y, x = (torch.tensor(rows[:, columns]) for rows, columns in needed)
        values = y @ (values @ x.T)
        k, depth = values.shape[:2]
        return (z @ values.reshape(k, depth, -1)).reshape(k, *block.shape)

    def bounds(self, edges: Sequence[Edges]) -> Bounds:
        """Least and largest logit that any voxel of each block can have.

        Interpolation never leaves the range of the logits it joins.

        Args:
            edges: Per axis, where blocks start and stop on the oriented scan; a block beyond ``box``
                gets the bounds of its nearest part.

        Returns:
            Two arrays of shape (classes, blocks along z, y, x).
        """
        columns = [[self._needed(axis, start, stop)[1] for start, stop in edges[axis]] for axis in range(3)]
        low, high = [], []
        for channel in self.logits:
            values = channel.astype(np.float32)
            low.append(_reduced(values, columns, np.min))
            high.append(_reduced(values, columns, np.max))
        return np.stack(low).astype(np.float64), np.stack(high).astype(np.float64)

    def _needed(self, axis: int, start: int, stop: int) -> tuple[FloatMatrix, slice]:
        """Weights of a range of the scan's voxels, and the columns among them that are not zero."""
        n = len(self.matrices[axis])
        first = min(max(start - self.box.start[axis], 0), n - 1)
        last = max(min(stop - self.box.start[axis], n), first + 1)
        rows = self.matrices[axis][first:last]
        used = np.flatnonzero(rows.any(axis=0))
        return rows, slice(int(used[0]), int(used[-1]) + 1)


@dataclass(frozen=True)
class Tiling:
    """Blocks that cover a box of the oriented scan.

    Args:
        edges: Per axis, where blocks start and stop.
    """

    edges: tuple[Edges, Edges, Edges]

    @classmethod
    def over(cls, boxes: Sequence[Box], edge: int) -> Tiling:
        """Blocks of at most ``edge`` voxels a side over the box around several boxes."""

        def along(axis: int) -> Edges:
            first, last = min(b.start[axis] for b in boxes), max(b.stop[axis] for b in boxes)
            return [(a, min(a + edge, last)) for a in range(first, last, edge)]

        return cls((along(0), along(1), along(2)))

    def blocks(self) -> Iterator[tuple[Index, Box]]:
        """Each block's place in the tiling and the block itself."""
        for i, j, k in itertools.product(*(range(len(edges)) for edges in self.edges)):
            bounds = (self.edges[0][i], self.edges[1][j], self.edges[2][k])
            yield (i, j, k), Box(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))


@dataclass(frozen=True)
class Votes:
    """A member's softmax on the oriented scan; beyond the member's box, background has probability 1.

    Args:
        sampler: Its logits.
        logits: Bounds of the logits in each block of a tiling, (classes, blocks along z, y, x).
        probabilities: Bounds of the softmax, likewise.
    """

    sampler: Sampler
    logits: Bounds
    probabilities: Bounds

    @classmethod
    def of(cls, prediction: Prediction, tiling: Tiling) -> Votes:
        """Bound a prediction's votes."""
        sampler = Sampler.of(prediction)
        logits = sampler.bounds(tiling.edges)
        low, high = probability_bounds(logits)
        for index, block in tiling.blocks():
            inside = block.intersection(sampler.box)
            if inside == block:
                continue
            if inside is None:
                high[(slice(None), *index)] = 0.0
                low[(0, *index)] = 1.0
            high[(0, *index)] = 1.0
            low[(slice(1, None), *index)] = 0.0
        return cls(sampler, logits, (low, high))

    def softmax(self, index: Index, block: Box) -> torch.Tensor:
        """Softmax of the resampled logits, float32 of shape (classes, *block.shape)."""
        high = self.probabilities[1]
        result = torch.zeros((len(high), *block.shape))
        inside = block.intersection(self.sampler.box)
        if inside != block:
            result[0] = 1.0
        if inside is not None:
            channels = np.flatnonzero(high[(slice(None), *index)] > _IMPROBABLE)
            part = result[(slice(None), *inside.shifted(block.start).slices)]
            part[0] = 0.0
            part[torch.from_numpy(channels)] = self.sampler.sample(inside, channels).softmax(0)
        return result


def scan_matrices(trace: Trace) -> tuple[FloatMatrix, FloatMatrix, FloatMatrix]:
    """Weights that take an array at model resolution, canonical axis order, to the voxels of ``trace.box``.

    Returns:
        Per canonical axis, shape (voxels of the box, voxels of the array).
    """

    def matrix(axis: int) -> FloatMatrix:
        voxels = np.arange(trace.box.start[axis], trace.box.stop[axis])
        stored = trace.axes.index(axis)
        weights = nearest_matrix if trace.separate_axis == stored else linear_matrix
        return weights(trace.stored_positions(axis, voxels), trace.shape[stored])

    return matrix(0), matrix(1), matrix(2)


def probability_bounds(logits: Bounds) -> Bounds:
    """Bounds of the softmax from bounds of the logits, classes along the first axis."""
    low, high = logits
    shift = high.max(axis=0)
    low, high = np.exp(low - shift), np.exp(high - shift)
    # A class is least probable where it is at its lower bound and all others are at their upper ones.
    rivals_high, rivals_low = high.sum(axis=0) - high, low.sum(axis=0) - low
    least = low / np.maximum(low + rivals_high.clip(0), _TINY)
    most = high / np.maximum(high + rivals_low.clip(0), _TINY)
    return least, most


def _reduced(
    values: NDArray[np.float32], columns: Sequence[Sequence[slice]], reduce: Any
) -> NDArray[np.float32]:
    for axis, parts in enumerate(columns):
        lead = (slice(None),) * axis
        values = np.stack([reduce(values[(*lead, part)], axis=axis) for part in parts], axis=axis)
    return values
