"""Vertebrae as groups of voxels: every voxel votes for a body's centre, and where votes meet is a vertebra.

The voting is that of Panoptic-DeepLab (Cheng et al., CVPR 2020), in three dimensions and in mm: because a
voxel belongs to the centre it points to, one vertebra cannot carry two names, and two that touch do not
fuse. Places are mm along the axes z, y, x of the oriented scan, counted from its first voxel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from autospine.core.geometry import FloatArray

#: Edge in mm of the bins that votes are counted in, and the Gaussian they are smoothed with.
_BIN: Final = 2.5
_SMOOTHING: Final = 4.0
#: No two centres lie closer than this, mm; bodies of the neck are 15 mm apart.
_CLOSEST: Final = 9.0
#: A peak this near, in mm, to a higher one is its echo if it has less than this share of its height.
_ECHO: Final = 22.0
_ECHO_SHARE: Final = 0.2
#: Votes of this many mm³ in one point are worth a centre; the body of C3 alone has 3000.
_LEAST: Final = 400.0
#: Radius in mm within which a peak's votes are averaged.
_RADIUS: Final = 8.0
#: No more peaks than this are looked at: a column has 26 levels at most, and what is more is noise.
_MOST: Final = 100
_TINY: Final = 1e-12
#: Votes that are worked on together.
_AT_ONCE: Final = 2**18
#: Votes farther than this, in mm, from every centre belong to none.
REACH: Final = 20.0


@dataclass(frozen=True)
class Votes:
    """Where voxels say that the centre of their own vertebra lies.

    Args:
        places: Shape (n, 3), mm.
        weights: What each vote counts, mm³, (n,).
    """

    places: FloatArray
    weights: FloatArray

    def weighted(self, weight: float) -> Votes:
        """The same votes, each counting ``weight`` times as much."""
        return Votes(self.places, self.weights * weight)


def find_centres(*votes: Votes) -> FloatArray:
    """Where votes meet, from head to foot.

    Args:
        votes: Of all voxels that may belong to a vertebra, in any number of pieces.

    Returns:
        Shape (k, 3), mm.
    """
    density, origin = _density(votes)
    if density.size == 0:
        return np.empty((0, 3))
    size = 2 * round(_CLOSEST / _BIN) + 1
    peaks = (density == ndimage.maximum_filter(density, size)) & (density >= _threshold())
    index = np.argwhere(peaks)
    heights = density[tuple(index.T)]
    if len(index) == 0:
        return np.empty((0, 3))
    order = np.argsort(-heights, kind="stable")[:_MOST]
    kept = _without_echoes(origin + index[order] * _BIN, heights[order])
    centres = _refined(kept, votes)
    return centres[np.argsort(-centres[:, 0], kind="stable")]


def nearest_centre(places: FloatArray, centres: FloatArray) -> NDArray[np.intp]:
    """Which centre each vote means.

    Args:
        places: Votes of shape (n, 3), mm.
        centres: Shape (k, 3), mm.

    Returns:
        Indices into ``centres`` of shape (n,); -1 where none lies within ``REACH``.
    """
    if len(centres) == 0:
        return np.full(len(places), -1)
    tree, result = KDTree(centres), np.empty(len(places), dtype=np.intp)
    for part in _parts(len(places)):
        _, index = tree.query(places[part], distance_upper_bound=REACH)
        result[part] = np.where(index == len(centres), -1, index)
    return result


def _few_at_a_time(votes: Sequence[Votes]) -> Iterator[Votes]:
    """All votes in pieces, so that what is computed of one stays small."""
    for some in votes:
        for part in _parts(len(some.places)):
            yield Votes(some.places[part], some.weights[part])


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE))


def _density(votes: Sequence[Votes]) -> tuple[FloatArray, FloatArray]:
    """Smoothed votes in mm³ per bin, and the place of the first bin's middle."""
    some = [v.places for v in votes if len(v.places)]
    if not some:
        return np.empty((0, 0, 0)), np.zeros(3)
    margin = 3 * _SMOOTHING
    origin = np.min([p.min(axis=0) for p in some], axis=0) - margin
    farthest = np.max([p.max(axis=0) for p in some], axis=0)
    shape = np.ceil((farthest + margin - origin) / _BIN).astype(int) + 1
    counts = np.zeros(int(np.prod(shape)))
    for part in _few_at_a_time(votes):
        bins = np.rint((part.places - origin) / _BIN).astype(int)
        np.add.at(counts, np.ravel_multi_index(tuple(bins.T), tuple(shape)), part.weights)
    return ndimage.gaussian_filter(counts.reshape(shape), _SMOOTHING / _BIN, mode="constant"), origin


def _threshold() -> float:
    """Height of the peak that ``_LEAST`` mm³ of votes make in one point."""
    return float(_LEAST / (np.sqrt(2 * np.pi) * _SMOOTHING / _BIN) ** 3)


def _without_echoes(places: FloatArray, heights: FloatArray) -> FloatArray:
    """Peaks, highest first, less those that stand too near to a higher one."""
    kept: list[int] = []
    for i, place in enumerate(places):
        distances = [float(np.linalg.norm(place - places[j])) for j in kept]
        shares = [heights[i] / heights[j] for j in kept]
        echo = any(
            d < _CLOSEST or (d < _ECHO and share < _ECHO_SHARE)
            for d, share in zip(distances, shares, strict=True)
        )
        if not echo:
            kept.append(i)
    return places[kept]


def _refined(centres: FloatArray, votes: Sequence[Votes]) -> FloatArray:
    """The weighted mean of the votes nearest to each centre, twice over."""
    result = centres
    for _ in range(2):
        tree, total, sums = KDTree(result), np.zeros(len(result)), np.zeros((len(result), 3))
        for part in _few_at_a_time(votes):
            _, index = tree.query(part.places, distance_upper_bound=_RADIUS)
            near = index < len(result)
            mine, weights = index[near], part.weights[near]
            total += np.bincount(mine, weights, len(result))
            for axis, along in enumerate(part.places[near].T):
                sums[:, axis] += np.bincount(mine, weights * along, len(result))
        found = sums / np.maximum(total, _TINY)[:, None]
        result = np.where(total[:, None] > 0, found, result)
    return result
