"""The line along which a spine is bent, and places told by it: how far along, behind and beside.

Places are mm along the canonical axes z, y, x (to superior, posterior and left), counted from the first voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from autospine.core.geometry import FloatArray, Triple

_TINY: Final = 1e-9
#: A curve goes on straight beyond what it was fitted to by this much, mm: bodies at its ends are tilted.
_BEYOND: Final = 20.0


@dataclass(frozen=True, eq=False)
class SpineCurve:
    """A smooth curve from foot to head.

    Args:
        points: Equidistant places on it, (n, 3), mm; two at least.
        tangents: Its unit directions at the points, (n, 3).
        step: Distance between points, mm.
    """

    points: FloatArray
    tangents: FloatArray
    step: float

    @classmethod
    def through(cls, points: FloatArray, step: float) -> SpineCurve:
        """The curve that joins points (n, 3), n >= 2, and goes on straight a little at both ends."""
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        wanted = np.arange(0.0, arc[-1] + step, step)
        inner = np.stack([np.interp(wanted, arc, axis) for axis in points.T], axis=1)
        first, last = points[1] - points[0], points[-1] - points[-2]
        more = step * np.arange(1, round(_BEYOND / step) + 1)[:, None]
        below = points[0] - more[::-1] * first / np.linalg.norm(first)
        above = inner[-1] + more * last / np.linalg.norm(last)
        places = np.concatenate([below, inner, above])
        tangents = np.gradient(places, axis=0)
        return cls(places, tangents / np.linalg.norm(tangents, axis=1, keepdims=True), step)

    @property
    def backwards(self) -> FloatArray:
        """Unit directions square to the curve in the sagittal plane, to posterior, (n, 3)."""
        z, y, x = self.tangents.T
        result = np.stack([-y, z, np.zeros_like(x)], axis=1)
        return result / np.linalg.norm(result, axis=1, keepdims=True)

    def beside(self, rows: Any, behind: Any, left: Any) -> FloatArray:
        """Places (..., 3) so many mm behind and to the left of the curve's points ``rows``."""
        back, sideways = self.backwards, np.cross(self.tangents, self.backwards)
        return (
            self.points[rows]
            + np.asarray(behind)[..., None] * back[rows]
            + np.asarray(left)[..., None] * sideways[rows]
        )

    def along(self, places: FloatArray) -> FloatArray:
        """How far along the curve places (n, 3) lie, mm, (n,): measured at the nearest point, square to it."""
        _, nearest = cKDTree(self.points).query(places)
        return self.step * nearest + ((places - self.points[nearest]) * self.tangents[nearest]).sum(axis=1)


def curve_of_mask(mask: NDArray[Any], spacing: Triple, smoothing: float, step: float) -> SpineCurve:
    """The smoothed centres of mass of a mask's axial slices.

    A single slice cuts a body here and only arches there: its own centre leaps to and fro, and only the mean
    over about a vertebra's height follows the spine.

    Args:
        mask: Non-empty, shape (z, y, x) in canonical orientation.
        spacing: Millimetres between voxels along z, y, x.
        smoothing: Standard deviation in mm of the Gaussian that weighs neighbouring slices.
        step: Distance between the curve's points, mm.
    """
    areas = mask.sum(axis=(1, 2)).astype(float)
    filled = areas > 0
    rows = mask.sum(axis=2)[filled] @ np.arange(mask.shape[1]) * spacing[1]
    columns = mask.sum(axis=1)[filled] @ np.arange(mask.shape[2]) * spacing[2]
    heights = np.flatnonzero(filled) * spacing[0]
    centres = np.stack([heights, rows / areas[filled], columns / areas[filled]], axis=1)
    return smooth_curve(centres, areas[filled], smoothing, step)


def smooth_curve(
    centres: FloatArray, weights: FloatArray, smoothing: float, step: float
) -> SpineCurve:
    """A local straight line at every height, fitted to what is known around it.

    Local lines, unlike local means, do not bend the ends of a sloping curve inwards (Cleveland, JASA 1979).

    Args:
        centres: What is known of the curve, (k, 3), mm; one at least.
        weights: What each of them counts, (k,); positive.
        smoothing: Standard deviation in mm of the Gaussian along z.
        step: Distance between the curve's points, mm.
    """
    known = centres[:, 0]
    heights = np.arange(known.min(), known.max() + 2 * step, step)
    points = np.empty((len(heights), 3))
    for i, height in enumerate(heights):
        offsets = known - height
        # Measured from the nearest one, the weights never all vanish.
        closeness = 0.5 * (offsets**2 - (offsets**2).min()) / smoothing**2
        share = weights * np.exp(-closeness)
        share /= share.sum()
        middle = share @ offsets
        spread = share @ (offsets - middle) ** 2
        slope = (share * (offsets - middle)) @ centres[:, 1:] / max(spread, _TINY)
        points[i] = height, *(share @ centres[:, 1:] - middle * slope)
    return SpineCurve.through(points, step)
