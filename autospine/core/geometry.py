"""Where voxels are: grids, boxes and axis orientation, in array order z, y, x.

World coordinates are LPS millimetres (x to the patient's left, y to posterior, z to superior), as in
DICOM and SimpleITK. An array index ``(z, y, x)`` lies at ``origin + direction @ (spacing * index)``,
where the columns of ``direction`` are the world directions of the array's axes *in array order*.

A grid is *canonical* when its axes run, as closely as axis swaps and flips allow, to superior,
posterior and left: the array order of an image with identity direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import GeometryError

_T = TypeVar("_T")

FloatArray = NDArray[np.float64]
Triple = tuple[float, float, float]

#: World axes (rows of a direction matrix) that the canonical array axes z, y, x follow.
_CANONICAL_WORLD_AXES: Final = (2, 1, 0)
_SINGULAR: Final = 1e-4


@dataclass(frozen=True)
class Box:
    """A half-open index box ``[start, stop)`` in array order."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Edge lengths in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """One slice per axis, to index an array of the box's dimension."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def padded(self, margin: Sequence[int], shape: Sequence[int]) -> Box:
        """The box grown by ``margin`` voxels on every side, cut at the array's ``shape``."""
        return Box(
            tuple(max(0, a - m) for a, m in zip(self.start, margin, strict=True)),
            tuple(min(s, b + m) for b, m, s in zip(self.stop, margin, shape, strict=True)),
        )

    def intersection(self, other: Box) -> Box | None:
        """What both boxes share; None when that is nothing."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None

    def shifted(self, origin: Sequence[int]) -> Box:
        """The same box, counted from ``origin``."""
        return Box(
            tuple(a - o for a, o in zip(self.start, origin, strict=True)),
            tuple(b - o for b, o in zip(self.stop, origin, strict=True)),
        )

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box that covers an array of ``shape``."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def around(cls, mask: NDArray[Any]) -> Box | None:
        """Tightest box around the non-zero voxels of ``mask``; None when there are none."""
        bounds = []
        for axis in range(mask.ndim):
            others = tuple(a for a in range(mask.ndim) if a != axis)
            hit = np.flatnonzero(mask.any(axis=others))
            if hit.size == 0:
                return None
            bounds.append((int(hit[0]), int(hit[-1]) + 1))
        return cls(tuple(a for a, _ in bounds), tuple(b for _, b in bounds))


@dataclass(frozen=True)
class Grid:
    """The lattice an image is sampled on.

    Args:
        shape: Voxels along z, y, x.
        spacing: Millimetres between voxel centres along z, y, x.
        origin: LPS world position (x, y, z) in mm of the voxel with index (0, 0, 0).
        direction: 3 x 3 rows; columns are the unit world directions of the array axes z, y, x.

    Raises:
        GeometryError: Spacing is not positive and finite, or the direction matrix is singular.
    """

    shape: tuple[int, int, int]
    spacing: Triple
    origin: Triple = (0.0, 0.0, 0.0)
    direction: tuple[Triple, Triple, Triple] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if not all(np.isfinite(self.spacing)) or min(self.spacing) <= 0:
            raise GeometryError(
                f"The spacing {self.spacing} mm is not positive.",
                remedy="Correct the header's voxel size.",
            )
        direction = np.asarray(self.direction, dtype=float)
        if not np.isfinite(direction).all() or abs(np.linalg.det(direction)) < _SINGULAR:
            raise GeometryError(
                "The direction matrix is singular.",
                remedy="Rewrite the header with three independent axes.",
            )

    @property
    def affine(self) -> FloatArray:
        """4 x 4 matrix from array index (z, y, x, 1) to LPS world (x, y, z, 1) in mm."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing)
        affine[:3, 3] = self.origin
        return affine

    @property
    def field_of_view(self) -> Triple:
        """Extent in mm along z, y, x, voxel edge to voxel edge."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return (z, y, x)

    @property
    def voxel_volume(self) -> float:
        """Of one voxel, mm³."""
        return float(np.prod(self.spacing))

    def to_world(self, index: Any) -> FloatArray:
        """World positions (..., 3) in LPS mm of array indices (..., 3), fractions allowed."""
        affine = self.affine
        return np.asarray(np.asarray(index, dtype=float) @ affine[:3, :3].T + affine[:3, 3])

    def to_index(self, world: Any) -> FloatArray:
        """Array indices (..., 3) of world positions (..., 3) in LPS mm; the inverse of ``to_world``."""
        affine = self.affine
        inverse = np.linalg.inv(affine[:3, :3])
        return np.asarray((np.asarray(world, dtype=float) - affine[:3, 3]) @ inverse.T)

    def cropped(self, box: Box) -> Grid:
        """The grid of the voxels inside ``box``."""
        x, y, z = (float(v) for v in self.to_world(box.start))
        a, b, c = box.shape
        return replace(self, shape=(a, b, c), origin=(x, y, z))

    def resized(self, shape: Sequence[int]) -> Grid:
        """The grid that covers the same volume, voxel edge to voxel edge, with another shape."""
        a, b, c = (int(n) for n in shape)
        z, y, x = (f / n for f, n in zip(self.field_of_view, (a, b, c), strict=True))
        # The first new voxel's centre lies half a new voxel inside the old edge.
        shift = [0.5 * t / s - 0.5 for s, t in zip(self.spacing, (z, y, x), strict=True)]
        ox, oy, oz = (float(v) for v in self.to_world(shift))
        return replace(self, shape=(a, b, c), spacing=(z, y, x), origin=(ox, oy, oz))

    def same_as(self, other: Grid, tolerance: float = 1e-2) -> bool:
        """Whether both grids have the same shape and no corner lies more than ``tolerance`` mm apart."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, 8).T
        return bool(np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance)

    def matches(self, other: Grid) -> bool:
        """Whether a mask on ``other`` belongs to a scan on this grid: headers may round, by half a voxel."""
        return self.same_as(other, tolerance=0.5 * min(self.spacing))


