"""Sagittal planes that are bent along with the spine: on them every column is straight.

All bodies of a scoliotic column lie in one such plane, and those of a kyphotic one in one row of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import FloatArray, Triple
from autospine.vertebrae.spine_curve import SpineCurve

#: How far the planes reach in front of the curve and behind it, mm.
_FRONT: Final = 60.0
_BACK: Final = 90.0


@dataclass(frozen=True, eq=False)
class CurvedPlanes:
    """A mask on parallel curved planes.

    Args:
        shares: How much of each pixel the mask fills, 0..1, shape (k, n, m): k planes, n rows along the
            curve from foot to head, m columns from front to back; float32.
        curve: The rows' places.
        offsets: How far left of the curve each plane runs, mm, (k,).
        behind: How far behind the curve each column runs, mm, (m,).
    """

    shares: NDArray[np.float32]
    curve: SpineCurve
    offsets: FloatArray
    behind: FloatArray

    @property
    def pixel(self) -> float:
        """Edge of the square pixels, mm."""
        return self.curve.step

    @property
    def filled(self) -> NDArray[np.bool_]:
        """The mask on the planes, (k, n, m)."""
        return self.shares >= 0.5

    def places(self, plane: int, rows: NDArray[Any], columns: NDArray[Any]) -> FloatArray:
        """Where pixels of a plane lie: (..., 3), mm along z, y, x."""
        return self.curve.beside(rows, self.behind[columns], self.offsets[plane])


def curved_planes(
    mask: NDArray[np.bool_], spacing: Triple, curve: SpineCurve, offsets: FloatArray
) -> CurvedPlanes:
    """Sample a mask, interpolated linearly, on sagittal planes that follow a curve.

    Args:
        mask: Shape (z, y, x) in canonical orientation.
        spacing: Millimetres between voxels along z, y, x.
        curve: What they follow; its points are as far apart as the pixels are wide.
        offsets: How far left of the curve each plane runs, mm, (k,).
    """
    behind = np.arange(-_FRONT, _BACK, curve.step)
    rows = np.arange(len(curve.points))[:, None]
    values = mask.astype(np.float32)
    shares = []
    for offset in offsets:
        index = np.moveaxis(curve.beside(rows, behind, offset) / spacing, -1, 0)
        shares.append(ndimage.map_coordinates(values, index, np.float32, order=1, cval=0.0))
    return CurvedPlanes(np.stack(shares), curve, offsets, behind)
