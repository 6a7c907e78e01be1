"""Distances between the surfaces of two masks, weighted by surface area.

The surface of a mask is the marching-cubes surface through the midpoints between voxel centres inside
and outside it, cut into one piece (*surfel*) per 2 x 2 x 2 neighbourhood. A surfel sits at the corner
its eight voxels share and weighs as much as its area in mm². The distance of a surfel is the Euclidean
distance in mm from its corner to the nearest surfel corner of the other mask. This is the definition
of Nikolov et al. (2018), "Deep learning to achieve clinically applicable segmentation of head and neck
anatomy for radiotherapy". Voxels beyond the array count as outside the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

from autospine.core.geometry import FloatArray, Triple

_CORNERS: Final = tuple(product((0, 1), repeat=3))
_FULL: Final = 255


@dataclass(frozen=True)
class SurfaceDistances:
    """Surfels of a reference and a predicted surface; distances ascend.

    Args:
        from_reference: Distance in mm of each reference surfel to the predicted surface, (n,).
        reference_areas: Its area in mm², (n,).
        from_prediction: Distance in mm of each predicted surfel to the reference surface, (m,).
        prediction_areas: Its area in mm², (m,).
    """

    from_reference: FloatArray
    reference_areas: FloatArray
    from_prediction: FloatArray
    prediction_areas: FloatArray

    def hausdorff(self, percent: float = 95) -> float:
        """HD95 in mm: the larger of the two directed, area-weighted percentiles of the distances.

        A directed percentile is the smallest distance within which ``percent`` of the one surface's
        area lies from the other surface.
        """
        return max(
            _percentile(self.from_reference, self.reference_areas, percent),
            _percentile(self.from_prediction, self.prediction_areas, percent),
        )

    @property
    def average(self) -> float:
        """ASSD in mm: the arithmetic mean of the two directed, area-weighted mean distances."""
        forth = (self.from_reference * self.reference_areas).sum() / self.reference_areas.sum()
        back = (self.from_prediction * self.prediction_areas).sum() / self.prediction_areas.sum()
        return float(forth + back) / 2

    def surface_dice(self, tolerance: float = 1.0) -> float:
        """NSD: share of both surfaces' total area that lies within ``tolerance`` mm of the other one."""
        near = self.reference_areas[self.from_reference <= tolerance].sum()
        near += self.prediction_areas[self.from_prediction <= tolerance].sum()
        return float(near / (self.reference_areas.sum() + self.prediction_areas.sum()))


def surface_distances(
    reference: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing: Triple
) -> SurfaceDistances:
    """Measure the two surfaces against each other.

    Args:
        reference: Mask (z, y, x) with at least one voxel; cropped closely, it is measured faster.
        prediction: Mask of the same shape with at least one voxel.
        spacing: mm along z, y, x.

    Raises:
        ValueError: A mask is empty; its surface has no distance to anything.
    """
    if not (reference.any() and prediction.any()):
        raise ValueError("Surface distances need two masks that are not empty.")
    areas = _surfel_areas(spacing)
    codes_r, codes_p = _corner_codes(reference), _corner_codes(prediction)
    on_r, on_p = (codes_r % _FULL) != 0, (codes_p % _FULL) != 0
    return SurfaceDistances(
        *_sorted(_nearest(on_r, on_p, spacing), areas[codes_r[on_r]]),
        *_sorted(_nearest(on_p, on_r, spacing), areas[codes_p[on_p]]),
    )


def _corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bit k of the code at a voxel corner tells whether the k-th of its eight voxels is inside."""
    padded = np.pad(mask, 1).view(np.uint8)
    shape = [n - 1 for n in padded.shape]
    codes = np.zeros(shape, dtype=np.uint8)
    for bit, offset in enumerate(_CORNERS):
        window = tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))
        codes |= padded[window] << np.uint8(bit)
    return codes


def _nearest(start: NDArray[np.bool_], target: NDArray[np.bool_], spacing: Triple) -> FloatArray:
    """Distance in mm of each ``start`` corner, in array order, to the nearest ``target`` corner."""
    distances = np.zeros(int(start.sum()))
    apart = ~target[start]
    if apart.any():
        # Most corners of a good prediction coincide with the reference's; only the others are searched.
        points, targets = np.argwhere(start)[apart], np.argwhere(target)
        tree = KDTree(targets * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
        nearest = targets[tree.query(points * np.asarray(spacing))[1]]
        # Whole-number differences keep a distance of exactly the tolerance exact.
        distances[apart] = np.sqrt((((points - nearest) * np.asarray(spacing)) ** 2).sum(axis=1))
    return distances


def _sorted(distances: FloatArray, areas: FloatArray) -> tuple[FloatArray, FloatArray]:
    order = np.lexsort((areas, distances))
    return distances[order], areas[order]


def _percentile(distances: FloatArray, areas: FloatArray, percent: float) -> float:
    share = np.cumsum(areas) / areas.sum()
    index = int(np.searchsorted(share, percent / 100))
    return float(distances[min(index, len(distances) - 1)])


def _surfel_areas(spacing: Triple) -> FloatArray:
    """Area in mm² of the surface within each of the 256 corner codes' cubes."""
    codes, triangles = _cube_triangles()
    corners = triangles * np.asarray(spacing)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.bincount(codes, weights=0.5 * np.linalg.norm(normals, axis=1), minlength=_FULL + 1)
    return np.asarray(areas, dtype=np.float64)


@cache
def _cube_triangles() -> tuple[NDArray[np.int64], FloatArray]:
    """Triangles (n, 3, 3) in voxel units of all codes' cubes, by Lorensen and Cline (1987), and their codes.

    A code and its complement share one surface, that of the smaller of the two sets of voxels: where
    voxels meet only across a diagonal, the minority is kept apart.
    """
    codes: list[int] = []
    triangles: list[NDArray[Any]] = []
    for code in range(1, _FULL):
        minority = code if code.bit_count() <= len(_CORNERS) // 2 else _FULL - code
        cube = np.zeros((2, 2, 2), dtype=np.float32)
        for bit, corner in enumerate(_CORNERS):
            cube[corner] = minority >> bit & 1
        vertices, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        triangles.append(vertices[faces].astype(np.float64))
        codes += [code] * len(faces)
    return np.asarray(codes), np.concatenate(triangles)
