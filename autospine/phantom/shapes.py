"""Solids as distance functions: negative inside, about the distance in mm to the surface outside.

All shapes live in the frame of the bone they belong to: x to the left, y to posterior, z to superior, mm.
The formulas are the textbook ones for signed distances; that of the ellipsoid is the usual first-order
approximation ``k(k - 1) / |grad|`` with ``k = |p / radii|``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import FloatArray, Triple

#: Coordinates or distances on a block of voxels, (z, y, x), float32.
Field = NDArray[np.float32]

_TINY = 1e-6


class Shape(Protocol):
    """Anything with a bounding box and a distance function."""

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest corner (x, y, z) in mm of an axis-parallel box around the shape."""

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """Signed distance in mm at the given coordinates, in their shape."""


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a bone is: columns of ``rotation`` are its axes in the world, ``position`` its origin in mm."""

    rotation: FloatArray
    position: FloatArray

    def to_world(self, point: Triple | FloatArray) -> FloatArray:
        """World position (x, y, z) of a point of the bone's own frame."""
        return np.asarray(self.rotation @ np.asarray(point, dtype=float) + self.position)


#: The frame of the world itself.
WORLD: Final = Pose(np.eye(3), np.zeros(3))


@dataclass(frozen=True)
class Capsule:
    """A rod from ``start`` to ``end`` whose radius changes from ``radius`` to ``end_radius``."""

    start: Triple
    end: Triple
    radius: float
    end_radius: float

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """See ``Shape``."""
        ends = np.array([self.start, self.end])
        widest = max(self.radius, self.end_radius)
        return ends.min(axis=0) - widest, ends.max(axis=0) + widest

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """See ``Shape``."""
        ax, ay, az = np.subtract(self.end, self.start).astype(np.float32)
        px, py, pz = _shifted(x, y, z, self.start)
        length2 = np.float32(max(ax * ax + ay * ay + az * az, _TINY))
        t = np.clip((px * ax + py * ay + pz * az) / length2, 0, 1)
        radius = np.float32(self.radius) + t * np.float32(self.end_radius - self.radius)
        return np.asarray(np.sqrt((px - t * ax) ** 2 + (py - t * ay) ** 2 + (pz - t * az) ** 2) - radius)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid whose axes follow its bone's frame."""

    centre: Triple
    radii: Triple

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """See ``Shape``."""
        return np.subtract(self.centre, self.radii), np.add(self.centre, self.radii)

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """See ``Shape``."""
        px, py, pz = _shifted(x, y, z, self.centre)
        a, b, c = (np.float32(r) for r in self.radii)
        px, py, pz = px / a, py / b, pz / c
        k = np.sqrt(px * px + py * py + pz * pz)
        gradient = np.sqrt((px / a) ** 2 + (py / b) ** 2 + (pz / c) ** 2)
        near_centre = -np.float32(min(self.radii))
        return np.where(k > 1e-3, k * (k - 1) / np.maximum(gradient, _TINY), near_centre).astype(np.float32)


@dataclass(frozen=True)
class Plate:
    """A flat bar with rounded edges from ``start`` to ``end``, such as a lamina.

    Args:
        start: Middle of one end.
        end: Middle of the other end.
        height: Full height, measured across the bar in the plane that holds the z axis.
        thickness: Full thickness, across both.
    """

    start: Triple
    end: Triple
    height: float
    thickness: float

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """See ``Shape``."""
        ends = np.array([self.start, self.end])
        margin = max(self.height, self.thickness) * 0.75
        return ends.min(axis=0) - margin, ends.max(axis=0) + margin

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """See ``Shape``."""
        along = np.subtract(self.end, self.start)
        length = float(np.linalg.norm(along))
        along = along / max(length, _TINY)
        side = np.cross(along, (0.0, 0.0, 1.0))
        side = side / max(float(np.linalg.norm(side)), _TINY)
        up = np.cross(side, along)
        p = _shifted(x, y, z, tuple(np.add(self.start, self.end) / 2))
        edge = 0.45 * min(self.thickness, self.height)
        halves = (length / 2 + edge, self.thickness / 2, self.height / 2)
        q = [
            np.abs(_dot(p, axis)) - np.float32(h - edge)
            for axis, h in zip((along, side, up), halves, strict=True)
        ]
        outside = np.sqrt(sum(np.maximum(v, 0) ** 2 for v in q))
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0)
        return np.asarray(outside + inside - np.float32(edge), dtype=np.float32)


