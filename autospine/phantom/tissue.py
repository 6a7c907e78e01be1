"""Everything soft around the bones: skin, fat, muscles, viscera, lungs, and the scanner's table."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import Box
from autospine.phantom.canvas import Canvas, coordinates
from autospine.phantom.patient import Patient
from autospine.phantom.shapes import WORLD, Field
from autospine.phantom.trunk import Trunk

AIR: Final = -1000.0
LUNG: Final = -840.0
FAT: Final = -100.0
MUSCLE: Final = 52.0

_SLAB: Final = 500_000  # voxels painted at a time, so that temporary arrays stay small
_PATTERN_STEP: Final = 5.0  # mm between the random values of the visceral pattern


def paint_tissue(canvas: Canvas, patient: Patient, trunk: Trunk) -> None:
    """Fill the canvas with everything but bones, discs and vessels."""
    rng = np.random.default_rng(patient.texture)
    pattern = ndimage.gaussian_filter(rng.standard_normal((48, 48, 48)), 1.6, mode="wrap").astype(np.float32)
    pattern /= pattern.std()
    domes = _domes(patient)
    depth, height, width = canvas.grid.shape
    thickness = max(1, _SLAB // (height * width))
    for start in range(0, depth, thickness):
        slab = Box((start, 0, 0), (min(start + thickness, depth), height, width))
        x, y, z = coordinates(canvas.grid, slab, WORLD)
        canvas.background(start, _tissue(x, y, z, patient, trunk, pattern, domes))


def _tissue(
    x: Field,
    y: Field,
    z: Field,
    patient: Patient,
    trunk: Trunk,
    pattern: Field,
    domes: tuple[float, float],
) -> Field:
    entry = trunk.index(z)
    u = x - trunk.spine[0][entry]
    v = y - trunk.spine[1][entry]
    rows = [row[entry] for row in trunk.rows]
    texture = _lookup(pattern, x, y, z)
    skin = _oval(u, v, *rows[:3])
    hu = _table(x, y, trunk)
    _over(hu, skin, 20.0)
    _over(hu, skin + np.float32(2.0), FAT + 8 * texture)
    flesh = np.clip(MUSCLE + 10 * texture - 60 * np.clip(texture - 1.2, 0, 1), FAT, 80)
    _over(hu, skin + patient.fat * np.clip(rows[0] / 150, 0.3, 1), flesh)
    cage = _oval(u, v, *rows[3:6])
    _over(hu, cage + np.float32(4.0), _viscera(x, z, texture, domes))
    side = np.abs(u)
    erector = _round(side - rows[6], v - rows[8], rows[7], rows[9])
    _over(hu, erector, flesh)
    psoas = _round(side - 22 - 0.9 * rows[10], v - 2, rows[10], rows[10])
    _over(hu, psoas, MUSCLE + 6 * texture)
    lung = _lungs(u, v, z, cage, rows[3], domes)
    vessels = 500 * np.clip(texture - 1.7, 0, 1)
    _over(hu, lung, LUNG + 25 * texture + vessels)
    return hu


def _viscera(x: Field, z: Field, texture: Field, domes: tuple[float, float]) -> Field:
    """Bowel and organs in fat; the liver fills the right of the upper abdomen."""
    bowel = FAT + 145 * np.clip(1.5 * texture + 0.4, 0, 1)
    bowel += (AIR - bowel) * np.clip(4 * texture - 8.5, 0, 1)  # gas, where the pattern peaks
    liver = np.clip((z - np.float32(domes[0] - 45)) / 20, 0, 1) * np.clip((20 - x) / 15, 0, 1)
    chest = np.clip((z - np.float32(domes[0] + 20)) / 15, 0, 1)
    solid = np.maximum(liver, chest)
    return np.asarray(bowel + solid * (50 + 6 * texture - bowel), dtype=np.float32)


def _lungs(u: Field, v: Field, z: Field, cage: Field, width: Field, domes: tuple[float, float]) -> Field:
    """Inside the ribs, above the diaphragm, beside spine and mediastinum."""
    low, high = domes
    radial = np.clip(1 + cage / np.maximum(width, 1), 0, 1)
    diaphragm = np.float32(low) + 75 * (1 - radial * radial)
    heart: Field = np.clip((np.float32(high) - z) / 60, 0, 1)
    breadth = np.asarray(30 + 26 * heart, np.float32)
    middle = _round(u - 14 * heart, v + 62, breadth, np.full_like(u, 72))
    spine = _round(u, v - 8, np.full_like(u, 27), np.full_like(u, 36))
    lung = np.maximum(cage + 9, diaphragm - z)
    return np.maximum(np.maximum(lung, -middle), -spine)


def _domes(patient: Patient) -> tuple[float, float]:
    """Heights of the lungs' lower edge behind and of the heart's upper end."""
    return float(patient.find("T12").centre[2]) - 5, float(patient.find("T5").centre[2])


def _table(x: Field, y: Field, trunk: Trunk) -> Field:
    """Air, and below the patient the curved carbon shell of the table with its foam."""
    back = float((trunk.spine[1] + trunk.rows[2]).max()) + 4
    depth = y - np.float32(back) + np.float32(4e-4) * x * x - 12
    hu = np.full(np.broadcast_shapes(x.shape, y.shape), AIR, np.float32)
    slab = np.abs(depth) - np.float32(11.0)
    _over(hu, slab, -350.0)
    _over(hu, slab + np.float32(2.0), -930.0)
    return hu


def _oval(u: Field, v: Field, width: Field, front: Field, back: Field) -> Field:
    """Distance to a rounded square's outline (the squircle of Fernández-Guasti), roughly in mm."""
    middle, depth = (back - front) / 2, (back + front) / 2
    p, q = (u / width) ** 2, ((v - middle) / depth) ** 2
    k = np.sqrt(np.maximum(p + q - np.float32(0.4) * p * q, 0))
    k = np.where((p > 1) | (q > 1), np.maximum(k, np.sqrt(np.maximum(p, q))), k)
    return (k - 1) * np.minimum(width, depth)


def _round(u: Field, v: Field, width: Field, depth: Field) -> Field:
    k = np.sqrt((u / width) ** 2 + (v / depth) ** 2)
    return (k - 1) * np.minimum(width, depth)


def _over(hu: Field, distance: Field, value: Field | float) -> None:
    """Lay a material over what is there, with an edge one millimetre wide."""
    cover = np.clip(np.float32(0.5) - distance, 0, 1)
    hu += cover * (value - hu)


def _lookup(pattern: Field, x: Field, y: Field, z: Field) -> Field:
    scale = np.float32(1 / _PATTERN_STEP)
    coordinates: NDArray[np.float32] = np.stack([z * scale, y * scale, x * scale])
    result: Field = ndimage.map_coordinates(
        pattern, coordinates, order=1, mode="grid-wrap", output=np.float32
    )
    return result
