"""A patient: the vertebral column from C1 to the sacrum, and what varies from person to person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from autospine.core import anatomy
from autospine.core.geometry import FloatArray
from autospine.phantom.recipe import Recipe
from autospine.phantom.shapes import Pose

Compression = Literal["none", "wedge", "biconcave", "crush"]

#: Body height, width, depth and the disc below in mm, and the forward tilt of the body in degrees;
#: rounded from the usual anatomical tables for adults. C1 has no body: its height is that of its ring.
_LEVELS: Final[dict[str, tuple[float, float, float, float, float]]] = {
    "C1": (10.0, 20.0, 8.0, 0.0, -6.0),
    "C2": (19.0, 18.0, 15.5, 5.0, -5.0),
    "C3": (13.5, 17.5, 15.5, 5.0, -2.0),
    "C4": (13.0, 18.0, 15.5, 5.0, 3.0),
    "C5": (12.8, 18.5, 16.0, 5.0, 9.0),
    "C6": (13.0, 20.0, 16.5, 5.5, 15.0),
    "C7": (14.5, 23.0, 17.0, 5.0, 20.0),
    "T1": (16.0, 27.0, 17.5, 4.0, 23.0),
    "T2": (17.5, 27.5, 18.5, 3.6, 22.0),
    "T3": (18.0, 26.5, 19.5, 3.4, 18.0),
    "T4": (18.5, 26.0, 21.0, 3.4, 13.0),
    "T5": (19.0, 26.0, 22.5, 3.6, 8.0),
    "T6": (19.5, 26.5, 24.0, 3.9, 3.0),
    "T7": (20.0, 27.5, 25.5, 4.2, -2.0),
    "T8": (20.5, 28.5, 27.0, 4.5, -6.0),
    "T9": (21.0, 30.0, 28.0, 4.8, -9.0),
    "T10": (22.0, 32.0, 29.0, 5.2, -12.0),
    "T11": (23.0, 34.5, 29.5, 5.8, -14.0),
    "T12": (24.8, 37.5, 30.0, 6.6, -15.5),
    "T13": (25.5, 39.0, 30.5, 7.0, -15.5),
    "L1": (26.3, 40.5, 31.0, 7.8, -14.0),
    "L2": (27.0, 42.5, 32.0, 8.8, -9.0),
    "L3": (27.4, 44.5, 33.0, 9.8, -1.0),
    "L4": (27.4, 47.0, 33.8, 10.6, 9.0),
    "L5": (27.2, 50.0, 34.3, 10.0, 22.0),
    "L6": (26.5, 51.0, 34.0, 9.0, 30.0),
}
_SACRAL_SLOPE: Final = 38.0
_DENS_RISE: Final = 11.0  # centre of the atlas's ring above the upper end of the body of C2, mm
_ARCH_FORWARD: Final = 10.5  # anterior arch of the atlas in front of the dens's axis, mm


@dataclass(frozen=True, eq=False)
class Vertebra:
    """One vertebra; lengths in mm, its frame's origin in the middle of its body.

    Args:
        label: autospine label, 1..26.
        pose: Its place in the world.
        height: Height of the posterior wall.
        width: Of the body.
        depth: Of the body.
        disc: Height of the disc below.
        waist: Share by which the body narrows in the middle.
        compression: Kind of fracture.
        loss: Share of the height lost to it.
        processes: Factor on the length of the spinous and transverse processes.
        lean: How far the tip of the spinous process lies off the midline.
        ribs: Length of the left and the right rib; 0 where there is none.
    """

    label: int
    pose: Pose
    height: float
    width: float
    depth: float
    disc: float
    waist: float
    compression: Compression
    loss: float
    processes: float
    lean: float
    ribs: tuple[float, float]

    @property
    def name(self) -> str:
        """``"L1"``."""
        return anatomy.name_of(self.label)

    @property
    def centre(self) -> FloatArray:
        """World position (x, y, z) of the body's centre, mm."""
        return self.pose.position


