"""The bones and vessels around the column that tell its levels: ribs, sacrum, pelvis, skull, airway."""

from __future__ import annotations

import numpy as np

from autospine.core.geometry import FloatArray
from autospine.phantom.patient import Patient, Vertebra
from autospine.phantom.shapes import Body, Capsule, Ellipsoid, Plate, Pose, Shape, Shell, chain, mirrored
from autospine.phantom.trunk import Trunk
from autospine.phantom.vertebra import canal


def sacrum(size: float) -> tuple[Shape, ...]:
    """S1 to S5 with wings and crest, in the frame of the upper plate."""
    s = size
    heights, widths = (29, 24, 20, 17, 15), (50, 36, 29, 24, 20)
    depths, backs = (32, 22, 17, 13, 10), (0, 4, 6, 3, -4)
    bodies, top = [], 0.0
    for height, width, depth, back in zip(heights, widths, depths, backs, strict=True):
        middle = (0.0, back * s, (top - height / 2) * s)
        bodies.append(Body(height * s, width * s, depth * s, waist=0.08, hollow=0.6, centre=middle))
        top -= height - 0.5
    wings = (
        Ellipsoid((35 * s, 6 * s, -17 * s), (24 * s, 14 * s, 19 * s)),
        Ellipsoid((34 * s, 14 * s, -42 * s), (16 * s, 11 * s, 26 * s)),
        Ellipsoid((24 * s, 14 * s, -72 * s), (11 * s, 8 * s, 24 * s)),
        Ellipsoid((20 * s, 21 * s, -3 * s), (6 * s, 5 * s, 11 * s)),
        Capsule((20 * s, 24 * s, -12 * s), (3 * s, 34 * s, -22 * s), 3.2 * s, 3.2 * s),
        Ellipsoid((14 * s, 30 * s, -48 * s), (14 * s, 4 * s, 30 * s)),
    )
    across = (
        Plate((-36 * s, 7 * s, -18 * s), (36 * s, 7 * s, -18 * s), 25 * s, 22 * s),
        Plate((-30 * s, 11 * s, -45 * s), (30 * s, 11 * s, -45 * s), 27 * s, 16 * s),
        Plate((-20 * s, 10 * s, -72 * s), (20 * s, 10 * s, -72 * s), 26 * s, 11 * s),
    )
    crest = Ellipsoid((0.0, 35 * s, -38 * s), (3.2 * s, 6 * s, 26 * s))
    return (*bodies, *across, *mirrored(wings), crest)


def pelvis(size: float) -> tuple[Shape, ...]:
    """Iliac wings and the heads of the femurs, in a world-parallel frame at the sacrum's upper plate."""
    s = size
    wing = Shell(
        centre=(0.0, -38 * s, 25 * s),
        radii=(118 * s, 88 * s, 120 * s),
        thickness=8 * s,
        bottom=-95 * s,
        top=38 * s,
        front=-70 * s,
        gap=44 * s,
        arch=0.011 / s,
    )
    socket = Ellipsoid((80 * s, -40 * s, -100 * s), (30 * s, 32 * s, 30 * s))
    return (wing, *mirrored((socket,)))


def skull(size: float) -> tuple[Shape, ...]:
    """Cranium with the foramen magnum, condyles and lower jaw, in the frame of C1 above its canal."""
    s = size
    cranium = Shell(
        centre=(0.0, -8 * s, 96 * s),
        radii=(72 * s, 92 * s, 79 * s),
        thickness=6.5 * s,
        bottom=0.0,
        top=400.0,
        front=-400.0,
        hole=16 * s,
    )
    condyle = Ellipsoid((18 * s, -8 * s, 15.5 * s), (7 * s, 10 * s, 6 * s))
    jaw = np.array([[46, -26, 22], [44, -32, -14], [34, -62, -28], [18, -88, -32], [0, -94, -32]]) * s
    base = Capsule((0.0, -22 * s, 18 * s), (0.0, -52 * s, 38 * s), 8 * s, 10 * s)
    palate = Ellipsoid((0.0, -76 * s, 14 * s), (24 * s, 24 * s, 5 * s))
    return (cranium, base, palate, *mirrored((condyle, *chain(jaw, np.full(5, 5.5 * s)))))


def pelvis_pose(patient: Patient) -> Pose:
    """Where the pelvis stands: below the sacrum's plate, but upright whatever the plate's slope."""
    return Pose(np.eye(3), patient.sacrum.position)


