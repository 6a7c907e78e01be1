"""Vertebrae told apart in a mask of all of them, by k-means and k-nearest-neighbours, without any training.

After Altini et al. (Informatics 2021, 8(2):40), made automatic: they crop to the true mask, choose a slice by
hand and are told the number of vertebrae, and their single neighbour knows heights only. Here the planes
follow the spine, the number is what most planes show, and neighbours are sought in mm and along the spine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from autospine.core.errors import GeometryError
from autospine.core.geometry import Box, FloatArray, Grid, Orientation, Triple
from autospine.vertebrae.blobs import by_blob, by_component
from autospine.vertebrae.bodies_and_arches import Piece, couple, curve_of_bodies, middle
from autospine.vertebrae.body_rows import BodyRows, find_rows
from autospine.vertebrae.centroids import body_centres
from autospine.vertebrae.counted_names import names_from_anchor
from autospine.vertebrae.curved_planes import CurvedPlanes, curved_planes
from autospine.vertebrae.kmeans_knn_settings import KMeansKnn
from autospine.vertebrae.spine_curve import SpineCurve

__all__ = ["Instances", "KMeansKnn", "names_from_anchor", "separate_vertebrae"]

_DEFAULT: Final = KMeansKnn()


@dataclass(frozen=True, eq=False)
class Instances:
    """Vertebrae without names.

    Args:
        numbers: Shape (z, y, x), on the mask's grid; 0 is background, 1..n are vertebrae from head to foot.
        centres: LPS world positions (x, y, z) in mm of the middles of their bodies, (n, 3).
        whole: Which bodies keep clear of the scan's upper and lower border, (n,).
    """

    numbers: NDArray[np.uint8]
    centres: FloatArray
    whole: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class _Training:
    """Points of which the vertebra is known.

    Args:
        places: Shape (k, 3), mm along the canonical z, y, x.
        numbers: Vertebra of each, from 1, (k,).
        bodies: Which of them lie in bodies, (k,).
    """

    places: FloatArray
    numbers: NDArray[np.uint8]
    bodies: NDArray[np.bool_]


def separate_vertebrae(mask: NDArray[np.bool_], grid: Grid, settings: KMeansKnn = _DEFAULT) -> Instances:
    """Number the vertebrae of a mask.

    Args:
        mask: All vertebrae, and nothing else, of shape ``grid.shape``; in any orientation.
        grid: The lattice of the mask.
        settings: All constants.

    Returns:
        Every voxel of the mask has a number; none has where nothing is as thick as a body.

    Raises:
        GeometryError: Mask and grid have different shapes.
    """
    if mask.shape != grid.shape:
        raise GeometryError(f"A mask of shape {mask.shape} does not fit a grid of {grid.shape}.")
    numbers = np.zeros(grid.shape, dtype=np.uint8)
    nothing = Instances(numbers, np.empty((0, 3)), ())
    orientation = Orientation.to_canonical(grid)
    turned = orientation.apply(mask)
    box = Box.around(turned)
    if box is None:
        return nothing
    lattice = orientation.apply_grid(grid).cropped(box)
    inner = np.ascontiguousarray(turned[box.slices])
    curve = curve_of_bodies(inner, lattice.spacing, settings)
    training = None if curve is None else _train(inner, lattice.spacing, curve, settings)
    if curve is None or training is None:
        return nothing
    found = _numbered(inner, lattice.spacing, curve, training, settings)
    orientation.apply(numbers)[box.slices] = found
    above, below = turned.shape[0] - box.stop[0], box.start[0]
    whole = _whole(training, inner.shape[0], (below, above), lattice.spacing[0], settings.border)
    return Instances(numbers, _centres(found, training, lattice), whole)


def _train(
    mask: NDArray[np.bool_], spacing: Triple, curve: SpineCurve, settings: KMeansKnn
) -> _Training | None:
    """Points in bodies and arches on the planes that agree; None when no plane shows a body."""
    planes = curved_planes(mask, spacing, curve, settings.offsets(settings.reach))
    found = find_rows(planes, settings)
    count = 0 if found is None else _count(found.rows, planes.offsets, settings)
    if found is None or count == 0:
        return None
    return _points(found, _agreeing(found.rows, count, planes), planes, settings)


def _count(rows: Sequence[Sequence[Piece]], offsets: FloatArray, settings: KMeansKnn) -> int:
    """The number of bodies that most planes show, the middle ones before others."""
    counts = np.array([len(row) for row in rows])
    weights = np.exp(-0.5 * (offsets / settings.centred) ** 2) * (counts > 0)
    return int(np.bincount(counts, weights).argmax())


def _agreeing(rows: Sequence[Sequence[Piece]], count: int, planes: CurvedPlanes) -> list[int]:
    """Planes that show ``count`` bodies, and show them where the most regular one of them does."""
    right = [k for k, row in enumerate(rows) if len(row) == count]
    heights = {k: np.array([middle(body, planes)[0] for body in rows[k]]) for k in right}
    areas = {k: np.array([float(body.area) for body in rows[k]]) for k in right}
    best = min(right, key=lambda k: (_irregularity(heights[k], areas[k]), abs(planes.offsets[k])))
    apart = np.median(np.diff(heights[best])) if count > 1 else np.inf
    return [k for k in right if (abs(heights[k] - heights[best]) < apart / 2).all()]


def _irregularity(heights: FloatArray, areas: FloatArray) -> float:
    """How unsteadily spacing and area change from body to body; 0 for fewer than three bodies.

    Of their logarithms, for both grow steadily from head to foot.
    """
    if len(heights) < 3:
        return 0.0
    return float(np.diff(np.log(np.diff(heights))).std() + np.diff(np.log(areas)).std())


def _points(found: BodyRows, chosen: Sequence[int], planes: CurvedPlanes, settings: KMeansKnn) -> _Training:
    """Training points of the chosen planes."""
    places, numbers, bodies = [], [], []
    for k in chosen:
        row = found.rows[k]
        known = [(body, i, True) for i, body in enumerate(row)]
        known += [(arch, i, False) for arch, i in couple(found.arches[k], row, planes)]
        for piece, index, is_body in known:
            thinned = slice(None, None, settings.thinning)
            places.append(planes.places(k, piece.rows[thinned], piece.columns[thinned]))
            numbers.append(np.full(len(places[-1]), len(row) - index, dtype=np.uint8))
            bodies.append(np.full(len(places[-1]), is_body))
    return _Training(np.concatenate(places), np.concatenate(numbers), np.concatenate(bodies))


def _numbered(
    mask: NDArray[np.bool_], spacing: Triple, curve: SpineCurve, training: _Training, settings: KMeansKnn
) -> NDArray[np.uint8]:
    """The vertebra of every voxel of a mask (z, y, x)."""
    numbers = np.zeros(mask.shape, dtype=np.uint8)
    numbers[mask] = _nearest(training, np.argwhere(mask) * np.asarray(spacing), curve, settings)
    bodies = np.zeros_like(numbers)
    index = np.rint(training.places[training.bodies] / spacing).astype(np.intp)
    # Planes are sampled between voxels, so that a point may lie half a voxel outside.
    index = np.clip(index, 0, np.array(mask.shape) - 1)
    bodies[tuple(index.T)] = training.numbers[training.bodies]
    bodies[~mask] = 0
    settled, several = by_component(numbers, bodies)
    settled = by_blob(settled, several, spacing, settings.blobs, settings.agreed)
    # A sliver of a vertebra may have been outvoted altogether: its body is its own.
    lost = np.setdiff1d(bodies[bodies > 0], settled)
    return np.where(np.isin(bodies, lost), bodies, settled)


def _nearest(
    training: _Training, places: FloatArray, curve: SpineCurve, settings: KMeansKnn
) -> NDArray[np.uint8]:
    """What most of the nearest training points of each place (n, 3) are; of equals, the nearest."""
    known, asked = (
        np.column_stack([points, settings.arc * curve.along(points)]) for points in (training.places, places)
    )
    count = min(settings.neighbours, len(known))
    _, index = cKDTree(known).query(asked, k=range(1, count + 1))
    votes = training.numbers[index]
    agreeing = np.stack([(votes == votes[:, [i]]).sum(axis=1) for i in range(count)], axis=1)
    return np.asarray(votes[np.arange(len(votes)), agreeing.argmax(axis=1)])


def _centres(numbers: NDArray[np.uint8], training: _Training, lattice: Grid) -> FloatArray:
    """Middles of the bodies, LPS mm, (n, 3): seen from whole vertebrae, or else from the training points."""
    seen = body_centres(numbers, lattice)
    centres = []
    for number in range(1, int(training.numbers.max()) + 1):
        mine = training.bodies & (training.numbers == number)
        middle_of_points = lattice.to_world(training.places[mine].mean(axis=0) / lattice.spacing)
        centres.append(seen.get(number, middle_of_points))
    return np.array(centres)


def _whole(
    training: _Training, slices: int, margins: tuple[int, int], thickness: float, border: float
) -> tuple[bool, ...]:
    """Which bodies keep clear of the scan's border.

    Args:
        training: Points in the bodies.
        slices: Axial slices of the mask's box.
        margins: Slices below and above it.
        thickness: Of a slice, mm.
        border: How near to it a body is cut, mm.
    """
    nearest = max(border, thickness)
    floor, ceiling = -margins[0] * thickness, (slices - 1 + margins[1]) * thickness
    whole = []
    for number in range(1, int(training.numbers.max()) + 1):
        heights = training.places[training.bodies & (training.numbers == number), 0]
        whole.append(bool(heights.min() - floor > nearest and ceiling - heights.max() > nearest))
    return tuple(whole)
