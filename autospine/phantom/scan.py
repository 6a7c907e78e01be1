"""One synthetic scan: a patient, a field of view, a grid, and the scanner's imperfections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import Grid, Triple
from autospine.core.volume import Volume
from autospine.phantom import skeleton
from autospine.phantom.canvas import Bone, Canvas, Solid
from autospine.phantom.patient import Patient, Vertebra, draw_patient
from autospine.phantom.recipe import DEFAULT, Recipe
from autospine.phantom.shapes import WORLD, Capsule, chain
from autospine.phantom.tissue import paint_tissue
from autospine.phantom.trunk import Trunk, draw_trunk
from autospine.phantom.vertebra import solids
from autospine.phantom.view import draw_grid, draw_orientation

_METAL: Final = 3000.0
_PADDING: Final = -1024
_HU_RANGE: Final = (-1024, 3071)  # what twelve bits hold
#: Share of a vertebra, and of its body, that must lie in the field of view for it to be labelled.
_WHOLE: Final = 0.93
_WHOLE_BODY: Final = 0.97

#: Tubes in front of the column: from which vertebra to which, mm to the left, mm ahead of the first and the
#: last body, radius in mm, HU (None for blood): aorta, vena cava, throat, windpipe, gullet.
_TUBES: Final[tuple[tuple[tuple[str, str], float, tuple[float, float], float, float | None], ...]] = (
    (("T5", "L4"), 12.0, (14.0, 13.0), 11.0, None),
    (("T9", "L5"), -17.0, (14.0, 9.0), 10.5, None),
    (("C1", "C5"), 0.0, (12.0, 19.0), 6.5, -990.0),
    (("C5", "T4"), 0.0, (19.0, 24.0), 8.5, -990.0),
    (("C6", "T10"), 5.0, (8.0, 10.0), 6.5, 40.0),
)


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """A scan with its exact ground truth.

    Args:
        image: HU, int16, shape (1, z, y, x), in the scan's own orientation.
        labels: autospine labels (T13 is 26), uint8, on the same grid.
        centroids: LPS world position (x, y, z) in mm of the labelled vertebrae's bodies.
        partial: Labels of vertebrae that the border cuts; they are visible but not labelled.
        patient: What was scanned.
    """

    image: Volume
    labels: Volume
    centroids: Mapping[int, Triple]
    partial: tuple[int, ...]
    patient: Patient


def generate(recipe: Recipe = DEFAULT, seed: int | tuple[int, ...] = 0) -> PhantomScan:
    """A scan of a new patient; the same recipe and seed give the same scan."""
    patient_seed, scan_seed = np.random.SeedSequence(seed).spawn(2)
    patient = draw_patient(recipe, np.random.default_rng(patient_seed))
    return scan(patient, recipe, np.random.default_rng(scan_seed))


def scan(patient: Patient, recipe: Recipe, rng: np.random.Generator) -> PhantomScan:
    """Scan a patient with a field of view, grid and image quality drawn from the recipe."""
    grid = draw_grid(patient, recipe, rng)
    trunk = draw_trunk(patient, np.random.default_rng(patient.texture))
    canvas = Canvas(grid, rng)
    paint_tissue(canvas, patient, trunk)
    _paint_vessels(canvas, patient)
    partial = _paint_column(canvas, patient)
    _paint_neighbours(canvas, patient, trunk)
    _paint_screws(canvas, patient)
    image = _imaged(canvas, recipe, rng)
    orientation = draw_orientation(recipe, rng)
    present = set(np.unique(canvas.labels).tolist())
    centroids = {
        v.label: (float(v.centre[0]), float(v.centre[1]), float(v.centre[2]))
        for v in patient.vertebrae
        if v.label in present
    }
    return PhantomScan(
        image=Volume(image[None], grid).reoriented(orientation),
        labels=Volume(canvas.labels[None], grid).reoriented(orientation),
        centroids=centroids,
        partial=partial,
        patient=patient,
    )


def _paint_vessels(canvas: Canvas, patient: Patient) -> None:
    """Spinal canal with its cord, great vessels and airway."""
    canal = skeleton.canal_path(patient)
    for radius, hu in ((9.5, -40.0), (7.5, 22.0), (4.2, 42.0)):
        stop = len(canal) if radius > 5 else len(canal) - 8  # the cord ends above the loins
        canvas.fill(chain(canal[:stop], np.full(stop, radius * patient.size)), WORLD, hu)
    for names, left, ahead, radius, fixed in _TUBES:
        hu = patient.vessels if fixed is None else fixed
        ends = (ahead[0] * patient.size, ahead[1] * patient.size)
        path = skeleton.beside(patient, names, left * patient.size, ends)
        canvas.fill(chain(path, np.full(len(path), radius * patient.size)), WORLD, hu)


def _paint_column(canvas: Canvas, patient: Patient) -> tuple[int, ...]:
    """Discs and vertebrae; returns the labels of the cut ones, which stay unlabelled."""
    lower: tuple[Vertebra | None, ...] = (*patient.vertebrae[1:], None)
    partial = []
    for vertebra, below in zip(patient.vertebrae, lower, strict=True):
        if vertebra.name != "C1":
            shape, pose = skeleton.disc(vertebra, below, patient.sacrum)
            canvas.fill((shape,), pose, 85.0, blur=1.0)
    for vertebra in patient.vertebrae:
        solid = canvas.sample(solids(vertebra, patient.size), vertebra.pose)
        if solid is None:
            continue
        whole = _is_whole(canvas, solid)
        if not whole and canvas.overlaps(solid):
            partial.append(vertebra.label)
        canvas.paint_bone(solid, _vertebral_bone(patient, vertebra), vertebra.label if whole else 0)
    return tuple(partial)


def _is_whole(canvas: Canvas, solid: Solid) -> bool:
    """Whether a vertebra can be labelled; sides cut off by a narrow field of view do not matter."""
    body_share, _ = canvas.shares_inside(solid.core, solid.box)
    _, upright_share = canvas.shares_inside(solid.distance, solid.box)
    return body_share >= _WHOLE_BODY and upright_share >= _WHOLE


def _vertebral_bone(patient: Patient, vertebra: Vertebra) -> Bone:
    # Compressed bone is denser: the same tissue in less height.
    marrow = patient.marrow * (1 + 0.5 * vertebra.loss)
    return Bone(patient.cortex, marrow, patient.shell, grain=45.0)


def _paint_neighbours(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Ribs, sacrum, pelvis and skull, none of them labelled."""
    size, first = patient.size, patient.vertebrae[0]
    bones = [(skeleton.sacrum(size), patient.sacrum), (skeleton.pelvis(size), skeleton.pelvis_pose(patient))]
    bones.append((skeleton.skull(size), skeleton.skull_pose(first, size)))
    for vertebra in patient.vertebrae:
        for side in (0, 1):
            bones.append((skeleton.rib(vertebra, side, trunk, size), WORLD))
    bone = Bone(patient.cortex, 0.9 * patient.marrow, patient.shell, grain=35.0)
    for shapes, pose in bones:
        solid = canvas.sample(shapes, pose, reach=3.0) if shapes else None
        if solid is not None:
            canvas.paint_bone(solid, bone)


