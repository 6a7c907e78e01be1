"""Where vertebrae may lie that the border of the field of view cuts and that nobody labelled.

VerSe labels a vertebra only when all of it is in view. A network that learns from such masks as they are
is told that the vertebrae at the upper and lower border are background, and learns to leave vertebrae out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core import anatomy
from autospine.core.geometry import Box, FloatArray, Grid, Orientation, Triple

_PIXEL: Final = 2.0  # mm, of the raster that holds a cross-section
#: Millimetres by which it is grown, for the neighbour may be larger, and the column curved. C1 and T1 are
#: much wider than the vertebrae between them.
_MARGINS: Final = {"cervical": 16.0, "thoracic": 10.0, "lumbar": 10.0}
_OVERLAP: Final = 8.0  # mm by which the neighbour's processes reach past the middle of a body
_UPRIGHT: Final = 0.4  # least cosine between the column's end and the vertical
_ROUNDING: Final = 6  # decimals that do not depend on the order of the array's axes
_C1: Final = anatomy.label_of("C1")
_LAST: Final = (anatomy.label_of("L5"), anatomy.label_of("L6"))


def unlabelled_neighbours(
    labels: NDArray[Any], grid: Grid, centres: Mapping[int, Triple]
) -> NDArray[np.bool_]:
    """Voxels that may belong to a cut, unlabelled vertebra above or below the labelled ones.

    They are those of a straight tube that goes on in the column's direction from the middle of the last
    labelled vertebra to the border of the scan. Its cross-section is that vertebra's own, with all
    processes, grown by 10 mm, in the neck by 16. There is none above C1, where the skull is, and none below
    L5 and L6, where the sacrum is.

    Args:
        labels: Anatomical labels 1..26 of shape ``grid.shape``, in any orientation; 0 is background.
        grid: The lattice of the labels.
        centres: LPS world position (x, y, z) in mm of the body's centre by label. Beyond an
            end vertebra without one, nothing is ignored.

    Returns:
        True where a voxel has no label and may lie in such a vertebra; of the labels' shape.
    """
    ignored = np.zeros(labels.shape, dtype=bool)
    boxes = _boxes(labels)
    column = sorted(boxes, key=anatomy.rank_of)
    known = [label for label in column if label in centres]
    ends = []
    if known and known[0] == column[0] != _C1:
        ends.append((known, 1.0))
    if known and known[-1] == column[-1] not in _LAST:
        ends.append((known[::-1], -1.0))
    for inwards, sense in ends:
        end, places = inwards[0], [np.asarray(centres[label]) for label in inwards[:2]]
        voxels = np.argwhere(labels[boxes[end].slices] == end) + boxes[end].start
        margin = _MARGINS[anatomy.region_of(end)]
        _fill(ignored, grid, _tube(grid.to_world(voxels), places[0], _axes(grid, places, sense), margin))
    ignored &= labels == 0
    return ignored


@dataclass(frozen=True, eq=False)
class _Tube:
    """A prism of any cross-section with an open end.

    Args:
        axes: Orthonormal rows: outwards along the column, to posterior, to the side.
        start: Where it begins along the first axis, mm.
        corner: Where the raster of its cross-section begins along the other two, mm.
        section: The cross-section, in pixels of ``_PIXEL`` mm.
    """

    axes: FloatArray
    start: float
    corner: FloatArray
    section: NDArray[np.bool_]


def _boxes(labels: NDArray[Any]) -> dict[int, Box]:
    found = enumerate(ndimage.find_objects(labels, max_label=max(anatomy.COLUMN_LABELS)), start=1)
    return {
        label: Box(tuple(part.start for part in slices), tuple(part.stop for part in slices))
        for label, slices in found
        if slices is not None
    }


def _axes(grid: Grid, places: Sequence[FloatArray], sense: float) -> FloatArray:
    """Axes of the tube at one end of the column, whose last one or two body centres are given."""
    superior = np.asarray(Orientation.to_canonical(grid).apply_grid(grid).direction)[:, 0]
    outwards = places[0] - places[-1]
    # One vertebra alone has no direction, and one between mixed-up vertebrae is worth nothing.
    if sense * (outwards @ superior) <= _UPRIGHT * np.linalg.norm(outwards):
        outwards = sense * superior
    outwards = outwards / np.linalg.norm(outwards)
    posterior = np.array([0.0, 1.0, 0.0]) - outwards[1] * outwards
    posterior /= np.linalg.norm(posterior)
    return np.stack([outwards, posterior, np.cross(outwards, posterior)])


def _tube(points: FloatArray, centre: FloatArray, axes: FloatArray, margin: float) -> _Tube:
    """The tube that begins in a vertebra, given by the world positions (n, 3) of its voxels in mm."""
    across = points @ axes[1:].T
    edge = int(np.ceil(margin / _PIXEL)) + 1
    corner = across.min(axis=0) - edge * _PIXEL
    pixels = _pixels(across - corner)
    section = np.zeros(pixels.max(axis=0) + 1 + edge, dtype=bool)
    section[tuple(pixels.T)] = True
    grown = ndimage.distance_transform_edt(~section, sampling=_PIXEL) <= margin
    return _Tube(axes, float(axes[0] @ centre) - _OVERLAP, corner, grown)


def _fill(ignored: NDArray[np.bool_], grid: Grid, tube: _Tube) -> None:
    """Set the voxels inside a tube, plane by plane to spare memory."""
    box = _bounds(grid, tube)
    if box is None:
        return
    matrix = tube.axes @ grid.affine[:3, :3]
    shift = tube.axes @ grid.affine[:3, 3] - [tube.start, *tube.corner]
    first, second, third = (np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True))
    plane = shift[:, None, None] + matrix[:, 1, None, None] * second[:, None]
    plane = plane + matrix[:, 2, None, None] * third
    rows, columns = tube.section.shape
    for index in first:
        along, back, side = plane + matrix[:, 0, None, None] * index
        y, x = _pixels(back), _pixels(side)
        inside = (np.round(along, _ROUNDING) >= 0) & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        inside[inside] = tube.section[y[inside], x[inside]]
        ignored[index][box.slices[1:]] |= inside


def _pixels(offsets: FloatArray) -> NDArray[np.intp]:
    return np.floor(np.round(offsets / _PIXEL, _ROUNDING)).astype(np.intp)


def _bounds(grid: Grid, tube: _Tube) -> Box | None:
    """The part of the grid that a tube can reach."""
    corners = grid.to_world(list(product(*((0, n - 1) for n in grid.shape))))
    end = float((corners @ tube.axes[0]).max())
    far = tube.corner + np.asarray(tube.section.shape) * _PIXEL
    edges = product((tube.start, end), *zip(tube.corner, far, strict=True))
    index = grid.to_index(np.array(list(edges)) @ tube.axes)
    low, high = np.floor(index.min(axis=0)), np.ceil(index.max(axis=0)) + 1
    reach = Box(tuple(int(v) for v in low), tuple(int(v) for v in high))
    return reach.intersection(Box.whole(grid.shape))
