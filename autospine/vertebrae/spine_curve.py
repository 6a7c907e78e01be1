"""The line along which a spine is bent, and places told by it: how far along, behind and beside.

Places are mm along the canonical axes z, y, x, to superior, posterior and left, from the first voxel on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from autospine.core.geometry import FloatArray, Triple

_TINY: Final = 1e-9
#: Slopes are fitted this much more widely than places: at an end they would follow its last vertebra alone.
_SLOPE: Final = 2.0
#: A curve goes on straight by this much, mm, beyond what it was fitted to: the bodies at its ends are tilted.
_BEYOND: Final = 20.0


@dataclass(frozen=True, eq=False)
class SpineCurve:
    """A smooth curve from foot to head.

    Args:
        points: Places on it, ``step`` mm apart, (n, 3).
        tangents: Its unit directions there, (n, 3).
        step: Distance between points along the curve, mm.
    """

    points: FloatArray
    tangents: FloatArray
    step: float

    @classmethod
    def through(cls, points: FloatArray, step: float) -> SpineCurve:
        """The curve that joins points (n, 3), n >= 2, and goes on straight a little at both ends."""
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        wanted = np.arange(0.0, arc[-1], step)
        inner = np.stack([np.interp(wanted, arc, axis) for axis in points.T], axis=1)
        first, last = points[1] - points[0], points[-1] - points[-2]
        more = step * np.arange(1, round(_BEYOND / step) + 1)[:, None]
        below = inner[0] - more[::-1] * first / np.linalg.norm(first)
        above = inner[-1] + more * last / np.linalg.norm(last)
        places = np.concatenate([below, inner, above])
        tangents = np.gradient(places, axis=0)
        return cls(places, tangents / np.linalg.norm(tangents, axis=1, keepdims=True), step)

    def beside(self, rows: Any, behind: Any, left: Any) -> FloatArray:
        """Places (..., 3) so many mm behind and to the left of the points ``rows`` (...); all broadcast."""
        z, y, x = self.tangents.T
        # Square to the curve: first within the sagittal plane, then across both.
        backwards = np.stack([-y, z, np.zeros_like(x)], axis=1)
        backwards /= np.linalg.norm(backwards, axis=1, keepdims=True)
        sideways = np.cross(self.tangents, backwards)
        back, side = np.asarray(behind)[..., None], np.asarray(left)[..., None]
        return np.asarray(self.points[rows] + back * backwards[rows] + side * sideways[rows])

    def along(self, places: FloatArray) -> FloatArray:
        """How far along the curve places (n, 3) lie, mm, (n,); measured square to its nearest point."""
        _, nearest = cKDTree(self.points).query(places)
        offsets = places - self.points[nearest]
        return np.asarray(self.step * nearest + (offsets * self.tangents[nearest]).sum(axis=1))


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


def smooth_curve(centres: FloatArray, weights: FloatArray, smoothing: float, step: float) -> SpineCurve:
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
        near = _shares(offsets, weights, smoothing)
        wide = _shares(offsets, weights, _SLOPE * smoothing)
        middle = wide @ offsets
        spread = wide @ (offsets - middle) ** 2
        slope = (wide * (offsets - middle)) @ centres[:, 1:] / max(spread, _TINY)
        points[i] = height, *(near @ centres[:, 1:] - (near @ offsets) * slope)
    return SpineCurve.through(points, step)


def _shares(offsets: FloatArray, weights: FloatArray, smoothing: float) -> FloatArray:
    """Weights by a Gaussian, of sum 1; measured from the nearest offset, they never all vanish."""
    closeness = 0.5 * (offsets**2 - (offsets**2).min()) / smoothing**2
    share = weights * np.exp(-closeness)
    return np.asarray(share / share.sum())
