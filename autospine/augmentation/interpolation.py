"""Values of an image and of class maps between their voxels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: Voxels added at the lower and upper end of each axis, so that all corners of any position exist.
_RIM = (1, 2)


@dataclass(frozen=True)
class Positions:
    """Where n values are wanted in a map of d axes whose voxels, rim included, are numbered in a row.

    Args:
        lowest: Number of the voxel at the lowest of a position's corners, int32 (n,).
        fractions: How far along each axis the position lies between its corners, d tensors (n,).
        strides: Steps in numbers from voxel to voxel along each axis.
    """

    lowest: Tensor
    fractions: tuple[Tensor, ...]
    strides: tuple[int, ...]

    def some(self, chosen: Tensor) -> Positions:
        """Those of given places (m,) among the n."""
        fractions = tuple(fraction.index_select(0, chosen) for fraction in self.fractions)
        return Positions(self.lowest.index_select(0, chosen), fractions, self.strides)


def positions(
    matrix: Sequence[Sequence[float]], patch: Sequence[int], size: Sequence[int], device: torch.device
) -> Positions:
    """Where the voxels of a patch lie in a map; what lies outside is moved onto the map's rim.

    Args:
        matrix: From offsets to the patch's centre to offsets to the map's centre, d rows of d.
        patch: Its size.
        size: Of the map.
        device: Where the result is wanted. The numbers come from the host, so none are copied there.
    """
    offsets = [
        torch.arange(n, device=device).sub((n - 1) / 2).view(-1, *[1] * (len(patch) - axis - 1))
        for axis, n in enumerate(patch)
    ]
    rimmed = [n + sum(_RIM) for n in size]
    strides = tuple(math.prod(rimmed[axis + 1 :]) for axis in range(len(size)))
    lowest = torch.zeros(tuple(patch), dtype=torch.int32, device=device)
    fractions = []
    for row, n, stride in zip(matrix, size, strides, strict=True):
        position = offsets[0] * row[0] + ((n - 1) / 2 + _RIM[0])
        for offset, factor in zip(offsets[1:], row[1:], strict=True):
            position = position + offset * factor
        position = position.clamp_(0, n + 1)
        lowest.add_(position.int(), alpha=stride)
        fractions.append(position.frac_().flatten())
    return Positions(lowest.flatten(), tuple(fractions), strides)


def sample_image(channel: Tensor, padding: float, where: Positions) -> Tensor:
    """Values (n,) in float32 of a channel (*size), interpolated linearly; ``padding`` lies outside."""
    return _linear(_with_rim(channel, padding), where, 0)


def sample_classes(classes: Tensor, where: Positions) -> Tensor:
    """Classes (n,) of a map (*size) whose indicators, interpolated linearly, are the largest; 0 outside.

    Only the classes of a position's own corner voxels can win, so the cost does not depend on the number
    of classes, and only positions between different classes need weights at all.
    """
    row = _with_rim(classes, 0)
    if row.device.type != "cpu":  # to find the few positions that need weights, the host would have to wait
        return _heaviest(row, where)
    result = row.index_select(0, where.lowest)
    mixed = _mixed(row, where.strides).index_select(0, where.lowest)
    chosen = torch.from_numpy(np.flatnonzero(mixed.numpy()))  # several times as fast as torch's
    return result.index_copy_(0, chosen, _heaviest(row, where.some(chosen)))


def _with_rim(values: Tensor, padding: float) -> Tensor:
    return F.pad(values, _RIM * values.ndim, value=padding).flatten()


def _linear(row: Tensor, where: Positions, axis: int) -> Tensor:
    """Interpolation along the axes from ``axis`` on, at the lower corners of those before."""
    if axis == len(where.strides):
        return row.index_select(0, where.lowest).float()
    low = _linear(row, where, axis + 1)
    high = _linear(row[where.strides[axis] :], where, axis + 1)
    return low.addcmul_(where.fractions[axis], high.sub_(low))


def _mixed(row: Tensor, strides: Sequence[int]) -> Tensor:
    """Which voxels are the lowest corner of corners with different classes; all but the upper rim."""
    mixed = torch.zeros_like(row, dtype=torch.bool)
    for stride in strides:
        differs = row[stride:] != row[:-stride]
        mixed = differs.logical_or_(mixed[:-stride]).logical_or_(mixed[stride:])
        row = row[:-stride]
    return mixed


def _heaviest(row: Tensor, where: Positions) -> Tensor:
    """At each position, the class of the corners whose weights add up to the most."""
    corners = list(itertools.product((0, 1), repeat=len(where.strides)))
    values = torch.stack([_corner(row, where, corner) for corner in corners])
    weights = torch.stack([_weight(where, corner) for corner in corners])
    winner = values[0].clone()
    best = torch.zeros_like(weights[0])
    for value in values:
        score = (weights * (values == value).view(torch.int8)).sum(0)  # bool is slow to become float
        winner = torch.where(score > best, value, winner)
        best = torch.maximum(score, best)
    return winner


def _corner(row: Tensor, where: Positions, corner: Sequence[int]) -> Tensor:
    offset = sum(side * stride for side, stride in zip(corner, where.strides, strict=True))
    return row[offset:].index_select(0, where.lowest)


def _weight(where: Positions, corner: Sequence[int]) -> Tensor:
    sides = [f if side else 1 - f for side, f in zip(corner, where.fractions, strict=True)]
    return math.prod(sides[1:], start=sides[0])
