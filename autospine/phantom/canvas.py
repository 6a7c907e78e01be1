"""Painting solids into a scan: supersampled intensities and, at the scan's own voxels, labels.

A thin cortical shell in a thick slice must lose contrast as it does in a scanner, so intensities are
painted on a finer lattice (edges near ``FINE`` mm where the scan is coarser) and averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import Box, Grid
from autospine.phantom.shapes import Field, Pose, Shape, blend

FINE: Final = 1.5
_MARGIN: Final = 2.0  # mm around a shape within which its distance is known
_CORNERS: Final = np.array(list(product((0, 1), repeat=3)))
_TILE: Final = 64  # voxels after which the trabecular pattern repeats
_FAR: Final = np.float32(1e3)
_JOINT: Final = np.float32(1.2)  # width of the joint space kept between two bones, mm


IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Bone:
    """What a bone is made of.

    Args:
        cortex: HU of its shell.
        marrow: HU of its inside.
        shell: Thickness of the shell in mm.
        grain: Standard deviation in HU of the trabecular pattern.
    """

    cortex: float
    marrow: float
    shell: float
    grain: float = 0.0


@dataclass(frozen=True, eq=False)
class Solid:
    """A solid sampled on a box of the fine lattice; the box may reach beyond the scan."""

    box: Box
    distance: Field
    core: Field


class Canvas:
    """A scan in the making.

    Args:
        grid: The scan's lattice; axes near superior, posterior, left.
        rng: Source of the trabecular patterns.
    """

    def __init__(self, grid: Grid, rng: np.random.Generator) -> None:
        self.grid = grid
        self.factors = tuple(max(1, round(s / FINE)) for s in grid.spacing)
        self.fine = grid.resized([n * f for n, f in zip(grid.shape, self.factors, strict=True)])
        self.hu = np.empty(self.fine.shape, np.float32)
        self.labels = np.zeros(grid.shape, np.uint8)
        self._occupied = np.zeros(grid.shape, np.float32)
        self._nearest = np.full(self.fine.shape, _FAR, np.float32)
        self._width = np.float32(np.prod(self.fine.spacing) ** (1 / 3))
        self._grain = _trabeculae(self.fine, rng)

    def background(self, start: int, hu: Field) -> None:
        """Set what lies behind everything: intensities at the scan's own voxels from slice ``start`` on."""
        for axis, factor in enumerate(self.factors):
            hu = np.repeat(hu, factor, axis=axis)
        start *= self.factors[0]
        self.hu[start : start + len(hu)] = hu

    def sample(self, shapes: Sequence[Shape], pose: Pose, reach: float = 2.0) -> Solid | None:
        """Distances to the union of ``shapes``, grooves filled over ``reach`` mm; None when out of view.

        ``core`` of the result is the distance to the first shape alone.
        """
        starts, stops = self._boxes(shapes, pose)
        start, stop = starts.min(axis=0), stops.max(axis=0)
        if (stop <= 0).any() or (start >= self.fine.shape).any():
            return None
        boxes = [Box(_ints(a), _ints(b)) for a, b in zip(starts, stops, strict=True)]
        distance = np.full(stop - start, _FAR, np.float32)
        core = distance.copy()
        for shape, box in zip(shapes, boxes, strict=True):
            local = tuple(slice(a - o, b - o) for a, b, o in zip(box.start, box.stop, start, strict=True))
            part = shape.distance(*coordinates(self.fine, box, pose))
            distance[local] = blend(distance[local], part, reach)
            if shape is shapes[0]:
                core[local] = part
        return Solid(Box(_ints(start), _ints(stop)), distance, core)

    def fill(self, shapes: Sequence[Shape], pose: Pose, hu: float, blur: float = 0.0) -> None:
        """Paint solids of one intensity, such as a disc or a vessel.

        Args:
            shapes: What to paint, as one union.
            pose: Their frame.
            hu: Intensity.
            blur: Width in mm over which the surface fades, beyond the voxel's own size.
        """
        solid = self.sample(shapes, pose)
        if solid is None:
            return
        inside, local = self._clip(solid.box)
        cover = np.clip(0.5 - solid.distance[local.slices] / (self._width + np.float32(blur)), 0, 1)
        view = self.hu[inside.slices]
        view += cover * (np.float32(hu) - view)

    def paint_bone(self, solid: Solid, bone: Bone, label: int = 0) -> None:
        """Paint a bone with shell and marrow, a joint space away from the bones painted before.

        Args:
            solid: Its shape.
            bone: Its material.
            label: What its voxels are labelled with; 0 leaves them unlabelled.
        """
        inside, local = self._clip(solid.box)
        nearest = self._nearest[inside.slices]
        distance = np.maximum(solid.distance[local.slices], _JOINT - nearest)
        np.minimum(nearest, distance, out=nearest)
        cover = np.clip(0.5 - distance / self._width, 0, 1)
        shell = np.clip((np.float32(bone.shell) + distance) / self._width + np.float32(0.5), 0, 1)
        marrow = np.float32(bone.marrow) * np.ones_like(distance)
        if bone.grain:
            indices = [np.arange(a, b) % _TILE for a, b in zip(inside.start, inside.stop, strict=True)]
            marrow += self._grain[np.ix_(*indices)] * np.float32(bone.grain)
        view = self.hu[inside.slices]
        view += cover * (marrow + shell * (np.float32(bone.cortex) - marrow) - view)
        if label:
            self._label(inside, cover, label)

    def _label(self, inside: Box, cover: Field, value: int) -> None:
        """Label the voxels that a bone fills by half, and more than the bones labelled before it."""
        share = self._pool(cover)
        coarse = tuple(
            slice(a // f, b // f) for a, b, f in zip(inside.start, inside.stop, self.factors, strict=True)
        )
        won = (share >= 0.5) & (share > self._occupied[coarse])
        self.labels[coarse][won] = value
        self._occupied[coarse][won] = share[won]

    def overlaps(self, solid: Solid) -> bool:
        """Whether any of a solid lies in the scan."""
        _, local = self._clip(solid.box)
        return bool((solid.distance[local.slices] < 0).any())

    def shares_inside(self, distance: Field, box: Box) -> tuple[float, float]:
        """How much of a solid lies in the scan, and how much lies between its lowest and highest slice."""
        _, local = self._clip(box)
        inside = distance < 0
        total = max(int(inside.sum()), 1)
        return int(inside[local.slices].sum()) / total, int(inside[local.slices[0]].sum()) / total

    def finished(self) -> NDArray[Any]:
        """Intensities in HU on the scan's own lattice, float32."""
        return self._pool(self.hu)

    def _boxes(self, shapes: Sequence[Shape], pose: Pose) -> tuple[IntArray, IntArray]:
        """Boxes of the fine lattice around shapes, in whole voxels of the scan: starts and stops, (n, 3)."""
        bounds = np.array([shape.bounds for shape in shapes])  # (n, low and high, x y z)
        corners = np.stack([bounds[:, _CORNERS[:, axis], axis] for axis in range(3)], axis=-1)
        index = self.fine.to_index(corners @ pose.rotation.T + pose.position)
        margin = _MARGIN / np.asarray(self.fine.spacing) + 1
        factors = np.asarray(self.factors)
        start = np.floor((index.min(axis=1) - margin) / factors) * factors
        stop = np.ceil((index.max(axis=1) + margin) / factors) * factors
        return start.astype(int), stop.astype(int)

    def _clip(self, box: Box) -> tuple[Box, Box]:
        """The part of a box inside the scan, in the scan's and in the box's own indices."""
        start = [max(0, a) for a in box.start]
        stop = [max(a, min(b, n)) for a, b, n in zip(start, box.stop, self.fine.shape, strict=True)]
        local = Box(
            tuple(a - o for a, o in zip(start, box.start, strict=True)),
            tuple(b - o for b, o in zip(stop, box.start, strict=True)),
        )
        return Box(tuple(start), tuple(stop)), local

    def _pool(self, array: Field) -> Field:
        a, b, c = self.factors
        if (a, b, c) == (1, 1, 1):
            return array
        z, y, x = array.shape
        return np.asarray(
            array.reshape(z // a, a, y // b, b, x // c, c).mean(axis=(1, 3, 5)), dtype=np.float32
        )


def coordinates(grid: Grid, box: Box, pose: Pose) -> tuple[Field, Field, Field]:
    """Coordinates (x, y, z) in mm, in the frame of ``pose``, of the voxels of ``grid`` inside ``box``."""
    affine = grid.affine
    matrix = pose.rotation.T @ affine[:3, :3]
    offset = pose.rotation.T @ (affine[:3, 3] - pose.position)
    indices = [np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True)]
    x, y, z = (
        (row[0] * indices[0] + shift).astype(np.float32)[:, None, None]
        + (row[1] * indices[1]).astype(np.float32)[None, :, None]
        + (row[2] * indices[2]).astype(np.float32)[None, None, :]
        for row, shift in zip(matrix, offset, strict=True)
    )
    return x, y, z


def _trabeculae(grid: Grid, rng: np.random.Generator) -> Field:
    """A periodic pattern with unit deviation: struts of about a millimetre in thinner and denser patches."""
    noise = rng.standard_normal((_TILE, _TILE, _TILE), dtype=np.float32)
    spacing = np.asarray(grid.spacing)
    pattern = np.zeros_like(noise)
    for size, share in ((0.6, 1.0), (3.0, 0.8)):
        part = ndimage.gaussian_filter(noise, size / spacing, mode="wrap")
        pattern += share * part / part.std()
    return np.asarray(pattern / pattern.std(), dtype=np.float32)


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(v) for v in values)
