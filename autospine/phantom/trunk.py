"""The outline of the body and the rib cage along the column, as tables over the height z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.geometry import FloatArray
from autospine.phantom.patient import Patient
from autospine.phantom.shapes import Field

#: At each landmark, in mm and seen from the centre of the vertebral bodies: half-width, front and back of
#: the skin; half-width, front and back of the space inside the ribs (abdomen and chest); half-distance,
#: half-width, back and half-depth of the erector muscles; radius of the psoas.
_TABLE: Final[dict[str, tuple[float, ...]]] = {
    "floor": (185, 120, 95, 95, 85, 0, 25, 24, 45, 18, 20),
    "sacrum": (180, 115, 88, 105, 90, 5, 28, 26, 48, 20, 24),
    "L5": (165, 112, 80, 112, 92, 12, 29, 27, 46, 22, 23),
    "L3": (155, 112, 75, 122, 95, 20, 30, 28, 45, 23, 18),
    "L1": (155, 118, 72, 125, 102, 30, 28, 26, 42, 20, 11),
    "T10": (158, 135, 66, 128, 118, 36, 24, 22, 36, 16, 1),
    "T7": (162, 145, 62, 124, 122, 36, 22, 19, 33, 14, 1),
    "T4": (172, 125, 60, 104, 98, 32, 20, 17, 32, 14, 1),
    "T2": (178, 95, 62, 76, 66, 24, 20, 17, 33, 15, 1),
    "T1": (140, 78, 64, 52, 42, 16, 20, 17, 34, 16, 1),
    "C7": (92, 66, 64, 3, 3, 1, 20, 18, 36, 17, 1),
    "C5": (62, 60, 62, 2, 2, 1, 18, 17, 35, 18, 1),
    "C3": (60, 66, 60, 2, 2, 1, 18, 17, 34, 17, 1),
    "C1": (72, 92, 74, 2, 2, 1, 18, 17, 32, 14, 1),
    "vertex": (78, 104, 92, 2, 2, 1, 18, 17, 32, 14, 1),
}
_HEAD: Final = 190.0  # of the head above C1, mm
_STEP: Final = 0.5  # of the tables along z, mm


@dataclass(frozen=True, eq=False)
class Trunk:
    """Tables over z, one entry every half millimetre.

    Args:
        floor: z of the first entry, mm.
        spine: World x and y of the column, (2, n).
        rows: The columns of ``_TABLE``, (11, n), mm.
    """

    floor: float
    spine: NDArray[np.float32]
    rows: NDArray[np.float32]

    def index(self, z: Field) -> NDArray[np.int32]:
        """Entries of the tables at heights z."""
        steps = ((z - np.float32(self.floor)) * np.float32(1 / _STEP)).astype(np.int32)
        return np.clip(steps, 0, self.rows.shape[1] - 1)

    def cage(self, z: float, angle: float) -> FloatArray:
        """A point of the rib cage: at height z, ``angle`` radians from its back towards the left.

        Returns:
            World (x, y, z) in mm.
        """
        entry = int(self.index(np.array([z], np.float32))[0])
        width, front, back = (float(v) for v in self.rows[3:6, entry])
        x, y = (float(v) for v in self.spine[:, entry])
        middle, depth = (back - front) / 2, (back + front) / 2
        return np.array([x + width * np.sin(angle), y + middle + depth * np.cos(angle), z])


def draw_trunk(patient: Patient, rng: np.random.Generator) -> Trunk:
    """The outline of a patient's body."""
    centres = np.array([v.centre for v in patient.vertebrae])
    down, back = patient.sacrum.rotation[:, 2], patient.sacrum.rotation[:, 1]
    low = patient.sacrum.position + np.outer((20, 60, 110), -down) + np.outer((0, 8, 4), back)
    head = centres[0] + [[0, 10, 0], [0, 5, 60], [0, 0, _HEAD]]
    path = np.concatenate([low[::-1], centres[::-1][:-1], head])
    path = path[np.concatenate([[True], np.diff(path[:, 2]) > 0])]
    levels = [name for name in _TABLE if name in anatomy.COLUMN]
    heights = {name: float(patient.find(name).centre[2]) for name in levels}
    heights |= {"floor": float(low[-1, 2]), "sacrum": float(low[0, 2]), "vertex": float(head[-1, 2]) - 30}
    z = np.arange(path[0, 2], path[-1, 2], _STEP)
    order = sorted(_TABLE, key=lambda name: heights[name])
    known = np.array([heights[name] for name in order])
    girth = patient.size * float(rng.normal(1.0, 0.06))
    table = np.array([_TABLE[name] for name in order]) * girth
    table[:, :3] += patient.fat - 12
    rows = np.array([np.interp(z, known, column) for column in table.T])
    dome = np.clip((path[-1, 2] - z) / _HEAD, 0, 1)  # the head closes like one
    rows[:3] *= np.sqrt(np.clip(dome / 0.35, 0.01, 1))
    spine = [np.interp(z, path[:, 2], path[:, axis]) for axis in (0, 1)]
    return Trunk(float(z[0]), np.asarray(spine, np.float32), np.asarray(rows, np.float32))
