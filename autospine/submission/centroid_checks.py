"""What can be wrong with a submitted file of body centres, seen by itself and against its mask."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import ndimage

from autospine.core import anatomy
from autospine.core.geometry import FloatArray, Grid, Triple
from autospine.core.volume import Volume
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes
from autospine.submission.challenge import Challenge
from autospine.submission.mask_checks import CheckedMask

#: Rounding and the holes of a mask may put a point this many mm outside its own vertebra.
_NEAR: Final = 5.0
_KEYS: Final = ("label", "X", "Y", "Z")


@dataclass(frozen=True)
class CheckedCentroids:
    """What was found in a file of body centres.

    Args:
        problems: What is wrong, in sentences.
        remarks: What may be wrong.
    """

    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def check_centroids(path: Path, challenge: Challenge, mask: CheckedMask) -> CheckedCentroids:
    """Look for everything that is wrong with a file of body centres.

    Args:
        path: The JSON file.
        challenge: Whose ids and frame it should have.
        mask: The mask it goes with, as far as that could be read.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        return CheckedCentroids((f"It is no complete JSON document ({error}).",))
    if not isinstance(entries, list):
        return CheckedCentroids(("It is no list of entries.",))
    points: dict[int, Triple] = {}
    problems: list[str] = []
    for number, entry in enumerate(entries, start=1):
        problem = _take(entry, challenge, points)
        if problem:
            problems.append(f"Entry {number}: {problem}")
    if mask.volume is None or challenge.frame is None:
        return CheckedCentroids(tuple(problems))
    problems += _differences(set(points), mask.values)
    shared = {verse_id: point for verse_id, point in points.items() if verse_id in mask.values}
    more, remarks = _positions(shared, mask.volume, challenge.frame)
    return CheckedCentroids((*problems, *more), remarks)


def _take(entry: Any, challenge: Challenge, points: dict[int, Triple]) -> str:
    """Add an entry's point to ``points``; what is wrong with it otherwise."""
    problem = _shape_problem(entry, challenge) or _label_problem(entry["label"], challenge, points)
    if not problem:
        points[int(entry["label"])] = (float(entry["X"]), float(entry["Y"]), float(entry["Z"]))
    return problem


def _shape_problem(entry: Any, challenge: Challenge) -> str:
    if not isinstance(entry, dict):
        return "it is no object with label, X, Y and Z."
    if "direction" in entry:
        return f"{challenge.title} has no direction entry."
    missing = [key for key in _KEYS if key not in entry]
    if missing:
        return f"it lacks {', '.join(missing)}."
    values = [entry[key] for key in _KEYS]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and np.isfinite(v) for v in values):
        return "label, X, Y and Z are not all finite numbers."
    return ""


def _label_problem(label: float, challenge: Challenge, points: Mapping[int, Triple]) -> str:
    if label not in challenge.coding.values():
        return f"the label {label} is no vertebra of {challenge.title}."
    return f"the label {label} has occurred before." if label in points else ""


def _differences(listed: set[int], masked: Iterable[int]) -> list[str]:
    problems = []
    if only := sorted(set(masked) - listed):
        problems.append(f"Labels of the mask have no centre: {_names(only)}.")
    if only := sorted(listed - set(masked)):
        problems.append(f"Centres have no label in the mask: {_names(only)}.")
    return problems


def _positions(
    points: Mapping[int, Triple], mask: Volume, frame: CentroidFrame
) -> tuple[list[str], tuple[str, ...]]:
    """Problems and remarks about centres outside their own vertebrae."""
    worlds = {verse_id: frame.to_world(mask.grid, point) for verse_id, point in points.items()}
    outside = [verse_id for verse_id, world in worlds.items() if not _inside(world, mask, verse_id)]
    if not outside:
        return [], ()
    voxels = _voxels(mask)
    distances = {verse_id: _distance(worlds[verse_id], voxels[verse_id]) for verse_id in outside}
    remarks = tuple(
        f"The centre of {_names([verse_id])} lies {distance:.1f} mm outside its vertebra."
        for verse_id, distance in distances.items()
        if distance <= _NEAR
    )
    far = [f"{_names([i])} by {distance:.0f} mm" for i, distance in distances.items() if distance > _NEAR]
    if not far:
        return [], remarks
    better = _better_frame(points, mask.grid, voxels, len(points) - len(far))
    problem = f"{len(far)} of {len(points)} centres miss their own vertebra: {', '.join(far)}.{better}"
    return [problem], remarks


def _better_frame(
    points: Mapping[int, Triple], grid: Grid, voxels: Mapping[int, FloatArray], right: int
) -> str:
    """Which other frame the positions were most likely written in, if one fits more of them."""
    fitting = {
        name: sum(_distance(frame.to_world(grid, point), voxels[i]) <= _NEAR for i, point in points.items())
        for name, frame in _frames(grid).items()
    }
    best = max(fitting, key=lambda name: fitting[name])
    return f" Read as {best}, {fitting[best]} would be right." if fitting[best] > right else ""


def _frames(grid: Grid) -> dict[str, CentroidFrame]:
    return {
        "VerSe'19's flat frame (mm to I, P, L)": VERSE19_FLAT,
        "VerSe'20's flat frame (mm to P, I, R)": VERSE20_FLAT,
        "voxels along the file's own axes": CentroidFrame(axis_codes(grid)),
        "voxels to I, P, L": CentroidFrame(VERSE19_FLAT.codes),
        "voxels to P, I, R": CentroidFrame(VERSE20_FLAT.codes),
    }


def _inside(world: FloatArray, mask: Volume, value: int) -> bool:
    index = np.rint(mask.grid.to_index(world)).astype(int)
    in_view = bool(((index >= 0) & (index < mask.grid.shape)).all())
    return in_view and bool(mask.array[(0, *index)] == value)


def _voxels(mask: Volume) -> dict[int, FloatArray]:
    """World positions (n, 3) in mm of each value's voxels."""
    found = {}
    for value, box in enumerate(ndimage.find_objects(mask.array[0]), start=1):
        if box is not None:
            start = [part.start for part in box]
            found[value] = mask.grid.to_world(np.argwhere(mask.array[0][box] == value) + start)
    return found


def _distance(world: FloatArray, voxels: FloatArray) -> float:
    """Millimetres from a point to the nearest voxel's centre."""
    return float(np.linalg.norm(voxels - world, axis=1).min())


def _names(verse_ids: Iterable[int]) -> str:
    labels = [label for verse_id in verse_ids if (label := anatomy.from_verse(verse_id)) is not None]
    return ", ".join(f"{anatomy.name_of(label)} ({anatomy.to_verse(label)})" for label in labels)