@dataclass(frozen=True)
class Body:
    """A vertebral body: a waisted elliptic cylinder between two hollow end plates.

    Args:
        height: Height of the posterior wall; all lengths in mm.
        width: Left to right.
        depth: Front to back.
        waist: Share by which the middle is narrower than the end plates.
        hollow: How deep each end plate sinks in its middle.
        wedge: Share of the height lost at the front edge, all of it from above.
        uncus: How far the upper plate's lateral rims rise (the uncinate processes of the neck).
        centre: Its middle.
    """

    height: float
    width: float
    depth: float
    waist: float = 0.1
    hollow: float = 1.5
    wedge: float = 0.0
    uncus: float = 0.0
    centre: Triple = (0.0, 0.0, 0.0)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """See ``Shape``."""
        half = np.array([self.width, self.depth, self.height]) / 2 + [0, 0, self.uncus]
        return np.subtract(self.centre, half), np.add(self.centre, half)

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """See ``Shape``."""
        x, y, z = _shifted(x, y, z, self.centre)
        half = np.float32(self.height / 2)
        level = np.minimum(np.abs(z) / half, 1)
        narrow = 1 - np.float32(self.waist) * (1 - level * level)
        a, b = np.float32(self.width / 2) * narrow, np.float32(self.depth / 2) * narrow
        # The posterior wall is flat to slightly hollow: towards the back the outline is squarer.
        back = np.clip(y / b, 0, 1)
        px, py = x / a, (y + np.float32(0.12) * b * back * np.clip(1 - (x / a) ** 2, 0, 1)) / b
        px = px * (1 - np.float32(0.14) * back)
        k = np.sqrt(px * px + py * py)
        radial = k * (k - 1) / np.maximum(np.sqrt((px / a) ** 2 + (py / b) ** 2), _TINY)
        dish = np.float32(self.hollow) * np.clip(1 - k * k, 0, 1)
        front = np.clip(0.5 - 0.5 * y / b, 0, 1)
        top = half - dish - np.float32(self.wedge * self.height) * front
        top = top + np.float32(self.uncus) * np.clip(np.abs(px), 0, 1) ** 5
        axial = np.maximum(z - top, -half + dish - z)
        return _rounded_corner(radial, axial, np.float32(1.2))


@dataclass(frozen=True)
class Shell:
    """The part of an ellipsoid's surface between two levels and behind a plane.

    Args:
        centre: The ellipsoid's centre.
        radii: Its radii, to the middle of the shell.
        thickness: Full thickness in mm.
        bottom: Lowest z kept.
        top: Highest z kept.
        front: Lowest y kept.
        gap: Half-width of the opening left around the midline, mm; 0 for none.
        hole: Radius of a round opening around the z axis below the ellipsoid's centre, mm; 0 for none.
        arch: How the upper rim falls off in front and behind: z is cut at ``top - arch * (y - centre)**2``.
    """

    centre: Triple
    radii: Triple
    thickness: float
    bottom: float
    top: float
    front: float
    gap: float = 0.0
    hole: float = 0.0
    arch: float = 0.0

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """See ``Shape``."""
        low = np.subtract(self.centre, self.radii) - self.thickness
        high = np.add(self.centre, self.radii) + self.thickness
        low = np.maximum(low, [-np.inf, self.front, self.bottom])
        return low, np.minimum(high, [np.inf, np.inf, self.top])

    def distance(self, x: Field, y: Field, z: Field) -> Field:
        """See ``Shape``."""
        sheet = np.abs(Ellipsoid(self.centre, self.radii).distance(x, y, z)) - np.float32(self.thickness / 2)
        top = np.float32(self.top) - np.float32(self.arch) * (y - np.float32(self.centre[1])) ** 2
        sheet = np.maximum(sheet, np.maximum(np.float32(self.bottom) - z, z - top))
        sheet = np.maximum(sheet, np.float32(self.front) - y)
        if self.gap:
            sheet = np.maximum(sheet, np.float32(self.gap) - np.abs(x))
        if self.hole:
            opening = np.float32(self.hole) - np.sqrt(x * x + y * y)
            sheet = np.maximum(sheet, np.where(z < np.float32(self.centre[2]), opening, -np.inf))
        return np.asarray(sheet, dtype=np.float32)


#: What processes and arches are made of.
Part = Capsule | Ellipsoid | Plate


def chain(points: FloatArray, radii: FloatArray) -> tuple[Capsule, ...]:
    """A bent rod through ``points`` (n, 3) with the given radii (n,) in mm."""
    knots = [((float(p[0]), float(p[1]), float(p[2])), float(r)) for p, r in zip(points, radii, strict=True)]
    return tuple(Capsule(a, b, ra, rb) for (a, ra), (b, rb) in pairwise(knots))


def mirrored(shapes: tuple[Part, ...]) -> tuple[Part, ...]:
    """The shapes and their mirror images on the other side of the midline."""
    return shapes + tuple(_mirror(shape) for shape in shapes)


def blend(first: Field, second: Field, reach: float) -> Field:
    """Union of two distances with the groove between them filled over ``reach`` mm (quadratic blend)."""
    if reach <= 0:
        return np.minimum(first, second)
    overlap = np.maximum(np.float32(reach) - np.abs(first - second), 0)
    return np.asarray(np.minimum(first, second) - overlap * overlap * np.float32(0.25 / reach))


def _mirror(shape: Part) -> Part:
    if isinstance(shape, Ellipsoid):
        return Ellipsoid(_flip(shape.centre), shape.radii)
    if isinstance(shape, Capsule):
        return Capsule(_flip(shape.start), _flip(shape.end), shape.radius, shape.end_radius)
    return Plate(_flip(shape.start), _flip(shape.end), shape.height, shape.thickness)


def _flip(point: Triple) -> Triple:
    return (-point[0], point[1], point[2])


def _shifted(x: Field, y: Field, z: Field, origin: Triple) -> tuple[Field, Field, Field]:
    a, b, c = (np.float32(v) for v in origin)
    return x - a, y - b, z - c


def _dot(p: tuple[Field, Field, Field], axis: FloatArray) -> Field:
    a, b, c = (np.float32(v) for v in axis)
    return np.asarray(p[0] * a + p[1] * b + p[2] * c)


def _rounded_corner(radial: Field, axial: Field, radius: np.float32) -> Field:
    r, a = radial + radius, axial + radius
    outside = np.sqrt(np.maximum(r, 0) ** 2 + np.maximum(a, 0) ** 2)
    return np.asarray(outside + np.minimum(np.maximum(r, a), 0) - radius, dtype=np.float32)
