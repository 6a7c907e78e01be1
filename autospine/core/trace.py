"""What preprocessing did to a scan, so that a prediction can find its way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import Box, FloatArray, Grid, Orientation


@dataclass(frozen=True)
class Trace:
    """Scan -> canonical orientation -> crop -> stored axis order -> resampled.

    Args:
        grid: The scan's own grid.
        orientation: From the scan's own axes to canonical ones.
        box: What was cropped to, on the canonical grid.
        axes: Stored axis ``a`` is canonical axis ``axes[a]``.
        shape: Shape of the stored (resampled) array, in stored axis order.
        separate_axis: Stored axis that was resampled alone with order 0; None when there was none.
    """

    grid: Grid
    orientation: Orientation
    box: Box
    axes: tuple[int, int, int]
    shape: tuple[int, int, int]
    separate_axis: int | None = None

    @property
    def cropped_grid(self) -> Grid:
        """The grid before resampling: oriented, cropped and in stored axis order."""
        canonical = self.orientation.apply_grid(self.grid).cropped(self.box)
        return Orientation.permutation(self.axes).apply_grid(canonical)

    @property
    def stored_grid(self) -> Grid:
        """The grid of the stored array."""
        return self.cropped_grid.resized(self.shape)

    def canonical_positions(self, axis: int) -> FloatArray:
        """Where the stored voxels' centres lie along an axis of the oriented scan, as its indices."""
        n = self.shape[self.axes.index(axis)]
        start, stop = self.box.start[axis], self.box.stop[axis]
        return np.asarray(start + (np.arange(n) + 0.5) * ((stop - start) / n) - 0.5)

    def stored_positions(self, axis: int, positions: Any) -> FloatArray:
        """Stored indices of places along a canonical axis; the inverse of ``canonical_positions``."""
        n = self.shape[self.axes.index(axis)]
        start, stop = self.box.start[axis], self.box.stop[axis]
        return np.asarray((np.asarray(positions) + 0.5 - start) * (n / (stop - start)) - 0.5)

    def restore(self, array: NDArray[Any], fill: int = 0) -> NDArray[Any]:
        """Bring an array on ``cropped_grid`` back to the scan's own grid.

        Args:
            array: Shape of ``cropped_grid``, in stored axis order.
            fill: Value outside the crop.

        Returns:
            Array of the scan's own shape, contiguous.
        """
        canonical = Orientation.permutation(self.axes).invert(array)
        full = np.full(self.orientation.apply_grid(self.grid).shape, fill, dtype=array.dtype)
        full[self.box.slices] = canonical
        return np.ascontiguousarray(self.orientation.invert(full))