@dataclass(frozen=True)
class Orientation:
    """An axis permutation followed by flips; lossless, with an exact inverse.

    Output axis ``a`` is input axis ``axes[a]``, reversed where ``flips[a]``.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """Reorient the last three axes of ``array``; a view, not a copy."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + a for a in self.axes))
        result: NDArray[Any] = moved[self._reversal]
        return result

    def invert(self, array: NDArray[Any]) -> NDArray[Any]:
        """Undo ``apply`` on the last three axes; a view, not a copy."""
        lead = array.ndim - 3
        unflipped: NDArray[Any] = array[self._reversal]
        return unflipped.transpose(*range(lead), *(lead + int(a) for a in np.argsort(self.axes)))

    @property
    def _reversal(self) -> Any:
        return (..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))

    def apply_grid(self, grid: Grid) -> Grid:
        """The grid of an array that ``apply`` has reoriented."""
        corner = [0, 0, 0]
        for axis, flip in zip(self.axes, self.flips, strict=True):
            corner[axis] = grid.shape[axis] - 1 if flip else 0
        direction = np.asarray(grid.direction)[:, list(self.axes)] * np.where(self.flips, -1.0, 1.0)
        x, y, z = (float(v) for v in grid.to_world(corner))
        return Grid(
            shape=_pick(grid.shape, self.axes),
            spacing=_pick(grid.spacing, self.axes),
            origin=(x, y, z),
            direction=matrix_rows(direction),
        )

    @classmethod
    def permutation(cls, axes: tuple[int, int, int]) -> Orientation:
        """Axes put into another order, none reversed."""
        return cls(axes, (False, False, False))

    @classmethod
    def to_canonical(cls, grid: Grid) -> Orientation:
        """The orientation that brings arrays on ``grid`` to superior, posterior, left.

        The assignment of array axes to world axes is the permutation with the largest sum of absolute
        direction cosines, so oblique scans get the nearest orientation and never two equal axes.
        """
        cosines = np.asarray(grid.direction)
        best = max(_PERMUTATIONS, key=lambda p: sum(abs(cosines[w, a]) for w, a in _assign(p)))
        flips = [bool(cosines[w, a] < 0) for w, a in _assign(best)]
        return cls(best, (flips[0], flips[1], flips[2]))


_PERMUTATIONS: Final = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def _assign(permutation: tuple[int, int, int]) -> list[tuple[int, int]]:
    return list(zip(_CANONICAL_WORLD_AXES, permutation, strict=True))


def _pick(values: tuple[_T, _T, _T], axes: tuple[int, int, int]) -> tuple[_T, _T, _T]:
    a, b, c = axes
    return values[a], values[b], values[c]


def matrix_rows(matrix: Any) -> tuple[Triple, Triple, Triple]:
    """A 3 x 3 array as nested tuples, the form value objects hold."""
    rows = [(float(row[0]), float(row[1]), float(row[2])) for row in np.asarray(matrix)]
    return rows[0], rows[1], rows[2]
