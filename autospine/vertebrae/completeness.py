"""How much of each found vertebra is in view, judged by its volume.

Only a vertebra that reaches the upper or lower border of the scan can be cut by it. What it should measure
follows from the data set's typical volumes and from the size of the patient's other vertebrae.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core import anatomy
from autospine.core.geometry import FloatArray, Triple
from autospine.vertebrae.volumes import voxel_counts

#: Share in view below which a vertebra counts as cut. On phantoms, whose labels leave out what is less than
#: 93 % in view, it finds as many of the cut ones at the border as it spares of the whole ones there.
CUT_BELOW: Final = 0.85

_TOLERANCE: Final = 2.0  # mm from the border within which a vertebra reaches it; one voxel at least


def visible_shares(
    instances: NDArray[Any],
    spacing: Triple,
    levels: Sequence[int],
    volumes: Mapping[int, float],
) -> tuple[float, ...]:
    """Estimated share of every vertebra that lies in the field of view.

    A vertebra away from the upper and lower border is whole. For others it is the volume over the expected
    one: the level's typical volume times the patient's size, which is the median ratio of the two over the
    scan's whole vertebrae (1 where there are none).

    Args:
        instances: Vertebrae of shape (z, y, x), axes to superior, posterior, left; values 1..k, 0 is
            background.
        spacing: Millimetres between voxels along z, y, x.
        levels: Anatomical label, 1..26, of the vertebrae 1..k.
        volumes: Typical volume in mm³ of a whole vertebra by anatomical label. Levels it lacks are
            interpolated between their neighbours; without any, every vertebra counts as whole.

    Returns:
        One share a vertebra, 0..1; 0 for one without voxels.
    """
    boxes = ndimage.find_objects(instances, max_label=len(levels))
    counts = voxel_counts(instances, len(levels))[1:]
    measured = counts * float(np.prod(spacing))
    if not volumes:
        return tuple(float(count > 0) for count in counts)
    steps = max(1, round(_TOLERANCE / spacing[0]))
    cut = [
        box is not None and (box[0].start < steps or box[0].stop > len(instances) - steps) for box in boxes
    ]
    typical = _typical(levels, volumes)
    whole = (counts > 0) & ~np.array(cut, dtype=bool)
    size = float(np.median((measured / typical)[whole])) if whole.any() else 1.0
    shares = np.where(whole, 1.0, np.minimum(1.0, measured / (typical * size)))
    return tuple(float(share) for share in shares)


def _typical(levels: Sequence[int], volumes: Mapping[int, float]) -> FloatArray:
    """Typical volumes (k,) in mm³ of some levels."""
    known = sorted(volumes, key=anatomy.rank_of)
    ranks = [anatomy.rank_of(level) for level in levels]
    return np.interp(ranks, [anatomy.rank_of(level) for level in known], [volumes[level] for level in known])