def _paint_screws(canvas: Canvas, patient: Patient) -> None:
    """Pedicle screws, and one rod a side that joins their heads."""
    for sign in (-1.0, 1.0):
        heads = []
        for vertebra in patient.vertebrae:
            if vertebra.label in patient.screws:
                x, b = 15.0 * patient.size * sign, vertebra.depth / 2
                head = (x * 1.25, b + 24.0, 0.2 * vertebra.height)
                shaft = Capsule((x * 0.75, -b * 0.2, 0.15 * vertebra.height), head, 2.8, 3.0)
                canvas.fill((shaft,), vertebra.pose, _METAL)
                heads.append(vertebra.pose.to_world(head))
        if heads:
            canvas.fill(chain(np.array(heads), np.full(len(heads), 3.4)), WORLD, _METAL)


def _imaged(canvas: Canvas, recipe: Recipe, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner makes of the painting: blur, noise, kernel, padding, whole numbers."""
    hu = canvas.finished()
    spacing = np.asarray(canvas.grid.spacing)
    sharpness = float(rng.uniform(*recipe.sharpness))
    blur = (0.9 - 0.5 * sharpness) / spacing
    hu = ndimage.gaussian_filter(hu, np.where(blur > 0.2, blur, 0), output=np.float32)
    # Noise falls with the square root of the voxel's volume and its grain is as wide as the kernel.
    level = rng.uniform(*recipe.noise) * (0.6 + sharpness) / max(1.0, float(np.prod(spacing)) ** 0.4)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    grain = (0.8 - 0.6 * sharpness) / spacing
    noise = ndimage.gaussian_filter(noise, np.where(grain > 0.2, grain, 0), output=np.float32)
    hu += noise * np.float32(level / max(float(noise.std()), 1e-3))
    if sharpness > 0.6:
        hu += np.float32(sharpness - 0.6) * (hu - ndimage.gaussian_filter(hu, 1.2 / spacing))
    if rng.random() < recipe.cut_circle:
        hu[_outside_circle(canvas.grid)] = _PADDING
    return np.asarray(np.rint(np.clip(hu, *_HU_RANGE)), dtype=np.int16)


def _outside_circle(grid: Grid) -> NDArray[np.bool_]:
    """Voxels beyond the round field that a scanner reconstructs, in every axial slice."""
    _, rows, columns = grid.shape
    y = (np.arange(rows) - (rows - 1) / 2) * grid.spacing[1]
    x = (np.arange(columns) - (columns - 1) / 2) * grid.spacing[2]
    radius = 0.5 * max(rows * grid.spacing[1], columns * grid.spacing[2])
    outside = y[:, None] ** 2 + x[None, :] ** 2 > radius**2
    return np.broadcast_to(outside, grid.shape)