@dataclass(frozen=True, eq=False)
class Patient:
    """What is scanned; the origin of the world is the middle of the upper plate of the sacrum.

    Args:
        vertebrae: From C1 downwards.
        sacrum: Pose of the sacrum's upper plate.
        size: Factor on all lengths.
        marrow: HU of trabecular bone.
        cortex: HU of cortical bone.
        shell: Thickness of the cortical shell, mm.
        fat: Thickness of the fat under the skin, mm.
        vessels: HU of blood; above 60 with contrast medium.
        screws: Labels of the vertebrae that carry pedicle screws.
        texture: Seed of the patient's irregular details (bowel, lung vessels).
    """

    vertebrae: tuple[Vertebra, ...]
    sacrum: Pose
    size: float
    marrow: float
    cortex: float
    shell: float
    fat: float
    vessels: float
    screws: tuple[int, ...]
    texture: int

    def find(self, name: str) -> Vertebra:
        """The vertebra of that name; for one the patient lacks, the next one above."""
        rank = anatomy.rank_of(anatomy.label_of(name))
        return [v for v in self.vertebrae if anatomy.rank_of(v.label) <= rank][-1]


def draw_patient(recipe: Recipe, rng: np.random.Generator) -> Patient:
    """A patient of the recipe's population."""
    size = float(np.clip(rng.normal(1.0, 0.07), 0.82, 1.18))
    names = _draw_levels(recipe, rng)
    vertebrae, sacrum = _stack(names, size, recipe, rng)
    marrow = float(rng.uniform(*recipe.osteoporosis))
    return Patient(
        vertebrae=vertebrae,
        sacrum=sacrum,
        size=size,
        marrow=marrow,
        cortex=float(np.clip(620 + 1.6 * marrow + rng.normal(0, 60), 600, 1200)),
        shell=float(rng.uniform(0.8, 1.5)),
        fat=float(rng.uniform(8, 32)),
        vessels=float(rng.choice([40.0, 45.0, 140.0, 260.0])),
        screws=_draw_screws(names, recipe, rng),
        texture=int(rng.integers(2**31)),
    )


def _draw_levels(recipe: Recipe, rng: np.random.Generator) -> list[str]:
    missing, thirteen, six = rng.random(3)
    absent = {"T13", "L6"}
    if missing < recipe.missing_thoracic:
        absent.add("T12")
    elif thirteen < recipe.extra_thoracic:
        absent.discard("T13")
    if six < recipe.extra_lumbar:
        absent.discard("L6")
    return [name for name in anatomy.COLUMN if name not in absent]


def _draw_screws(names: list[str], recipe: Recipe, rng: np.random.Generator) -> tuple[int, ...]:
    if rng.random() >= recipe.implants:
        return ()
    first = int(rng.integers(names.index("T8"), len(names) - 1))
    return tuple(anatomy.label_of(name) for name in names[first : first + int(rng.integers(2, 5))])


def _stack(
    names: list[str], size: float, recipe: Recipe, rng: np.random.Generator
) -> tuple[tuple[Vertebra, ...], Pose]:
    """Pile the vertebrae up from the sacrum; returns them from the head downwards."""
    tilts = _sagittal_tilts(names, recipe, rng)
    bends, twists = _scoliosis(len(names), recipe, rng)
    slope = _SACRAL_SLOPE * tilts[-1] / _LEVELS[names[-1]][4]
    sacrum = Pose(_rotation(slope, bends[-1], twists[-1]), np.zeros(3))
    pile: list[Vertebra] = []
    below, top = sacrum, np.zeros(3)
    for index in reversed(range(len(names))):
        rotation = _rotation(tilts[index], bends[index], twists[index])
        vertebra = _draw_vertebra(names[index], rotation, size, recipe, rng)
        if vertebra.name == "C1":
            axis = pile[-1]
            place = axis.pose.to_world((0.0, -_ARCH_FORWARD * size, axis.height / 2 + _DENS_RISE * size))
        else:
            middle = (below.rotation[:, 2] + rotation[:, 2]) / 2
            place = top + middle * vertebra.disc + rotation[:, 2] * _mean_height(vertebra) / 2
            top = place + rotation[:, 2] * _mean_height(vertebra) / 2
        below = Pose(rotation, place)
        pile.append(replace(vertebra, pose=below))
    return tuple(reversed(pile)), sacrum


