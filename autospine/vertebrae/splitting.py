"""Groups that hold several vertebrae, taken apart.

Where bodies stand closely, in the neck, votes for neighbouring centres may flow together. Such a group is
too large for one vertebra, and its voxels are called by several names in different places. Neither alone is
enough: vertebrae vary in size, and one vertebra may well have two names in it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import FloatArray

#: A group is too large from this many times its expected volume on, beside the scan's other groups.
_FUSED: Final = 1.5
#: Share of a group's voxels that must have a name for it to mark a vertebra.
_SHARE: Final = 0.15
#: Vertebrae that are named apart stand at least this far apart, mm.
_APART: Final = 9.0


def too_large(sizes: FloatArray) -> NDArray[np.bool_]:
    """Which groups are too large for one vertebra, by their volume over the expected one (k,)."""
    usual = float(np.median(sizes)) if len(sizes) else 1.0
    return np.asarray(sizes > _FUSED * usual)


def split_fused(
    places: FloatArray,
    numbers: NDArray[np.intp],
    names: NDArray[np.intp],
    centres: FloatArray,
    sizes: FloatArray,
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Take groups apart that hold several vertebrae.

    Args:
        places: Where voxels lie, (n, 3), mm along z, y, x of the oriented scan.
        numbers: Group of each voxel, from 0, (n,); -1 for none.
        names: Most probable level of each voxel, (n,).
        centres: Of the groups, (k, 3), mm.
        sizes: Volume of each group over its expected one, (k,).

    Returns:
        Centres of the groups after splitting, from head to foot, and the new number of each voxel.
    """
    found, result = list(centres), numbers.copy()
    for group in np.flatnonzero(too_large(sizes)):
        inside = np.flatnonzero(numbers == group)
        parts, count = _parts(places[inside], names[inside])
        if count < 2:
            continue
        # A part's body lies from its voxels' middle as the group's body lies from that of all.
        ahead = centres[group] - places[inside].mean(axis=0)
        for part in range(count):
            mine = inside[parts == part]
            centre = places[mine].mean(axis=0) + ahead
            if part == 0:
                found[group] = centre
            else:
                result[mine] = len(found)
                found.append(centre)
    return _from_head_to_foot(np.array(found).reshape(-1, 3), result)


def _parts(places: FloatArray, names: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Which part of its group each voxel belongs to, and how many parts there are.

    A part is what has a frequent name, if its middle is not too near to that of a more frequent one; voxels
    of other names belong to the nearest middle.
    """
    counts = np.bincount(names)
    chosen: list[int] = []
    middles: list[FloatArray] = []
    for name in np.argsort(-counts, kind="stable"):
        middle = places[names == name].mean(axis=0) if counts[name] else None
        if middle is None or counts[name] < _SHARE * len(names):
            break
        if all(np.linalg.norm(middle - other) >= _APART for other in middles):
            chosen.append(int(name))
            middles.append(middle)
    distances = ((places[:, None] - np.array(middles).reshape(-1, 3)) ** 2).sum(axis=2)
    parts = distances.argmin(axis=1) if chosen else np.zeros(len(names), dtype=np.intp)
    for part, name in enumerate(chosen):
        parts[names == name] = part
    return parts, len(chosen)


def _from_head_to_foot(centres: FloatArray, numbers: NDArray[np.intp]) -> tuple[FloatArray, NDArray[np.intp]]:
    order = np.argsort(-centres[:, 0], kind="stable")
    rank = np.empty(len(order) + 1, dtype=np.intp)
    rank[order] = np.arange(len(order))
    rank[-1] = -1  # what belongs to no group stays so
    return centres[order], rank[numbers]
