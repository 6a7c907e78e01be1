"""How far patches may turn, the matrices that turn and scale them, and how much to load for it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from autospine.core.plan import Configuration

#: A 3D patch this much longer than its first axis turns in its plane only (as all here, nnU-Net v2's rule).
_PLANAR_RATIO: Final = 3.0
#: A 2D patch this elongated turns by no more than so many degrees.
_ELONGATED: Final = 1.5
_ELONGATED_ROTATION: Final = 15.0
#: No more is loaded than lets objects shrink to this share.
_LOADED_ZOOM: Final = 0.85
#: Voxels beyond the loaded patch that no sample is enlarged for; rounding makes no margin.
_ROUNDING: Final = 1e-4


def turns_in_plane(configuration: Configuration) -> bool:
    """Whether a 3D patch is so thin along its first axis that it is transformed slice by slice."""
    patch = configuration.patch
    return len(patch) == 3 and max(patch) / patch[0] > _PLANAR_RATIO


def rotation_limits(configuration: Configuration) -> tuple[float, ...]:
    """Largest rotation in degrees about each of three axes, or the only one of a 2D patch."""
    augmentation, patch = configuration.schedule.augmentation, configuration.patch
    if len(patch) == 2:
        elongated = max(patch) / min(patch) > _ELONGATED
        in_plane = augmentation.rotation_in_plane
        return (min(in_plane, _ELONGATED_ROTATION) if elongated else in_plane,)
    if turns_in_plane(configuration):
        return (augmentation.rotation_in_plane, 0.0, 0.0)
    return (augmentation.rotation,) * 3


def enlarged_patch(configuration: Configuration) -> tuple[int, ...]:
    """The largest patch to load, from which rotated and scaled patches seldom reach outside.

    As in nnU-Net, it holds the patch turned about any one axis by the largest angle, at a zoom of 0.85.
    The margin is the same on both sides.
    """
    augmentation = configuration.schedule.augmentation
    spacing = _network_spacing(configuration)
    extent = torch.tensor(configuration.patch) * spacing
    largest = extent
    if augmentation.rotation_probability > 0:
        # One row per axis, which alone turns.
        angles = torch.tensor(rotation_limits(configuration)).clamp(max=90).deg2rad().diag()
        turned = _rotations(angles).abs() @ extent
        largest = torch.maximum(largest, turned.amax(0))
    zoom = min(augmentation.scale[1], 1 / _LOADED_ZOOM) if augmentation.scale_probability > 0 else 1.0
    margins = ((largest * max(zoom, 1.0) - extent) / spacing / 2 + 1e-4).long().tolist()
    if turns_in_plane(configuration):
        margins[0] = 0
    return tuple(size + 2 * margin for size, margin in zip(configuration.patch, margins, strict=True))


def reached_margins(configuration: Configuration, matrix: Tensor) -> list[tuple[int, ...]]:
    """How far each sample reaches beyond the final patch, up to the largest patch to load.

    Args:
        configuration: Patch and augmentation.
        matrix: From offsets in the final patch to offsets in the loaded one (b, d, d).

    Returns:
        Voxels on either side of each of d axes, for each of b samples.
    """
    patch = torch.tensor(configuration.patch)
    farthest = (patch - 1) / 2
    reached = (matrix.abs() @ farthest - farthest - _ROUNDING).ceil().clamp(min=0)
    largest = (torch.tensor(enlarged_patch(configuration)) - patch) // 2
    return [tuple(margins) for margins in torch.minimum(reached.long(), largest).tolist()]


def affine_matrices(configuration: Configuration, angles: Tensor, scale: Tensor) -> Tensor:
    """Matrices (b, d, d) from voxel offsets in the final patch to voxel offsets in the loaded one.

    Angles are true angles: the rotation acts in mm, not in voxels, wherever the spacing is known.

    Args:
        configuration: Spacing and patch.
        angles: Radians about the three axes (b, 3), or about the normal of a 2D patch (b, 1).
        scale: Factor of all lengths (b,); above one, objects appear smaller.
    """
    spacing = _network_spacing(configuration)
    rotation = _rotations(angles) * spacing / spacing.unsqueeze(1)
    scales = scale.unsqueeze(1).repeat(1, configuration.dimensions)
    if turns_in_plane(configuration):
        scales[:, 0] = 1
    return rotation * scales.unsqueeze(1)


def _network_spacing(configuration: Configuration) -> Tensor:
    """Spacing in mm along the network's axes; 1 throughout if any is the scan's own."""
    spacing = configuration.spacing[-configuration.dimensions :]
    known = [value for value in spacing if value is not None]
    return torch.tensor(known if len(known) == len(spacing) else [1.0] * len(spacing))


def _rotations(angles: Tensor) -> Tensor:
    """Matrices (b, d, d) of rotations by (b, 1) in the plane, or by (b, 3) about axes 0, 1, 2 in turn."""
    planes = [(0, 1)] if angles.shape[1] == 1 else [(1, 2), (2, 0), (0, 1)]
    dimensions = 2 if angles.shape[1] == 1 else 3
    result = torch.eye(dimensions).repeat(len(angles), 1, 1)
    for (i, j), angle in zip(planes, angles.unbind(1), strict=True):
        turn = torch.eye(dimensions).repeat(len(angles), 1, 1)
        turn[:, i, i] = turn[:, j, j] = angle.cos()
        turn[:, j, i] = angle.sin()
        turn[:, i, j] = -angle.sin()
        result = turn @ result
    return result
