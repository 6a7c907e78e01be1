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
from functools import cache, lru_cache
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

from autospine.core.geometry import FloatArray, Triple

_CORNERS: Final = tuple(product((0, 1), repeat=3))
_FULL: Final = 255
#: How many voxels around a corner are looked at, along each axis, before anything is searched.
_REACH: Final = 2
#: Up to so many corners are searched by comparing them with all corners of the other mask.
_FEW: Final = 16


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
    first, second = _Surface.of(reference), _Surface.of(prediction)
    return SurfaceDistances(
        *_sorted(_distances(first, second, spacing), first.codes, spacing),
        *_sorted(_distances(second, first, spacing), second.codes, spacing),
    )


@dataclass(frozen=True)
class _Surface:
    """The surfels of a mask. A corner's number is the flat index of the voxel before it, in the padded mask.

    Args:
        shape: Of the padded mask, which lets steps of ``_REACH`` from a surfel stay inside.
        present: Whether a surfel sits at a corner, by number.
        corners: Numbers of the corners where one does, ascending (n,).
        codes: Their corner codes, (n,).
    """

    shape: tuple[int, ...]
    present: NDArray[np.bool_]
    corners: NDArray[np.int64]
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> _Surface:
        """The surface of a mask (z, y, x)."""
        padded = np.pad(mask, 1 + _REACH)
        codes = _corner_codes(padded)
        present = (codes != 0) & (codes != _FULL)
        corners = np.flatnonzero(present)
        return cls(padded.shape, present, corners, codes[corners])

    def places(self, corners: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions (n, 3) of corners, in voxels."""
        return np.stack(np.unravel_index(corners, self.shape), axis=-1)


def _corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Bit k of the code at a voxel corner tells whether the k-th of its eight voxels is inside.

    Args:
        mask: Voxels (z, y, x), the outermost all outside: a row's last voxel and the next row's first, which
            are neighbours in memory alone, then make no surface.

    Returns:
        The code of the corner behind each voxel, in the order of the voxels; for the last ones there is none.
    """
    codes = mask.view(np.uint8).ravel()
    for step, weight in zip(_strides(mask.shape)[::-1], (2, 4, 16), strict=True):
        codes = codes[:-step] | codes[step:] * np.uint8(weight)
    return codes


def _strides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Difference between the flat indices of neighbours along z, y, x."""
    return shape[1] * shape[2], shape[2], 1


def _distances(start: _Surface, target: _Surface, spacing: Triple) -> FloatArray:
    """Distance in mm of each ``start`` corner to the nearest ``target`` corner.

    Most corners of a good prediction coincide with the reference's, and most others are a voxel or two
    away, which looking around them tells. Only the rest is searched.
    """
    distances = np.zeros(len(start.corners))
    far = np.flatnonzero(~target.present[start.corners])
    for distance, offsets in _shells(spacing):
        steps = offsets @ _strides(start.shape)
        near = target.present[start.corners[far] + steps[:, None]].any(axis=0)
        distances[far[near]] = distance
        far = far[~near]
        if not far.size:
            return distances
    places, targets = start.places(start.corners[far]), target.places(target.corners)
    distances[far] = _lengths(places - targets[_nearest(places, targets, spacing)], spacing)
    return distances


@lru_cache
def _shells(spacing: Triple) -> list[tuple[float, NDArray[np.int64]]]:
    """Each distance in mm from a corner to others near it, ascending, and the steps (n, 3) there in voxels.

    A distance has all its steps: the largest is below that of the shortest step beyond ``_REACH``.
    """
    offsets = np.asarray(list(product(range(-_REACH, _REACH + 1), repeat=3)))
    lengths = _lengths(offsets, spacing)
    inside = (lengths > 0) & (lengths < (_REACH + 1) * min(spacing))
    return [(float(length), offsets[inside & (lengths == length)]) for length in np.unique(lengths[inside])]


def _lengths(steps: NDArray[np.int64], spacing: Triple) -> FloatArray:
    """Lengths in mm of steps in voxels: whole numbers keep a length of exactly the tolerance exact."""
    return np.asarray(np.sqrt(((steps * np.asarray(spacing)) ** 2).sum(axis=1)))


def _nearest(places: NDArray[np.int64], targets: NDArray[np.int64], spacing: Triple) -> NDArray[np.int64]:
    """Index of the target nearest to each place."""
    if len(places) <= _FEW:
        return np.asarray([_lengths(place - targets, spacing).argmin() for place in places])
    # Its import takes as long as scoring several cases, and good predictions do without.
    from scipy.spatial import KDTree

    tree = KDTree(targets * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(places * np.asarray(spacing))[1])


def _sorted(
    distances: FloatArray, codes: NDArray[np.uint8], spacing: Triple
) -> tuple[FloatArray, FloatArray]:
    """The distances of surfels and their areas, ordered by distance, then by area."""
    areas = _surfel_areas(spacing)
    # Sorting small whole numbers takes a tenth of the time that sorting areas does.
    by_area = np.argsort(_area_ranks(spacing)[codes], kind="stable")
    order = by_area[np.argsort(distances[by_area], kind="stable")]
    return distances[order], areas[codes[order]]


def _percentile(distances: FloatArray, areas: FloatArray, percent: float) -> float:
    share = np.cumsum(areas) / areas.sum()
    index = int(np.searchsorted(share, percent / 100))
    return float(distances[min(index, len(distances) - 1)])


@lru_cache
def _surfel_areas(spacing: Triple) -> FloatArray:
    """Area in mm² of the surface within each of the 256 corner codes' cubes."""
    codes, triangles = _cube_triangles()
    corners = triangles * np.asarray(spacing)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.bincount(codes, weights=0.5 * np.linalg.norm(normals, axis=1), minlength=_FULL + 1)
    return np.asarray(areas, dtype=np.float64)


@lru_cache
def _area_ranks(spacing: Triple) -> NDArray[np.uint8]:
    """Place of each of the 256 corner codes' areas among the different areas, ascending."""
    return np.unique(_surfel_areas(spacing), return_inverse=True)[1].astype(np.uint8)


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
