"""Centres of vertebral bodies, found in masks of whole vertebrae.

VerSe's reference points are the centres of the bodies, and the centre of mass of a whole vertebra lies
some 12 mm behind them. The body is the vertebra's thick part and its front part: a mean weighted by both
finds it, and a second mean, taken only around the first, centres it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import Box, FloatArray, Grid, Triple

_STEP: Final = 1.2  # mm; finer voxels are skipped, they cost time and add nothing
_FRONT: Final = 8.0  # a voxel this many mm further behind weighs e times less
_NEAR: Final = 10.0  # mm around the first estimate in which the body's thickness is measured
#: Radius of the second mean, in units of the body's half thickness and of the cube root of the vertebra's
#: volume; the larger counts, for a crushed body is thin but as wide as ever.
_REACH: Final = (1.8, 0.5)
_ROUNDS: Final = 8
#: A ball of this radius, in units of the cube root of the volume, holds less bone than this share where it
#: stands in the ring of C1; in phantoms 0.23 at most there, and 0.47 at least in bodies.
_RING: Final = (0.4, 0.35)
_ARCH: Final = 8.0  # half width in mm of what counts as the front of a ring


def body_centres(labels: NDArray[Any], grid: Grid, wanted: Sequence[int] | None = None) -> dict[int, Triple]:
    """Centres of the bodies of labelled vertebrae.

    C1 has no body: its point lies in the anterior arch.

    Args:
        labels: Whole vertebrae of shape ``grid.shape``, in any orientation; 0 is background, other values
            are arbitrary positive whole numbers.
        grid: The lattice of the labels.
        wanted: Values to look for; all of them by default.

    Returns:
        LPS world position (x, y, z) in mm by value, ascending; values that do not occur are left out.
    """
    found: dict[int, Triple] = {}
    for value, slices in enumerate(ndimage.find_objects(labels), start=1):
        if slices is None or (wanted is not None and value not in wanted):
            continue
        box = Box(tuple(part.start for part in slices), tuple(part.stop for part in slices))
        x, y, z = _centre(*_largest_part(labels[slices] == value, grid.cropped(box)))
        found[value] = (float(x), float(y), float(z))
    return found


def _largest_part(mask: NDArray[np.bool_], grid: Grid) -> tuple[NDArray[np.bool_], Grid]:
    """The largest connected component in its own box: stray voxels would stretch the box over the scan."""
    part = cc3d.largest_k(mask, k=1, connectivity=26) > 0
    box = Box.around(part)
    assert box is not None, "a label that was found has a voxel"
    return part[box.slices], grid.cropped(box)


def _centre(mask: NDArray[np.bool_], grid: Grid) -> FloatArray:
    strides = [max(1, int(_STEP / spacing)) for spacing in grid.spacing]
    points, depth = _sampled(mask, grid, strides)
    if not len(points):  # thinner than a stride
        points, depth = _sampled(mask, grid, [1, 1, 1])
    front = points[:, 1].min()
    first = _mean(points, depth**4 * np.exp((front - points[:, 1]) / _FRONT))
    volume = float(mask.sum() * np.prod(grid.spacing))
    size = volume ** (1 / 3)
    distance = _distances(points, first)
    radius, least = _RING
    inside = float((distance <= radius * size).mean()) * volume
    if inside < least * 4 / 3 * np.pi * (radius * size) ** 3:
        return _front_of_ring(points, depth)
    thickness = depth[distance <= max(_NEAR, distance.min())].max()
    return _centred(points, depth, first, max(_REACH[0] * thickness, _REACH[1] * size))


def _sampled(mask: NDArray[np.bool_], grid: Grid, strides: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """World positions (n, 3) in mm of a mask's voxels, a share of them, and how deep each lies in it."""
    thinned = np.pad(mask[tuple(slice(None, None, step) for step in strides)], 1)
    steps = [step * spacing for step, spacing in zip(strides, grid.spacing, strict=True)]
    depth = ndimage.distance_transform_edt(thinned, sampling=steps)
    points = grid.to_world((np.argwhere(thinned) - 1) * np.asarray(strides))
    return points, np.asarray(depth[thinned])


def _front_of_ring(points: FloatArray, depth: FloatArray) -> FloatArray:
    """The anterior arch of C1, straight in front of the ring's middle."""
    middle = points.mean(axis=0)
    beside = np.hypot(points[:, 0] - middle[0], points[:, 2] - middle[2])
    arch = (beside <= _ARCH) & (points[:, 1] < middle[1])
    return _mean(points[arch], depth[arch]) if arch.any() else middle


def _centred(points: FloatArray, depth: FloatArray, centre: FloatArray, radius: float) -> FloatArray:
    """Move a ball to the middle of the thick bone within it, over and over: a mean shift."""
    for _ in range(_ROUNDS):
        near = _distances(points, centre) <= radius
        if not near.any():
            break
        centre = _mean(points[near], depth[near] ** 2)
    return centre


def _distances(points: FloatArray, centre: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(points - centre, axis=1))


def _mean(points: FloatArray, weights: FloatArray) -> FloatArray:
    return np.asarray(weights @ points / weights.sum())
