"""Centres of vertebral bodies: VerSe's three coordinate frames, and world millimetres.

VerSe publishes the centres as X, Y, Z counted from the centre of a scan's first voxel (Sekuboyina et
al., MedIA 2021, and the challenges' data pages). What X, Y and Z run along, and whether they count
voxels or millimetres, differs from release to release:

====================  ==================================  ===========
release               X, Y, Z grow towards                unit
====================  ==================================  ===========
subject-based         the file's own ``direction`` entry  voxels
VerSe'19, flat files  inferior, posterior, left           millimetres
VerSe'20, flat files  posterior, inferior, right          millimetres
====================  ==================================  ===========
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from autospine.core import anatomy
from autospine.core.errors import DocumentError
from autospine.core.geometry import FloatArray, Grid, Orientation, Triple

Codes = tuple[str, str, str]

#: Canonical array axis that a letter names, and whether the letter points against it.
_LETTERS: Final[Mapping[str, tuple[int, bool]]] = {
    "S": (0, False),
    "I": (0, True),
    "P": (1, False),
    "A": (1, True),
    "L": (2, False),
    "R": (2, True),
}
_NAMES: Final = {axis_and_sense: letter for letter, axis_and_sense in _LETTERS.items()}


@dataclass(frozen=True)
class CentroidFrame:
    """What X, Y and Z of a centroid file mean on a scan.

    Args:
        codes: Where X, Y and Z grow to: one letter each of R/L, A/P and S/I.
        millimetres: Whether they count millimetres; voxels of the scan otherwise.

    Raises:
        DocumentError: The letters do not name three different axes.
    """

    codes: Codes
    millimetres: bool = False

    def __post_init__(self) -> None:
        if sorted(_LETTERS[code][0] for code in self.codes if code in _LETTERS) != [0, 1, 2]:
            raise DocumentError(
                f"The directions {', '.join(map(str, self.codes))} do not name three axes.",
                remedy="Each of R/L, A/P and S/I has to appear once.",
            )

    def to_world(self, grid: Grid, positions: Any) -> FloatArray:
        """World positions (..., 3) in LPS mm of positions (..., 3) given as X, Y, Z of this frame."""
        given = np.asarray(positions, dtype=float)
        canonical = _canonical(grid)
        index = np.empty_like(given)
        for column, (axis, reverse) in enumerate(self._axes):
            steps = given[..., column] / self._step(canonical, axis)
            index[..., axis] = canonical.shape[axis] - 1 - steps if reverse else steps
        return canonical.to_world(index)

    def from_world(self, grid: Grid, world: Any) -> FloatArray:
        """X, Y, Z (..., 3) in this frame of world positions (..., 3) in LPS mm; undoes ``to_world``."""
        canonical = _canonical(grid)
        index = canonical.to_index(world)
        result = np.empty_like(index)
        for column, (axis, reverse) in enumerate(self._axes):
            steps = canonical.shape[axis] - 1 - index[..., axis] if reverse else index[..., axis]
            result[..., column] = steps * self._step(canonical, axis)
        return result

    @property
    def _axes(self) -> list[tuple[int, bool]]:
        return [_LETTERS[code] for code in self.codes]

    def _step(self, canonical: Grid, axis: int) -> float:
        return canonical.spacing[axis] if self.millimetres else 1.0


#: The flat files of VerSe'19 and of VerSe'20.
VERSE19_FLAT: Final = CentroidFrame(("I", "P", "L"), millimetres=True)
VERSE20_FLAT: Final = CentroidFrame(("P", "I", "R"), millimetres=True)


def axis_codes(grid: Grid) -> Codes:
    """Where a file's own axes x, y, z point to, ``("P", "I", "R")``: the codes nibabel and VerSe use."""
    orientation = Orientation.to_canonical(grid)
    codes = {
        axis: _NAMES[canonical, flip]
        for canonical, (axis, flip) in enumerate(zip(orientation.axes, orientation.flips, strict=True))
    }
    return codes[2], codes[1], codes[0]


def read_centroids(path: Path, grid: Grid, frame: CentroidFrame | None = None) -> dict[int, Triple]:
    """Body centres from a VerSe centroid file; entries with NaN and of the sacrum and coccyx are left out.

    Args:
        path: The JSON file.
        grid: The grid of the scan the file belongs to.
        frame: The frame of a flat file. A ``direction`` entry in the file overrules its codes. None for
            subject-based files, which count voxels and must have that entry.

    Returns:
        LPS world position (x, y, z) in mm by label, ascending.

    Raises:
        DocumentError: The file is damaged or does not say what its coordinates mean.
    """
    entries = _load(path)
    try:
        directions = [entry["direction"] for entry in entries if "direction" in entry]
        points = [_point(entry) for entry in entries if "label" in entry]
        frame = _with_direction(frame, directions)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"an entry lacks or garbles {error}") from error
    except DocumentError as error:
        raise _damaged(path, error.message) from error
    found: dict[int, Triple] = {}
    for verse_id, position in sorted(points):
        label = anatomy.from_verse(verse_id)
        if label is not None and np.isfinite(position).all():
            x, y, z = (float(v) for v in frame.to_world(grid, position))
            found[label] = (x, y, z)
    return found


def _canonical(grid: Grid) -> Grid:
    return Orientation.to_canonical(grid).apply_grid(grid)


def _with_direction(frame: CentroidFrame | None, directions: list[Any]) -> CentroidFrame:
    if directions:
        x, y, z = (str(code) for code in directions[0])
        return replace(frame, codes=(x, y, z)) if frame else CentroidFrame((x, y, z))
    if frame is None:
        raise DocumentError("no direction entry says what X, Y and Z mean")
    return frame


def _point(entry: Mapping[str, Any]) -> tuple[int, Triple]:
    x, y, z = (float("nan") if entry[key] is None else float(entry[key]) for key in ("X", "Y", "Z"))
    return int(entry["label"]), (x, y, z)


def _load(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _damaged(path, "it is no list of entries")
    return entries


def _damaged(path: Path, reason: str) -> DocumentError:
    return DocumentError(
        f"This is no usable centroid file ({reason}).",
        where=path,
        remedy="Download it again, or delete it to take the scan without centroids.",
    )
