"""Which part of a patient a scan shows, and on which grid."""

from __future__ import annotations

from itertools import permutations, product
from typing import Final

import numpy as np

from autospine.core.errors import UsageError
from autospine.core.geometry import FloatArray, Grid, Orientation, matrix_rows
from autospine.phantom.patient import Patient
from autospine.phantom.recipe import Recipe

#: Between which landmarks the upper and the lower border of a field of view lie.
_REGIONS: Final[dict[str, tuple[tuple[str, str], tuple[str, str]]]] = {
    "lumbar": (("T11", "L1"), ("S1", "S3")),
    "thoracolumbar": (("T3", "T9"), ("L3", "S3")),
    "thoracic": (("C6", "T3"), ("T10", "L2")),
    "cervical": (("skull", "C2"), ("C7", "T6")),
    "full": (("skull", "C3"), ("L4", "S3")),
}
#: How often each of them is drawn for the field of view "any".
_SHARES: Final = (0.3, 0.25, 0.15, 0.15, 0.15)
#: Letters of the directions in which an index may grow, by the world axis z, y, x.
_LETTERS: Final = (("S", "I"), ("P", "A"), ("L", "R"))


def orientation_codes() -> tuple[str, ...]:
    """All 48 orientations of an array, as the directions in which its z, y and x indices grow."""
    return tuple(
        "".join(_LETTERS[axis][flip] for axis, flip in zip(axes, flips, strict=True))
        for axes in permutations(range(3))
        for flips in product((0, 1), repeat=3)
    )


def draw_orientation(recipe: Recipe, rng: np.random.Generator) -> Orientation:
    """What turns a canonical array into one of the recipe's orientations.

    Raises:
        UsageError: The recipe names an orientation that does not exist.
    """
    codes = recipe.orientations or orientation_codes()
    code = codes[int(rng.integers(len(codes)))]
    if code not in orientation_codes():
        raise UsageError(f"There is no orientation {code!r}.", remedy="Write it like SPL, PIR or LAS.")
    where = {letter: (axis, bool(flip)) for axis in range(3) for flip, letter in enumerate(_LETTERS[axis])}
    (a, fa), (b, fb), (c, fc) = (where[letter] for letter in code)
    return Orientation((a, b, c), (fa, fb, fc))


def draw_grid(patient: Patient, recipe: Recipe, rng: np.random.Generator) -> Grid:
    """A lattice, near canonical, over a part of the patient."""
    low, high = _draw_extent(patient, recipe, rng)
    turn = _oblique(recipe, rng)
    size = (high - low)[::-1]
    finest, ratio = _log_uniform(recipe.spacing, rng), _log_uniform(recipe.anisotropy, rng)
    spacing = np.full(3, finest)
    # Thick slices are sagittal (along x) or axial (along z), as spine protocols have them.
    spacing[int(rng.choice((0, 2)))] *= ratio
    spacing *= max(1.0, float(np.prod(size / spacing) / recipe.max_voxels) ** (1 / 3))
    shape = np.maximum(np.rint(size / spacing), 8).astype(int)
    direction = turn[:, ::-1]
    centre = (low + high) / 2
    origin = centre - direction @ (spacing * (shape - 1) / 2)
    return Grid(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=matrix_rows(direction),
    )


def _draw_extent(patient: Patient, recipe: Recipe, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest corner (x, y, z) of the field of view, mm."""
    views = recipe.field_of_view
    region = views if isinstance(views, str) else str(rng.choice(views))
    name = str(rng.choice(list(_REGIONS), p=_SHARES)) if region == "any" else region
    uppers, lowers = _REGIONS[name]
    top, bottom = (_between(patient, landmarks, rng) for landmarks in (uppers, lowers))
    seen = [v.centre for v in patient.vertebrae if bottom - 20 < v.centre[2] < top + 20]
    centres = np.array(seen)
    half = rng.uniform(*recipe.width) / 2
    spread = np.ptp(centres[:, 0]) / 2
    middle = (centres[:, 0].min() + centres[:, 0].max()) / 2 + rng.normal(0, 4)
    low = (middle - half - spread, centres[:, 1].min() - rng.uniform(*recipe.front), bottom)
    high = (middle + half + spread, centres[:, 1].max() + rng.uniform(*recipe.back), top)
    return np.array(low), np.array(high)


def _between(patient: Patient, landmarks: tuple[str, str], rng: np.random.Generator) -> float:
    """A height between two landmarks, mm."""
    upper, lower = (_height(patient, landmark) for landmark in landmarks)
    return float(rng.uniform(lower, upper))


def _height(patient: Patient, landmark: str) -> float:
    """Height z of a landmark in mm."""
    if landmark == "skull":
        return float(patient.vertebrae[0].centre[2]) + 45 * patient.size
    if landmark.startswith("S"):
        depth = {"S1": -14.0, "S3": -62.0}[landmark] * patient.size
        return float(patient.sacrum.to_world((0.0, 0.0, depth))[2])
    return float(patient.find(landmark).centre[2])


def _oblique(recipe: Recipe, rng: np.random.Generator) -> FloatArray:
    """A rotation by up to ``recipe.oblique`` degrees around each world axis."""
    a, b, c = np.radians(rng.uniform(-1, 1, 3) * recipe.oblique)
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return np.asarray(np.array(about_z) @ np.array(about_y) @ np.array(about_x))


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))
