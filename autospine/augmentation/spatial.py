"""Rotation, scaling and mirroring of images and of class maps."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from autospine.augmentation.parameters import Parameters


def transform(parameters: Parameters, image: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Cut the final patch out of the middle; rotate and scale the samples for which that was drawn.

    Outside lies the padding in the image and class 0 in the maps. Images are interpolated linearly; a
    map takes the class whose indicator, interpolated linearly, is the largest.

    Args:
        parameters: What was drawn.
        image: (b, c, *size).
        maps: Class maps (b, *size).

    Returns:
        The image (b, c, *patch) in float32 and the maps (b, *patch); none shares memory with its origin.
    """
    patch = parameters.patch
    cut = _centre(image, patch).to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    cut_maps = [_centre(classes, patch).clone(memory_format=torch.contiguous_format) for classes in maps]
    moved = parameters.moved.nonzero().squeeze(1).to(image.device)
    if len(moved) == 0:
        return cut, cut_maps
    matrix = parameters.matrix[parameters.moved].to(image.device)
    grid = _sampling_grid(matrix, patch, image.shape[2:])
    padding = torch.tensor(parameters.padding, device=image.device).view(-1, *[1] * len(patch))
    values = image[moved].float().sub_(padding)
    cut[moved] = F.grid_sample(values, grid, align_corners=False).add_(padding)
    for target, moved_map in zip(cut_maps, _sample_classes([m[moved] for m in maps], grid), strict=True):
        target[moved] = moved_map
    return cut, cut_maps


def mirror(values: Tensor, axes: Tensor) -> None:
    """Reverse, in place, the axes of the patch that ``axes`` (b, d) marks per sample of (b, ..., *patch)."""
    first = values.ndim - axes.shape[1] - 1
    for sample in axes.any(1).nonzero().squeeze(1).tolist():
        reversed_axes = [first + axis for axis in axes[sample].nonzero().squeeze(1).tolist()]
        values[sample] = values[sample].flip(reversed_axes)


def move_points(parameters: Parameters, points: Tensor) -> Tensor:
    """Where points of the loaded patches lie after rotation, scaling and mirroring.

    Args:
        parameters: What was drawn.
        points: Offsets in voxels from the middle of the loaded patch (b, n, d); NaN stays NaN.

    Returns:
        Offsets in voxels from the middle of the final patch, of the same shape.
    """
    # The matrix leads from the final patch to the loaded one; points go the other way.
    inverse = torch.linalg.inv(parameters.matrix).to(points)
    sign = 1 - 2 * parameters.mirror.to(points)
    moved: Tensor = (points @ inverse.transpose(1, 2)) * sign.unsqueeze(1)
    return moved


def _centre(values: Tensor, patch: Sequence[int]) -> Tensor:
    """A view of the middle of (..., *size)."""
    for axis, length in enumerate(patch, start=values.ndim - len(patch)):
        if values.shape[axis] < length:
            raise ValueError(f"A loaded patch of shape {tuple(values.shape)} is smaller than {tuple(patch)}.")
        values = values.narrow(axis, (values.shape[axis] - length) // 2, length)
    return values


def _sampling_grid(matrix: Tensor, patch: Sequence[int], size: Sequence[int]) -> Tensor:
    """Positions (b, *patch, d) for `grid_sample`: -1 and 1 are the outer edges of the loaded patch."""
    scale = matrix.new_tensor(list(patch)) / matrix.new_tensor(list(size)).unsqueeze(1)
    # grid_sample counts axes from the last.
    theta = F.pad((matrix * scale).flip(1, 2), (0, 1))
    return F.affine_grid(theta, [len(matrix), 1, *patch], align_corners=False)


def _sample_classes(maps: Sequence[Tensor], grid: Tensor) -> list[Tensor]:
    """Class maps (b, *size) at the grid's positions, by the largest linearly interpolated indicator.

    Only the classes of a position's own corner voxels can win, so the cost does not depend on the number
    of classes, and only positions between different classes need weights at all.
    """
    shape, axes = grid.shape[:-1], grid.shape[-1]
    index, fraction, strides = _corners(grid, maps[0].shape[1:])
    corners = list(itertools.product((0, 1), repeat=axes))
    offsets = [sum(c * s for c, s in zip(corner, strides, strict=True)) for corner in corners]
    results = []
    for classes in maps:
        padded = F.pad(classes, (1, 1) * axes).flatten()
        values = torch.stack([padded.index_select(0, index + offset) for offset in offsets])
        result = values[0].clone()
        mixed = torch.zeros_like(result, dtype=torch.bool)
        for value in values[1:]:
            mixed |= value != result
        result[mixed] = _heaviest(values[:, mixed], _corner_weights(fraction[mixed], corners))
        results.append(result.view(shape))
    return results


def _corner_weights(fraction: Tensor, corners: Sequence[tuple[int, ...]]) -> Tensor:
    """Weights (corners, n) of linear interpolation at fractions (n, d) of the way between corners."""
    sides = torch.stack((1 - fraction, fraction)).unbind(2)
    factors = ([side[c] for side, c in zip(sides, corner, strict=True)] for corner in corners)
    return torch.stack([functools.reduce(torch.mul, sides_of_corner) for sides_of_corner in factors])


def _heaviest(values: Tensor, weights: Tensor) -> Tensor:
    """In each column of (k, n), the value whose weights add up to the most."""
    winner = values[0].clone()
    best = torch.zeros_like(weights[0])
    for value in values:
        score = (weights * (values == value).float()).sum(0)
        winner = torch.where(score > best, value, winner)
        best = torch.maximum(score, best)
    return winner


def _corners(grid: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Where the voxels around each position are, in maps padded by one voxel all around.

    Returns:
        The flat index (n,) of the lowest corner, the position's fraction (n, d) of the way to the
        highest, and the strides of the axes.
    """
    sizes = grid.new_tensor(list(size))
    position = ((grid.flip(-1) + 1) * sizes - 1) / 2 + 1
    position = torch.minimum(position.clamp_(min=0), sizes + 1)
    lowest = torch.minimum(position.floor(), sizes)
    padded = [length + 2 for length in size]
    strides = [math.prod(padded[axis + 1 :]) for axis in range(len(size))]
    index = torch.arange(len(grid), device=grid.device).view(-1, *[1] * len(size)) * math.prod(padded)
    index = index + (lowest.long() * torch.tensor(strides, device=grid.device)).sum(-1)
    return index.flatten(), (position - lowest).flatten(0, -2), strides
