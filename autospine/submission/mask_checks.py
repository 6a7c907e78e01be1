"""What can be wrong with a submitted mask, seen by itself and against its scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core import anatomy
from autospine.core.errors import AutospineError, GeometryError
from autospine.core.geometry import Box, Grid
from autospine.core.lattice import describe, on_grid
from autospine.core.volume import Volume
from autospine.io.checks import present_values
from autospine.io.images import read_grid, read_image
from autospine.submission.challenge import Challenge

_FRACTION: Final = 1e-3
#: Bone is brighter than what a wrong mirror image of it covers; by less than this, chance may be at work.
_BRIGHTER: Final = 60.0
_AXES: Final = ("third", "second", "first")  # of the file, which counts x, y, z


@dataclass(frozen=True)
class CheckedMask:
    """A mask and what is wrong with it.

    Args:
        problems: In sentences.
        volume: Those values of the file that the challenge has, as uint8, shape (1, z, y, x); None when the
            file cannot be read.
        values: The challenge's values that occur.
    """

    problems: tuple[str, ...]
    volume: Volume | None = None
    values: frozenset[int] = field(default=frozenset())


def check_mask(path: Path, challenge: Challenge, scan: Path | None) -> CheckedMask:
    """Look for everything that is wrong with a mask.

    Args:
        path: Its file.
        challenge: Whose values it should hold.
        scan: The scan it belongs to; None when it is not at hand.
    """
    try:
        volume = read_image(path)
    except AutospineError as error:
        return CheckedMask((error.message,))
    problems: list[str] = []
    if not np.issubdtype(volume.array.dtype, np.integer):
        problems.append(f"The voxels are stored as {volume.array.dtype}, not as whole numbers.")
        rounded = np.rint(volume.array)
        if np.abs(rounded - volume.array).max() > _FRACTION:
            return CheckedMask((*problems, "It holds fractions."))
        volume = Volume(rounded.astype(np.int32), volume.grid)
    present = present_values(volume.array) - {0}
    known = frozenset(present & set(challenge.coding.values()))
    problems += _value_problems(present, known, challenge)
    declared = np.where(np.isin(volume.array, list(known)), volume.array, 0).astype(np.uint8)
    volume = Volume(declared, volume.grid)
    problems += _order_problems(volume, {value: label for label, value in challenge.coding.items()})
    if scan is not None:
        problems += _scan_problems(volume, scan)
    return CheckedMask(tuple(problems), volume, known)


def _value_problems(present: set[int], known: frozenset[int], challenge: Challenge) -> list[str]:
    problems = []
    if present - known:
        listed = ", ".join(map(str, sorted(present - known)))
        problems.append(f"It holds values that {challenge.title} does not have: {listed}.")
    if not present:
        problems.append("It is empty.")
    return problems


def _order_problems(volume: Volume, labels: dict[int, int]) -> list[str]:
    """Whether the vertebrae go down along the body as their names do."""
    heights = _heights(volume)
    ordered = sorted(heights.keys() & labels.keys(), key=lambda value: anatomy.rank_of(labels[value]))
    rising = [heights[low] > heights[up] for up, low in pairwise(ordered)]
    if 2 * sum(rising) <= len(rising):
        return []
    first, last = anatomy.name_of(labels[ordered[0]]), anatomy.name_of(labels[ordered[-1]])
    return [f"The column stands on its head: {last} lies above {first}. An axis may be flipped."]


def _heights(volume: Volume) -> dict[int, float]:
    """World z in mm of the middle of each value's box."""
    return {
        value: float(volume.grid.to_world([(part.start + part.stop - 1) / 2 for part in box])[2])
        for value, box in enumerate(ndimage.find_objects(volume.array[0]), start=1)
        if box is not None
    }


def _scan_problems(volume: Volume, scan: Path) -> list[str]:
    try:
        grid = read_grid(scan)
        if not grid.matches(volume.grid):
            return [_lattice_problem(volume, grid)]
        return _mirror_problems(volume.array[0] > 0, read_image(scan).array[0])
    except AutospineError as error:
        return [f"Its scan cannot be read: {error}"]


def _lattice_problem(volume: Volume, grid: Grid) -> str:
    try:
        on_grid(volume, grid)
    except GeometryError:
        return f"It lies on another lattice than its scan: {describe(volume.grid)}, not {describe(grid)}."
    return "Its axes have another order or sense than those of its scan."


def _mirror_problems(mask: NDArray[np.bool_], image: NDArray[Any]) -> list[str]:
    """Whether a mirror image of the mask lies on brighter voxels, hence on bone."""
    box = Box.around(mask)
    if box is None:
        return []
    inside = mask[box.slices]
    brightness = float(image[box.slices][inside].mean())
    problems = []
    for axis, name in enumerate(_AXES):
        mirrored = float(np.flip(image, axis)[box.slices][inside].mean())
        if mirrored > brightness + _BRIGHTER:
            problems.append(
                f"It would fit the scan better with its {name} axis flipped: "
                f"{mirrored:.0f} HU on average instead of {brightness:.0f}."
            )
    return problems
