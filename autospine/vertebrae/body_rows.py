"""The row of vertebral bodies on every curved plane: one piece a body, also where masks have fused them.

Three things blur the row. Pedicles join bodies to arches, so planes are cut along the bodies' back wall.
Discs that coarse voxels or a careless network have filled join bodies, so a piece that is too long is cut
across where the column, over all middle planes, is thin. And fractures leave a body in halves, one in front
of the other, which are put together again. All three are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.geometry import FloatArray
from autospine.vertebrae.bodies_and_arches import AROUND, Piece, middle, opened, pieces
from autospine.vertebrae.curved_planes import CurvedPlanes
from autospine.vertebrae.kmeans_knn_settings import KMeansKnn

#: Share of the lines across bodies that end in front of what counts as the back wall: where noise or a
#: pedicle joins a body to its arch, they end far behind.
_WALL: Final = 0.7
#: The cross-section is measured from this far in front of the curve, over planes this far beside it, mm.
_FRONT: Final = 12.0
_BESIDE: Final = 9.0
#: No cut leaves less than this of a body, mm.
_END: Final = 5.0
#: Two pieces that share so much of the shorter one's length are halves of one body.
_SHARED: Final = 0.5
#: The anterior arch of C1 is shorter than this share of C2 with its dens, and its middle lies above it.
_DENS: Final = 0.6


@dataclass(frozen=True, eq=False)
class BodyRows:
    """Bodies on every plane.

    Args:
        rows: For each plane its bodies, from foot to head.
        arches: For each plane the pieces behind the bodies' back wall.
        profile: Share of the bodies' cross-section that is filled, by height, (n,).
    """

    rows: tuple[tuple[Piece, ...], ...]
    arches: tuple[tuple[Piece, ...], ...]
    profile: FloatArray


def find_rows(planes: CurvedPlanes, settings: KMeansKnn) -> BodyRows | None:
    """Bodies and arches on every plane; None when the middle planes show no body.

    Args:
        planes: That follow the curve through the bodies.
        settings: How to look for them.
    """
    masks = opened(planes, settings.opening)
    least = settings.least_body / settings.pixel**2
    limit = _back_wall(planes, settings)
    if limit is None:
        return None
    front = planes.behind <= limit[:, None] + settings.wall
    profile = _profile(planes, front)
    rows, arches = [], []
    for k, mask in enumerate(masks):
        whole = [p for p in pieces(mask & front, k, least) if abs(middle(p, planes)[1]) < settings.row]
        cut = [part for piece in whole for part in split(piece, profile, settings)]
        rows.append(tuple(join(cut, settings)))
        arches.append(tuple(pieces(mask & ~front, k, least / 2)))
    return BodyRows(tuple(rows), tuple(arches), profile)


def split(piece: Piece, profile: FloatArray, settings: KMeansKnn) -> list[Piece]:
    """Cut a piece across, over and over, wherever the column is thin.

    Args:
        piece: One or more bodies.
        profile: Cross-section of the column by height, (n,).
        settings: What is thin and what is long.
    """
    end = round(_END / settings.pixel)
    first = int(piece.rows.min())
    inside = profile[first : first + piece.length]
    if len(inside) < 2 * end + 2:
        return [piece]
    below, above = np.maximum.accumulate(inside), np.maximum.accumulate(inside[::-1])[::-1]
    depth = inside / np.maximum(np.minimum(below, above), np.finfo(float).tiny)
    valley = end + int(depth[end:-end].argmin())
    if depth[valley] >= _thin(piece, settings):
        return [piece]
    lower = piece.rows < first + valley
    return [
        part for side in (lower, ~lower) if side.any() for part in split(piece.part(side), profile, settings)
    ]


def _thin(piece: Piece, settings: KMeansKnn) -> float:
    """What share of the cross-section on either side is so little that a piece is cut there."""
    slender = piece.area / piece.length * settings.pixel < settings.slender
    shallow = settings.shallow_slender if slender else settings.shallow
    share = piece.length**2 / piece.area
    return float(np.interp(share, [settings.single, settings.too_long], [settings.deep, shallow]))


def join(parts: list[Piece], settings: KMeansKnn) -> list[Piece]:
    """Put pieces together that lie in front of each other; the result is sorted from foot to head.

    The anterior arch of C1 lies in front of the dens, too, and stays apart.
    """
    joined: list[Piece] = []
    for piece in sorted(parts, key=lambda part: float(part.rows.mean())):
        below = joined[-1] if joined else None
        if below is not None and _overlap(below, piece) and not _is_atlas(piece, below, settings):
            joined[-1] = below.joined(piece)
        else:
            joined.append(piece)
    return joined


def _overlap(one: Piece, other: Piece) -> bool:
    shared = min(one.rows.max(), other.rows.max()) - max(one.rows.min(), other.rows.min()) + 1
    return bool(shared > _SHARED * min(one.length, other.length))


def _is_atlas(piece: Piece, below: Piece, settings: KMeansKnn) -> bool:
    """Whether a piece in front of another may be the arch of C1 in front of the dens of C2."""
    long = below.length**2 > settings.too_long * below.area
    above = float(piece.rows.mean()) > below.rows.min() + _DENS * below.length
    return long and above and piece.length < _DENS * below.length


def _back_wall(planes: CurvedPlanes, settings: KMeansKnn) -> FloatArray | None:
    """How far behind the curve the bodies' back walls lie, by height, mm, (n,)."""
    central = planes.filled[abs(planes.offsets) <= settings.central]
    behind = planes.behind >= 0
    outside = ~central[:, :, behind]
    _, heights = np.nonzero(~outside[:, :, 0])
    if not len(heights):
        return None
    # Of a line that crosses the curve inside bone, where it first leaves the bone.
    walls = planes.behind[behind][outside.argmax(axis=2)[~outside[:, :, 0]]]
    rows = np.arange(len(planes.curve.points))
    known = np.unique(heights)
    near = [abs(heights - height) * planes.pixel < AROUND for height in known]
    return np.asarray(np.interp(rows, known, [np.quantile(walls[mine], _WALL) for mine in near]))


def _profile(planes: CurvedPlanes, front: NDArray[np.bool_]) -> FloatArray:
    """Share of the bodies' cross-section that is filled, by height, (n,).

    Unlike one plane, and unlike a mask that has been rounded to pixels, it shows a disc even where voxels are
    as coarse as the disc is high.
    """
    beside = abs(planes.offsets) <= _BESIDE
    tube = front & (planes.behind >= -_FRONT)
    filled = (planes.shares[beside] * tube).sum(axis=(0, 2), dtype=float)
    share = filled / (beside.sum() * np.maximum(tube.sum(axis=1), 1))
    return np.asarray(ndimage.gaussian_filter1d(share, 1.0))
