"""Whole pieces of bone for one vertebra: connected components, and the blobs that make up a component.

Voxel by voxel, the nearest training points know nothing of bone. A component with one body in it is one
vertebra; one with several is cut at its necks, which is where facet joints and discs have fused, by a
watershed of its depth (Beucher and Lantuéjoul 1979), and each blob takes the number of most of its voxels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from autospine.core.geometry import Triple

#: A body lies in a component with this share of its training points at least.
_IN: Final = 0.2

Numbers = NDArray[np.uint8]


def by_component(numbers: Numbers, bodies: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    """Give every connected component that holds one body its number, and one without any its most frequent.

    Args:
        numbers: Vertebra of every voxel, 1..n, 0 is background; shape (z, y, x).
        bodies: Likewise, at training points in bodies only.

    Returns:
        New numbers, and the voxels of components that hold several bodies.
    """
    components, count = ndimage.label(numbers)
    highest = int(numbers.max(initial=0))
    votes = _table(components, numbers, count, highest)
    seen = _table(components, bodies, count, highest)
    seen[0] = 0
    held = (seen > _IN * seen.sum(axis=0)) & (seen > 0)
    winner = np.where(held.any(axis=1), held.argmax(axis=1), votes.argmax(axis=1))
    several = held.sum(axis=1) > 1
    winner[0], several[0] = 0, False
    open_question = several[components]
    return np.where(open_question, numbers, winner[components]).astype(np.uint8), open_question


def by_blob(
    numbers: Numbers, mask: NDArray[np.bool_], spacing: Triple, smoothing: float, agreed: float
) -> Numbers:
    """Give blobs whose voxels mostly agree one number.

    Args:
        numbers: Vertebra of every voxel, shape (z, y, x).
        mask: Voxels to look at.
        spacing: Millimetres between voxels along z, y, x.
        smoothing: Standard deviation in mm of the Gaussian that smooths the depth map.
        agreed: Share of a blob's voxels that must have one number for the others to take it.
    """
    if not mask.any():
        return numbers
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(depth.astype(np.float32), smoothing / np.asarray(spacing))
    peaks, _ = ndimage.label((smooth == ndimage.maximum_filter(smooth, 3)) & mask)
    blobs = watershed(-smooth, peaks, mask=mask)
    votes = _table(blobs, numbers, int(blobs.max()), int(numbers.max()))
    settled = votes.max(axis=1) > agreed * votes.sum(axis=1)
    settled[0] = False
    return np.where(settled[blobs], votes.argmax(axis=1)[blobs], numbers).astype(np.uint8)


def _table(groups: NDArray[np.integer], numbers: Numbers, count: int, highest: int) -> NDArray[np.int64]:
    """Voxels by group 0..count and number 0..highest; those with number 0 are not counted."""
    inside = numbers > 0
    flat = groups[inside].astype(np.int64) * (highest + 1) + numbers[inside]
    return np.bincount(flat, minlength=(count + 1) * (highest + 1)).reshape(count + 1, highest + 1)
