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
#: By how much sums of weights may be off.
_ROUNDING = 1e-3


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
    whole = torch.empty_like(lowest)
    fractions = []
    for row, n, stride in zip(matrix, size, strides, strict=True):
        position = offsets[0] * row[0] + ((n - 1) / 2 + _RIM[0])
        for offset, factor in zip(offsets[1:], row[1:], strict=True):
            position = position + offset * factor
        position = position.clamp_(0, n + 1)
        lowest.add_(whole.copy_(position), alpha=stride)
        fractions.append(position.frac_().flatten())
    return Positions(lowest.flatten(), tuple(fractions), strides)


def sample_image(channel: Tensor, padding: float, where: Positions, target: Tensor) -> None:
    """Put a channel (*size), interpolated linearly, into ``target`` (n,); ``padding`` lies outside."""
    # Memory that is new to the process costs more than the sums in it; all of them share a little.
    spare = target.new_empty((len(where.strides), len(target)))
    _linear(_with_rim(channel, padding).to(target.dtype), where, 0, target, spare)


def sample_classes(classes: Tensor, where: Positions) -> Tensor:
    """Classes (n,) of a map (*size) whose indicators, interpolated linearly, are the largest; 0 outside.

    Only the classes of a position's own corner voxels can win, so the cost does not depend on the number
    of classes, and only positions between different classes need weights at all.
    """
    row = _with_rim(classes, 0)
    if row.device.type != "cpu":  # to find the few positions that need weights, the host would have to wait
        return _heaviest(row, where)
    result = row.index_select(0, where.lowest)
    extremes = _extremes(row, where.strides)
    chosen = _true(torch.ne(*extremes).index_select(0, where.lowest))
    return result.index_copy_(0, chosen, _between(row, extremes, where.some(chosen)))


def _with_rim(values: Tensor, padding: float) -> Tensor:
    return F.pad(values, _RIM * values.ndim, value=padding).flatten()


def _linear(row: Tensor, where: Positions, axis: int, target: Tensor, spare: Tensor) -> None:
    """Interpolation along the axes from ``axis`` on, at the lower corners of those before."""
    if axis == len(where.strides):
        torch.index_select(row, 0, where.lowest, out=target)
        return
    _linear(row, where, axis + 1, target, spare)
    _linear(row[where.strides[axis] :], where, axis + 1, spare[axis], spare)
    target.addcmul_(where.fractions[axis], spare[axis].sub_(target))


def _extremes(row: Tensor, strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Smallest and largest class of the corners whose lowest a voxel is; of all but the upper rim."""
    low = high = row
    for stride in strides:
        low = torch.minimum(low[stride:], low[:-stride])
        high = torch.maximum(high[stride:], high[:-stride])
    return low, high


def _between(row: Tensor, extremes: tuple[Tensor, Tensor], where: Positions) -> Tensor:
    """What `_heaviest` finds; where the corners are of two classes, it takes the weight of one of them."""
    low, high = (values.index_select(0, where.lowest) for values in extremes)
    values = [_corner(row, where, corner) for corner in _corners(where)]
    others = torch.zeros_like(low, dtype=torch.bool)
    for value in values:
        others |= (value != low) & (value != high)
    share = _blended([(value == high).view(torch.int8).float() for value in values], where.fractions)
    winner = torch.where(share > 0.5, high, low)
    unsure = _true(others | (share.sub_(0.5).abs_() < _ROUNDING))
    return winner.index_copy_(0, unsure, _heaviest(row, where.some(unsure)))


def _blended(corners: list[Tensor], fractions: Sequence[Tensor]) -> Tensor:
    """The corners' values (n,), interpolated in place; the last axis runs fastest among them."""
    for fraction in reversed(fractions):
        pairs = zip(corners[::2], corners[1::2], strict=True)
        corners = [low.addcmul_(fraction, high.sub_(low)) for low, high in pairs]
    return corners[0]


def _true(mask: Tensor) -> Tensor:
    """Where a mask (n,) on the CPU is true."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # several times as fast as torch's


def _heaviest(row: Tensor, where: Positions) -> Tensor:
    """At each position, the class of the corners whose weights add up to the most."""
    corners = _corners(where)
    values = torch.stack([_corner(row, where, corner) for corner in corners])
    weights = torch.stack([_weight(where, corner) for corner in corners])
    winner = values[0].clone()
    best = torch.zeros_like(weights[0])
    for value in values:
        score = (weights * (values == value).view(torch.int8)).sum(0)  # bool is slow to become float
        winner = torch.where(score > best, value, winner)
        best = torch.maximum(score, best)
    return winner


def _corners(where: Positions) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=len(where.strides)))


def _corner(row: Tensor, where: Positions, corner: Sequence[int]) -> Tensor:
    offset = sum(side * stride for side, stride in zip(corner, where.strides, strict=True))
    return row[offset:].index_select(0, where.lowest)


def _weight(where: Positions, corner: Sequence[int]) -> Tensor:
    sides = [f if side else 1 - f for side, f in zip(corner, where.fractions, strict=True)]
    return math.prod(sides[1:], start=sides[0])
