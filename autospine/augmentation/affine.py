"""How far patches may turn, the matrices that turn and scale them, and how much to load for it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.plan import Configuration

Floats = NDArray[np.float32]

#: A 3D patch this much longer than its first axis turns in its plane only (as all here, nnU-Net v2's rule).
_PLANAR_RATIO: Final = 3.0
#: A 2D patch this elongated turns by no more than so many degrees.
_ELONGATED: Final = 1.5
_ELONGATED_ROTATION: Final = 15.0
#: No more is loaded than lets objects shrink to this share.
_LOADED_ZOOM: Final = 0.85
#: Voxels by which lengths may be off before they count.
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


def largest_margins(configuration: Configuration) -> tuple[int, ...]:
    """Voxels to load on either side of the patch, beyond which rotated and scaled patches seldom reach.

    As in nnU-Net, they hold the patch turned about any one axis by the largest angle, at a zoom of 0.85.
    """
    augmentation = configuration.schedule.augmentation
    patch, spacing = configuration.patch, _network_spacing(configuration)
    extent = [n * s for n, s in zip(patch, spacing, strict=True)]
    largest = list(extent)
    if augmentation.rotation_probability > 0:
        limits = rotation_limits(configuration)
        for (i, j), limit in zip(_planes(len(limits)), limits, strict=True):
            angle = math.radians(min(limit, 90.0))
            for this, other in ((i, j), (j, i)):
                turned = extent[this] * math.cos(angle) + extent[other] * math.sin(angle)
                largest[this] = max(largest[this], turned)
    zoom = min(augmentation.scale[1], 1 / _LOADED_ZOOM) if augmentation.scale_probability > 0 else 1.0
    lengths = zip(largest, extent, spacing, strict=True)
    margins = [int((longest * max(zoom, 1.0) - e) / s / 2 + _ROUNDING) for longest, e, s in lengths]
    return (0, *margins[1:]) if turns_in_plane(configuration) else tuple(margins)


def reached_margins(configuration: Configuration, matrix: Floats) -> list[tuple[int, ...]]:
    """How far each sample reaches beyond the final patch, up to the largest margins.

    Args:
        configuration: Patch and augmentation.
        matrix: From offsets in the final patch to offsets in the loaded one (b, d, d).

    Returns:
        Voxels on either side of each of d axes, for each of b samples.
    """
    farthest = (np.array(configuration.patch) - 1) / 2
    reached = np.ceil(np.abs(matrix) @ farthest - farthest - _ROUNDING)
    margins = np.clip(reached, 0, largest_margins(configuration)).astype(int)
    return [tuple(sample) for sample in margins.tolist()]


def affine_matrices(configuration: Configuration, angles: Floats, scale: Floats) -> Floats:
    """Matrices (b, d, d) from voxel offsets in the final patch to voxel offsets in the loaded one.

    Angles are true angles: the rotation acts in mm, not in voxels, wherever the spacing is known.

    Args:
        configuration: Spacing and patch.
        angles: Radians about the three axes (b, 3), or about the normal of a 2D patch (b, 1).
        scale: Factor of all lengths (b,); above one, objects appear smaller.
    """
    spacing = np.array(_network_spacing(configuration), dtype=np.float32)
    rotation = _rotations(angles) * spacing / spacing[:, None]
    scales = np.repeat(scale[:, None], configuration.dimensions, axis=1)
    if turns_in_plane(configuration):
        scales[:, 0] = 1
    return rotation * scales[:, None]


def _network_spacing(configuration: Configuration) -> list[float]:
    """Spacing in mm along the network's axes; 1 throughout if any is the scan's own."""
    spacing = configuration.spacing[-configuration.dimensions :]
    known = [value for value in spacing if value is not None]
    return known if len(known) == len(spacing) else [1.0] * len(spacing)


def _planes(rotations: int) -> list[tuple[int, int]]:
    """The axes between which each rotation turns: the only one of a 2D patch, or those about three axes."""
    return [(0, 1)] if rotations == 1 else [(1, 2), (2, 0), (0, 1)]


def _rotations(angles: Floats) -> Floats:
    """Matrices (b, d, d) of rotations by (b, 1) in the plane, or by (b, 3) about axes 0, 1, 2 in turn."""
    planes = _planes(angles.shape[1])
    d = 2 if len(planes) == 1 else 3
    rows = np.broadcast_to(np.eye(d, dtype=angles.dtype)[:, None], (d, len(angles), d)).copy()
    cosines, sines = np.cos(angles).T[:, :, None], np.sin(angles).T[:, :, None]
    for (i, j), cos, sin in zip(planes, cosines, sines, strict=True):
        rows[i], rows[j] = cos * rows[i] - sin * rows[j], sin * rows[i] + cos * rows[j]
    return rows.transpose(1, 0, 2)
