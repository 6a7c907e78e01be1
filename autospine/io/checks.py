"""Whether scans and masks can be used at all; what is wrong is said about the file it is wrong in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autospine.core.dataset import Case, LabelSchema
from autospine.core.errors import GeometryError, ImageError, LabelError
from autospine.core.geometry import Grid
from autospine.core.volume import Volume
from autospine.io.images import read_image, read_labels

_SPACING_TOLERANCE = 1e-3


def check_case(case: Case, labels: LabelSchema) -> None:
    """Read a case's files and refuse what cannot be trained on.

    Raises:
        ImageError: A file is damaged, has not three axes, holds NaN, or the scan is constant.
        GeometryError: Scan and mask differ in shape or spacing, or a grid is degenerate.
        LabelError: The mask holds values that ``labels`` does not declare.
    """
    image = read_image(case.image)
    check_image(image, case.image)
    if case.label is not None:
        check_mask(read_labels(case.label), image.grid, labels, case.label)


def check_image(image: Volume, where: Path) -> None:
    """Refuse a scan without content.

    Raises:
        ImageError: All voxels are equal.
    """
    low, high = image.array.min(), image.array.max()
    if low == high:
        raise ImageError(f"All voxels have the value {low}.", where=where, remedy="Leave the scan out.")


def check_mask(mask: Volume, grid: Grid, labels: LabelSchema, where: Path) -> None:
    """Refuse a mask that does not belong to a scan on ``grid`` or holds undeclared values.

    Raises:
        GeometryError: The two do not describe the same lattice.
        LabelError: There are values that ``labels`` does not declare.
    """
    if mask.grid.shape != grid.shape:
        raise GeometryError(
            f"The mask has {_by(mask.grid.shape)} voxels (z, y, x), the scan {_by(grid.shape)}.",
            where=where,
            remedy="Resample the mask to the scan.",
        )
    if not np.allclose(mask.grid.spacing, grid.spacing, rtol=_SPACING_TOLERANCE):
        raise GeometryError(
            f"The mask's voxels measure {_by(mask.grid.spacing)} mm (z, y, x), "
            f"the scan's {_by(grid.spacing)} mm.",
            where=where,
            remedy="Correct the header that is wrong.",
        )
    if not grid.matches(mask.grid):
        raise GeometryError(
            "The mask's origin or direction is not the scan's.",
            where=where,
            remedy="Correct the header that is wrong, or resample the mask to the scan.",
        )
    unknown = sorted(present_values(mask.array) - set(labels.names))
    if unknown:
        raise LabelError(
            f"The mask holds undeclared values: {', '.join(map(str, unknown))}.",
            where=where,
            remedy="Declare them in dataset.json or correct the mask.",
        )


def present_values(array: NDArray[Any]) -> set[int]:
    """The different whole numbers in an array of shape (..., y, x), found slice by slice to save memory."""
    slices = array.reshape(-1, *array.shape[-2:])
    return {int(value) for plane in slices for value in np.unique(plane)}


def _by(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.6g}" for value in values)