def skull_pose(first: Vertebra, size: float) -> Pose:
    """Where the skull stands: on the atlas, its foramen magnum above the canal."""
    return Pose(first.pose.rotation, first.pose.to_world((0.0, 19.0 * size, 0.0)))


def rib(vertebra: Vertebra, side: int, trunk: Trunk, size: float) -> tuple[Shape, ...]:
    """One rib in world coordinates: head, neck, angle, and its sweep round the chest.

    Args:
        vertebra: The vertebra that carries it.
        side: 0 left, 1 right.
        trunk: The chest it follows.
        size: The patient's factor on all lengths.
    """
    length, sign = vertebra.ribs[side], 1.0 - 2.0 * side
    if length <= 0:
        return ()
    rank = min(int(vertebra.name[1:]), 12) if vertebra.name[0] == "T" else 12
    w, d, h = vertebra.width / 2, vertebra.depth / 2, vertebra.height
    reach = float(np.interp(rank, (1, 3, 10, 12), (37, 31, 27, 24))) * size
    start = [
        vertebra.pose.to_world((sign * (w + 1.5), d - 5.0, 0.32 * h)),
        vertebra.pose.to_world((sign * (w + 8.0), d + 5.0, 0.25 * h)),
        vertebra.pose.to_world((sign * (reach + 4), d + 13 * size, 0.05 * h)),
    ]
    slope = float(np.interp(rank, (1, 4, 9, 12), (0.35, 0.45, 0.5, 0.75)))
    points = _sweep(start, length, sign, slope, trunk)
    radii = np.full(len(points), float(np.interp(rank, (1, 6, 12), (4.2, 5.2, 4.2))) * size)
    radii[1] *= 0.8
    radii[-1] *= 0.7
    return chain(points, radii)


def _sweep(start: list[FloatArray], length: float, sign: float, slope: float, trunk: Trunk) -> FloatArray:
    """Continue a rib from its tubercle along the cage until its length is used up."""
    points = list(start)
    used = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    z, angle = float(points[-1][2]), 0.35
    while used < length and angle < 2.7:
        target = trunk.cage(z - 4, sign * angle)
        step = float(np.linalg.norm(target - points[-1]))
        if step > 3:
            share = min(1.0, (length - used) / step)
            points.append(points[-1] + share * (target - points[-1]))
            used += step
            z -= slope * step
        angle += 0.16
    return np.asarray(points)


def canal_path(patient: Patient) -> FloatArray:
    """Centres of the vertebral canal in world coordinates, from C1 to the sacrum, (n, 3) in mm."""
    s = patient.size
    points = [v.pose.to_world((0.0, 19.0 * s, 0.0)) for v in patient.vertebrae[:1]]
    points += [v.pose.to_world((0.0, canal(v, s)[2], 0.0)) for v in patient.vertebrae[1:]]
    points += [patient.sacrum.to_world((0.0, y * s, z * s)) for y, z in ((23, -8), (20, -35), (19, -60))]
    return np.asarray(points)


def beside(patient: Patient, names: tuple[str, str], left: float, ahead: tuple[float, float]) -> FloatArray:
    """A path in front of the column, one point a vertebra.

    Args:
        patient: Whose column.
        names: First and last vertebra.
        left: mm to the left of the bodies.
        ahead: mm in front of the first and of the last body; in between it changes evenly.

    Returns:
        World points (n, 3) in mm.
    """
    first, last = (patient.vertebrae.index(patient.find(name)) for name in names)
    passed = patient.vertebrae[first : last + 1]
    gaps = np.linspace(*ahead, len(passed))
    return np.array(
        [v.pose.to_world((left, -v.depth / 2 - gap, 0.0)) for v, gap in zip(passed, gaps, strict=True)]
    )


def disc(upper: Vertebra, lower: Vertebra | None, sacral: Pose) -> tuple[Body, Pose]:
    """The disc below a vertebra, halfway between the plates above and below, and its frame."""
    above = upper.pose.to_world((0.0, 0.0, -upper.height / 2))
    below = sacral.position if lower is None else lower.pose.to_world((0.0, 0.0, lower.height / 2))
    axes = upper.pose.rotation
    height = float(np.linalg.norm(above - below))
    body = Body(height + 5.0, upper.width * 1.02, upper.depth * 1.02, waist=-0.03, hollow=-0.5)
    return body, Pose(axes, (above + below) / 2)
