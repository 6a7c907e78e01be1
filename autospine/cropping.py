"""What of a scan is worth keeping: the non-zero region, or the body without table and outside air."""

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
#: Parts smaller than this share of the largest one (arms, table remains) are not the body.
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
    """Box around the largest connected piece of bone, with a margin of 20 mm.

    Bone is found relative to soft tissue, so a constant added to the Hounsfield units does not matter.

    Args:
        array: Hounsfield units, or Hounsfield units plus a constant, shape (z, y, x).
        spacing: mm along z, y, x.

    Returns:
        The box; the whole array when no bone is found.
    """
    stride, coarse = _coarsened(array, spacing)
    scanned = coarse[coarse > _FILL]
    dense = scanned[scanned > float(np.percentile(scanned, 0.5)) + 400.0] if scanned.size else scanned
    if dense.size == 0:
        return Box.whole(array.shape)
    bone = ndimage.binary_closing(
        np.pad(coarse > float(np.median(dense)) + _BONE, _CLOSING), iterations=_CLOSING
    )
    labels, count = ndimage.label(bone[(slice(_CLOSING, -_CLOSING),) * 3])
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])) if count else labels > 0
    return _fine_box(Box.around(largest), stride, _BONE_MARGIN, array, spacing)


def _coarsened(array: NDArray[Any], spacing: Triple) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Every n-th voxel along each axis, and those steps."""
    stride = tuple(max(1, round(_COARSE / s)) for s in spacing)
    return stride, np.asarray(array[tuple(slice(None, None, n) for n in stride)], dtype=np.float32)


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
    scanned = coarse[coarse > _FILL]
    if scanned.size == 0:
        return np.ones(coarse.shape, dtype=bool)
    air = float(np.percentile(scanned, 0.5))
    dense = scanned[scanned > air + 400.0]
    gap = float(np.median(dense)) - air if dense.size else 0.0
    if not _TISSUE_ABOVE_AIR[0] < gap < _TISSUE_ABOVE_AIR[1]:
        return np.ones(coarse.shape, dtype=bool)
    tissue: NDArray[np.bool_] = coarse > air + 500.0
    if air < -400.0:
        # Zero is water here. Blocks of exact zeros are padding: real tissue is noisy.
        tissue &= ~_opened(coarse == 0, 1)
    return tissue


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
