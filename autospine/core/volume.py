"""An array and the grid it lies on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from autospine.core.errors import GeometryError
from autospine.core.geometry import Box, Grid, Orientation


@dataclass(frozen=True)
class Volume:
    """A scan or a mask.

    Args:
        array: Values of shape (c, z, y, x).
        grid: The lattice of the last three axes.

    Raises:
        GeometryError: Array and grid have different shapes.
    """

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.grid.shape:
            shapes = f"An array of shape {self.array.shape} does not fit a grid of {self.grid.shape}."
            raise GeometryError(shapes)

    def cropped(self, box: Box) -> Volume:
        """The part inside ``box``; a view, not a copy."""
        return Volume(self.array[(slice(None), *box.slices)], self.grid.cropped(box))

    def reoriented(self, orientation: Orientation) -> Volume:
        """Axes swapped and flipped; a view, not a copy."""
        return Volume(orientation.apply(self.array), orientation.apply_grid(self.grid))
