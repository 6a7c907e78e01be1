"""Bringing a mask to the lattice of its scan when only the order and sense of the axes differ."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import GeometryError
from autospine.core.geometry import Grid, Orientation, matrix_rows
from autospine.core.volume import Volume

#: Corners may lie this share of a voxel apart: headers hold rounded numbers.
_TOLERANCE: Final = 0.25


def on_grid(mask: Volume, grid: Grid) -> NDArray[Any]:
    """A mask's array (z, y, x) on ``grid``, by swapping and flipping axes only; a view, not a copy.

    Raises:
        GeometryError: No swap of axes makes the two lattices agree.
    """
    moved = mask.reoriented(_relative(mask.grid, grid))
    if not moved.grid.same_as(grid, tolerance=_TOLERANCE * min(grid.spacing)):
        raise GeometryError(
            f"The mask lies on another lattice than the scan: {describe(moved.grid)}, not {describe(grid)}.",
            remedy="Predict this very scan, or a copy that differs in the order of its axes alone.",
        )
    array: NDArray[Any] = moved.array[0]
    return array


def describe(grid: Grid) -> str:
    """A grid in a few words: voxels and millimetres along z, y, x, and the LPS origin."""
    shape = " x ".join(map(str, grid.shape))
    spacing = " x ".join(f"{s:.4g}" for s in grid.spacing)
    return f"{shape} voxels of {spacing} mm from ({', '.join(f'{v:.1f}' for v in grid.origin)})"


def _relative(source: Grid, target: Grid) -> Orientation:
    """The swaps and flips that bring arrays on ``source`` nearest to the axes of ``target``."""
    # In a frame turned so that the target's axes are the canonical ones, canonical means "like the
    # target". Taking both to canonical in the world could round an oblique pair to two orientations.
    canonical = np.eye(3)[:, ::-1]
    turned = canonical @ np.asarray(target.direction).T @ np.asarray(source.direction)
    return Orientation.to_canonical(Grid(source.shape, source.spacing, direction=matrix_rows(turned)))