def _draw_vertebra(
    name: str, rotation: FloatArray, size: float, recipe: Recipe, rng: np.random.Generator
) -> Vertebra:
    spread = rng.normal(1.0, 0.025, 5).clip(0.94, 1.06)
    height, width, depth, disc, _ = np.asarray(_LEVELS[name]) * size * spread
    kinds: tuple[Compression, ...] = ("wedge", "biconcave", "crush")
    kind = kinds[int(rng.choice(3, p=(0.55, 0.3, 0.15)))]
    loss, drawn = float(rng.uniform(0.2, 0.55)), rng.random()
    rank = anatomy.rank_of(anatomy.label_of(name))
    if drawn >= recipe.fractures or rank < anatomy.rank_of(anatomy.label_of("T4")):
        kind, loss = "none", 0.0
    return Vertebra(
        label=anatomy.label_of(name),
        pose=Pose(rotation, np.zeros(3)),
        height=float(height * (1 - loss if kind == "crush" else 1 - 0.15 * loss)),
        width=float(width),
        depth=float(depth),
        disc=float(disc * rng.uniform(0.75, 1.1)),
        waist=float(rng.uniform(0.07, 0.13)),
        compression=kind,
        loss=loss,
        processes=float(np.clip(rng.normal(1.0, 0.06), 0.85, 1.15)),
        lean=float(rng.normal(0.0, 1.2)),
        ribs=_draw_ribs(name, size, rng),
    )


def _draw_ribs(name: str, size: float, rng: np.random.Generator) -> tuple[float, float]:
    """Lengths of the left and right rib in mm.

    By the VerSe annotators' rule the last thoracic vertebra has a rib above 40 mm on at least one side.
    """
    usual = {"T1": 90.0, "T2": 160.0, "T3": 210.0, "T11": 190.0, "T12": 105.0, "T13": 62.0}
    stub = rng.random() < 0.06
    if name == "L1" and stub:
        length, spread = 22.0, 0.3
    elif name.startswith("T"):
        length, spread = usual.get(name, 240.0), 0.22 if name in ("T12", "T13") else 0.05
    else:
        return (0.0, 0.0)
    left, right = length * size * rng.normal(1.0, spread, 2).clip(0.6, 1.4)
    return (max(float(left), 46.0), float(right)) if name in ("T12", "T13") else (float(left), float(right))


def _sagittal_tilts(names: list[str], recipe: Recipe, rng: np.random.Generator) -> FloatArray:
    usual = np.array([_LEVELS[name][4] for name in names])
    # One factor per curve, blended along the column so that neighbours stay in line.
    anchors = [names.index(name) for name in ("C1", "C5", "T5", "T10", "L2", names[-1])]
    factors = np.interp(np.arange(len(names)), anchors, rng.uniform(*recipe.curvature, len(anchors)))
    return np.asarray(usual * factors + rng.normal(0, 1.0, len(names)))


def _scoliosis(count: int, recipe: Recipe, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Lateral tilts and axial rotations in degrees, from the head downwards."""
    strength = recipe.scoliosis * rng.random() ** 2 * rng.choice([-1.0, 1.0])
    wavelength, phase = rng.uniform(11, 20), rng.uniform(0, 2 * np.pi)
    wave = 2 * np.pi * np.arange(count) / wavelength + phase
    # The tilt is the slope of the lateral bow; the rotation follows the bow itself (Cobb's coupling).
    return strength * np.cos(wave), 0.6 * strength * np.sin(wave) + rng.normal(0, 0.8, count)


def _mean_height(vertebra: Vertebra) -> float:
    lost = vertebra.loss / 3 if vertebra.compression == "wedge" else 0.0
    return vertebra.height * (1 - lost)


def _rotation(forward: float, sideways: float, twist: float) -> FloatArray:
    """Axes of a vertebra tilted forward, to the left and turned, in degrees."""
    f, s, t = np.radians([forward, sideways, twist])
    about_x = np.array([[1, 0, 0], [0, np.cos(f), -np.sin(f)], [0, np.sin(f), np.cos(f)]])
    about_y = np.array([[np.cos(s), 0, np.sin(s)], [0, 1, 0], [-np.sin(s), 0, np.cos(s)]])
    about_z = np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])
    return np.asarray(about_y @ about_x @ about_z)
