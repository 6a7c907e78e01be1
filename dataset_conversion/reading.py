"""Opening a scan of a source: canonical orientation, aligned mask, our labels, centres in world mm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.errors import GeometryError, LabelError
from autospine.core.geometry import Grid, Orientation, Triple
from autospine.core.lattice import on_grid
from autospine.core.volume import Volume
from autospine.io.centroids import axis_codes, read_centroids
from autospine.io.checks import check_image, present_values
from autospine.io.images import read_image, read_labels

from .intensities import detect_shift, subtract
from .scans import SourceScan


@dataclass(frozen=True)
class ScanContent:
    """A scan as it will be written.

    Args:
        image: Intensities of shape (1, z, y, x), canonical, integer or float32.
        mask: Labels of shape (z, y, x) on the same grid, uint8; None without a mask.
        orientation: Axis codes of the file's own axes x, y, z.
        centroids: LPS world positions (x, y, z) in mm by label.
        notes: Remarks for the report.
    """

    image: Volume
    mask: NDArray[np.uint8] | None
    orientation: str
    centroids: Mapping[int, Triple]
    notes: tuple[str, ...]


def read_scan(scan: SourceScan) -> ScanContent:
    """Read and check everything that belongs to a scan.

    Raises:
        ImageError: A file is damaged, has not three axes, holds NaN, or the scan is constant.
        GeometryError: Scan and mask lie on different lattices, or a header is degenerate.
        LabelError: The mask holds values that the source's coding does not know.
        DocumentError: The centroid file is damaged.
    """
    original = read_image(scan.image)
    check_image(original, scan.image)
    image, notes = _in_hounsfield_units(original, scan)
    image = image.reoriented(Orientation.to_canonical(original.grid))
    mask = None
    if scan.mask is not None:
        given = aligned(read_labels(scan.mask), image.grid, scan.mask)
        mask, remarks = relabelled(given, scan.coding, scan.mask)
        notes += remarks
    centroids: dict[int, Triple] = {}
    if scan.centroids is not None:
        centroids = read_centroids(scan.centroids, original.grid, scan.frame)
        centroids, remarks = _plausible(centroids, image.grid, mask)
        notes += remarks
    return ScanContent(image, mask, "".join(axis_codes(original.grid)), centroids, scan.notes + notes)


def aligned(mask: Volume, grid: Grid, where: Path) -> NDArray[Any]:
    """A mask's array (z, y, x) on the canonical ``grid`` of its scan, by swapping and flipping axes only.

    Raises:
        GeometryError: No swap of axes makes the two lattices agree.
    """
    try:
        return on_grid(mask, grid)
    except GeometryError as error:
        remedy = "Correct the header that is wrong, or resample the mask to the scan."
        raise GeometryError(error.message, where=where, remedy=remedy) from error


def relabelled(
    mask: NDArray[Any], coding: Mapping[int, int], where: Path
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """A mask in our labels, and remarks about what was dropped.

    Raises:
        LabelError: The mask holds values that ``coding`` does not know.
    """
    present = present_values(mask) - {0}
    unknown = sorted(present - set(coding))
    if unknown:
        raise LabelError(
            f"The mask holds unknown values: {', '.join(map(str, unknown))}.",
            where=where,
            remedy=f"Known values are {_ranges(coding)}.",
        )
    table = np.zeros(max(present, default=0) + 1, dtype=np.uint8)
    for value in present:
        table[value] = coding[value]
    dropped = sorted(value for value in present if coding[value] == 0)
    notes = (
        [f"The values {', '.join(map(str, dropped))}, no vertebrae, became background."] if dropped else []
    )
    if len(dropped) == len(present):
        notes.append("No vertebra is labelled.")
    return table[mask], tuple(notes)


def _in_hounsfield_units(image: Volume, scan: SourceScan) -> tuple[Volume, tuple[str, ...]]:
    array = image.array
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32, copy=False)
    shift = detect_shift(array) if scan.shift is None else scan.shift
    notes = (f"The intensities were shifted by {shift:+d}; that was undone.",) if shift else ()
    return Volume(subtract(array, shift), image.grid), notes


def _plausible(
    centroids: dict[int, Triple], grid: Grid, mask: NDArray[np.uint8] | None
) -> tuple[dict[int, Triple], tuple[str, ...]]:
    """Centres inside the scan; none at all when most of them miss their own label."""
    index = {label: np.rint(grid.to_index(position)).astype(int) for label, position in centroids.items()}
    outside = {label for label, i in index.items() if not ((i >= 0) & (i < grid.shape)).all()}
    inside = set(centroids) - outside
    astray = set() if mask is None else {label for label in inside if mask[tuple(index[label])] != label}
    if mask is not None and len(outside | astray) * 2 > len(centroids):
        return {}, (f"All body centres were left out: {_names(outside | astray)} miss their own label.",)
    notes = []
    if outside:
        notes.append(f"Body centres outside the scan were left out: {_names(outside)}.")
    if astray:
        notes.append(f"Body centres outside their own label: {_names(astray)}.")
    return {label: position for label, position in centroids.items() if label in inside}, tuple(notes)


def _names(labels: set[int]) -> str:
    return ", ".join(anatomy.name_of(label) for label in sorted(labels, key=anatomy.rank_of))


def _ranges(values: Mapping[int, int]) -> str:
    ordered = sorted(values)
    starts = [v for v in ordered if v - 1 not in values]
    ends = [v for v in ordered if v + 1 not in values]
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in zip(starts, ends, strict=True))
