"""Telling Hounsfield units from intensities that were shifted to be non-negative."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FAT_FLOOR: Final = -120  # HU; unshifted scans have fat, lung or air below, shifted ones next to nothing
_SHIFTED_AIR: Final = 300  # shifted by about 1000, air lies below this and fat far above
_SOFT_TISSUE: Final = 600  # shifted soft tissue lies above, unshifted one below
_FEW: Final = 1e-3  # share of voxels that counts as next to nothing
_BIN: Final = 4
_AIR: Final = -1000  # HU
_SHIFTS: Final = (1000, 1024)


def detect_shift(array: NDArray[Any]) -> int:
    """How far the intensities of a CT lie above Hounsfield units: 0, 1000 or 1024.

    Air lies at -1000 HU and fat at -100 HU, so a scan with voxels well below zero is not shifted; nor is
    one whose brightest hundredth stays below 600. Otherwise the most frequent value below 300 is where
    air came to lie: near 0 after a shift by 1000, near 24 after one by 1024. Zeros do not
    count, they may be padding. Without any air the shift is taken to be 1000.

    Args:
        array: Intensities of shape (1, z, y, x).
    """
    if np.count_nonzero(array < _FAT_FLOOR) > _FEW * array.size:
        return 0
    if float(np.percentile(array, 99)) < _SOFT_TISSUE:
        return 0
    low = array[(array < _SHIFTED_AIR) & (array != 0)]
    if low.size <= _FEW * array.size:
        return _SHIFTS[0]
    counts, edges = np.histogram(low, bins=np.arange(-_SHIFTED_AIR, _SHIFTED_AIR + _BIN, _BIN))
    air = float(edges[int(np.argmax(counts))]) + _BIN / 2
    return min(_SHIFTS, key=lambda shift: abs(shift + _AIR - air))


def subtract(array: NDArray[Any], shift: int) -> NDArray[Any]:
    """Intensities minus ``shift``, integers in a signed type wide enough for both ends."""
    if not shift:
        return array
    if not np.issubdtype(array.dtype, np.integer):
        return np.asarray(array - shift)
    low, high = int(array.min()) - shift, int(array.max()) - shift
    narrow = np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max
    return np.asarray(array.astype(np.int16 if narrow else np.int32) - shift)
