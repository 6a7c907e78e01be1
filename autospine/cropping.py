"""What of a scan is worth keeping: the non-zero region, the body without table and outside air, or bone."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import Box, Triple

#: The body is looked for on a copy with about this voxel size, mm.
_COARSE: Final = 4.0
#: What opening removes is about four times the coarse voxel thick: table tops, blankets, tubes.
_OPENING: Final = 2
#: Kept around the body, mm: more than the opening can shave off a convex edge.
_MARGIN: Final = 12.0
#: Lower than any tissue or air in any usual coding of CT: the fill value outside the scanner's circle.
_FILL: Final = -1500.0
#: Soft tissue lies about 1000 above air, whatever constant was added to the Hounsfield units.
_TISSUE_ABOVE_AIR: Final = (750.0, 1350.0)
#: Bone is at least this much denser than soft tissue, HU: 150 in all.
_BONE: Final = 120.0
#: Voxels of the coarse copy by which gaps in bone are closed, and mm kept around it.
_CLOSING: Final = 2
_BONE_MARGIN: Final = 20.0
#: Parts smaller than this share of the largest one (arms, table remains) are not the body or skeleton.
_SMALL: Final = 0.2


def nonzero_box(array: NDArray[Any]) -> Box:
    """Tightest box around what is not zero, nnU-Net's crop; the whole array when all is zero.

    nnU-Net also fills the holes of the mask, which cannot move its bounding box.

    Args:
        array: Intensities, or a mask that joins several channels, shape (z, y, x).
    """
    return Box.around(array != 0) or Box.whole(array.shape)


def body_box(array: NDArray[Any], spacing: Triple) -> Box:
    """Box around the patient, without table and outside air, with a margin of about 12 mm.

    Air is found relative to tissue, so a constant added to the Hounsfield units does not matter; fill
    values far below air, and zeros that pad the corners of an oblique scan, are not body.

    Args:
        array: Hounsfield units, or Hounsfield units plus a constant, shape (z, y, x).
        spacing: mm along z, y, x.

    Returns:
        The box; the whole array when no air, no body or no CT-like gap between the two is found.
    """
    stride, coarse = _coarsened(array, spacing)
    body = _largest_parts(_opened(_tissue(coarse), _OPENING))
    return _fine_box(Box.around(body), stride, _MARGIN, array, spacing)


def bone_box(array: NDArray[Any], spacing: Triple) -> Box:
    """Box around the skeleton: its largest connected piece and others of comparable size, and 20 mm more.

    Bone is found relative to soft tissue, so a constant added to the Hounsfield units does not matter.
    Loose pieces of metal and small calcifications are not the skeleton.

    Args:
        array: Hounsfield units, or Hounsfield units plus a constant, shape (z, y, x).
        spacing: mm along z, y, x.

    Returns:
        The box; the whole array when no bone is found.
    """
    stride, coarse = _coarsened(array, spacing, averaged=True)
    level = _soft_tissue(coarse)
    bone = ~_opened(coarse <= level + _BONE, _CLOSING)
    # Behind a cleft that closing cannot bridge, the column goes on as another large part.
    return _fine_box(Box.around(_largest_parts(bone)), stride, _BONE_MARGIN, array, spacing)


def _coarsened(
    array: NDArray[Any], spacing: Triple, *, averaged: bool = False
) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """A copy with about 4 mm voxels, and how many voxels of the array each of them spans along each axis.

    Each is the first voxel of its block, which keeps values as they are; or the block's mean, which keeps
    noise from passing for bone.
    """
    stride = tuple(max(1, round(_COARSE / s)) for s in spacing)
    if not averaged:
        return stride, np.asarray(array[tuple(slice(None, None, n) for n in stride)], dtype=np.float32)
    means: NDArray[Any] = array
    for axis, n in enumerate(stride):
        starts = np.arange(0, array.shape[axis], n)
        counts = np.diff(starts, append=array.shape[axis]).astype(np.float32)
        means = np.add.reduceat(means, starts, axis, np.float32)
        means /= counts.reshape([-1 if a == axis else 1 for a in range(3)])
    return stride, means


def _fine_box(
    found: Box | None, stride: tuple[int, ...], margin: float, array: NDArray[Any], spacing: Triple
) -> Box:
    """A coarse box on the array itself, with a margin in mm; the whole array for none."""
    if found is None:
        return Box.whole(array.shape)
    fine = Box(
        tuple(a * n for a, n in zip(found.start, stride, strict=True)),
        tuple(b * n for b, n in zip(found.stop, stride, strict=True)),
    )
    return fine.padded([int(np.ceil(margin / s)) for s in spacing], array.shape)


def _tissue(coarse: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mask of what is no air and no padding; everything where air cannot be told from tissue."""
    air, level = _air_and_tissue(coarse)
    if level is None:
        return np.ones(coarse.shape, dtype=bool)
    tissue: NDArray[np.bool_] = coarse > air + 500.0
    if air < -400.0:
        # Zero is water here. Blocks of exact zeros are padding: real tissue is noisy.
        tissue &= ~_opened(coarse == 0, 1)
    return tissue


def _soft_tissue(coarse: NDArray[np.float32]) -> float:
    """Intensity of most of the tissue; a scan without air, from inside the body, is all tissue."""
    level = _air_and_tissue(coarse)[1]
    if level is not None:
        return level
    scanned = coarse[coarse > _FILL]
    return float(np.median(scanned)) if scanned.size else 0.0


def _air_and_tissue(coarse: NDArray[np.float32]) -> tuple[float, float | None]:
    """Lowest intensity but for fill values, and the median one far above it; None if that is no CT's gap."""
    scanned = coarse[coarse > _FILL]
    if scanned.size == 0:
        return _FILL, None
    air = float(np.percentile(scanned, 0.5))
    dense = scanned[scanned > air + 400.0]
    level = float(np.median(dense)) if dense.size else air
    return air, level if _TISSUE_ABOVE_AIR[0] < level - air < _TISSUE_ABOVE_AIR[1] else None


def _opened(mask: NDArray[np.bool_], iterations: int) -> NDArray[np.bool_]:
    """Morphological opening in which the array goes on beyond its border as it is there."""
    padded = np.pad(mask, iterations, mode="edge")
    structure = ndimage.generate_binary_structure(3, 1)
    eroded = ndimage.binary_erosion(padded, structure, iterations, border_value=1)
    opened: NDArray[np.bool_] = ndimage.binary_dilation(eroded, structure, iterations)
    return opened[tuple(slice(iterations, -iterations) for _ in range(3))]


def _largest_parts(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept: NDArray[np.bool_] = (sizes >= _SMALL * sizes.max())[labels]
    return kept
