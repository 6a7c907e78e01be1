"""Sagittal planes that are bent along with the spine: on them every column is straight.

All bodies of a scoliotic column lie in one such plane, and those of a kyphotic one in one row of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import FloatArray, Triple
from autospine.vertebrae.spine_curve import SpineCurve


@dataclass(frozen=True, eq=False)
class CurvedPlanes:
    """A mask on parallel curved planes.

    Args:
        masks: Of shape (k, n, m): k planes, n rows along the curve from foot to head, m columns from front to
            back.
        curve: The rows' places; its points are as far apart as the pixels are wide.
        offsets: How far left of the curve each plane runs, mm, (k,).
        behind: How far behind the curve each column runs, mm, (m,).
        pixel: Edge of the pixels, mm.
    """

    masks: NDArray[np.bool_]
    curve: SpineCurve
    offsets: FloatArray
    behind: FloatArray
    pixel: float

    def places(self, plane: Any, rows: Any, columns: Any) -> FloatArray:
        """Where pixels lie: shape (..., 3), mm along z, y, x."""
        return self.curve.beside(rows, self.behind[columns], self.offsets[plane])


def curved_planes(
    mask: NDArray[np.bool_],
    spacing: Triple,
    curve: SpineCurve,
    offsets: FloatArray,
    behind: tuple[float, float],
) -> CurvedPlanes:
    """Sample a mask on sagittal planes that follow a curve; it is interpolated linearly where it is coarser.

    Args:
        mask: Shape (z, y, x) in canonical orientation.
        spacing: Millimetres between voxels along z, y, x.
        curve: What they follow; the distance between its points is that between pixels.
        offsets: How far left of the curve each plane runs, mm, (k,).
        behind: From where to where the planes reach behind the curve, mm; negative is in front.
    """
    pixel = curve.step
    columns = np.arange(behind[0], behind[1], pixel)
    rows = np.arange(len(curve.points))[:, None]
    values = mask.astype(np.float32)
    planes = []
    for offset in offsets:
        index = curve.beside(rows, columns, np.float64(offset)) / spacing
        filled = ndimage.map_coordinates(values, np.moveaxis(index, -1, 0), np.float32, order=1, cval=0.0)
        planes.append(filled >= 0.5)
    return CurvedPlanes(np.stack(planes), curve, offsets, columns, pixel)
