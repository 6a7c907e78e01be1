"""What an ensemble's members say about single vertebrae: votes for centres, and names pooled over voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import FloatArray, Orientation
from autospine.core.trace import Trace
from autospine.inference.prediction import Prediction, log_of_summed_odds
from autospine.io.scratch import slabs
from autospine.vertebrae.instances import Votes, nearest_centre
from autospine.vertebrae.volumes import voxel_counts

#: Voxels that are a vertebra with less than this probability do not vote.
_LEAST_PROBABILITY: Final = 0.2
_LEAST_LOGIT: Final = float(np.log(_LEAST_PROBABILITY / (1 - _LEAST_PROBABILITY)))
#: A voxel's heat is a vote for its own place, which counts this much more than a vote from afar.
_HEAT_WEIGHT: Final = 2.0
#: No voxel of a vertebra lies farther than this from its body's centre along any axis, mm.
_FARTHEST: Final = 150.0
_TINY: Final = 1e-12
#: Float32 copies of a part of the grid that are alive while its votes are made.
_VOTE_ARRAYS: Final = 30


@dataclass(frozen=True)
class Voters:
    """The voxels of a member that may belong to a vertebra, and their votes.

    Args:
        trace: From the scan to the member's grid.
        where: Which voxels of the stored grid vote, bool of shape ``trace.shape``.
        votes: Of those voxels, in array order; one that points farther than ``_FARTHEST`` mm stays where
            it is and counts nothing.
        heat: Further votes, not bound to a voxel's membership.
    """

    trace: Trace
    where: NDArray[np.bool_]
    votes: Votes
    heat: Votes

    @classmethod
    def of(cls, prediction: Prediction, most: int) -> Voters:
        """Let the voxels of a prediction vote.

        Args:
            prediction: With centre channels, and with all vertebrae as its last class.
            most: No more voxels than this vote, and no more add their heat: the surest.
        """
        assert prediction.centres is not None
        trace, heat = prediction.trace, prediction.centres[0]
        volume = trace.stored_grid.voxel_volume
        where, foreground = _likely(prediction.logits, most)
        votes, sane = _votes(prediction.centres[1:], where, trace)
        hot, warmth = _surest(lambda part: heat[part], heat.shape, most, 1)
        return cls(
            trace,
            where,
            Votes(votes, _probability(foreground) * sane * volume),
            Votes(places(trace, hot), _probability(warmth) * (volume * _HEAT_WEIGHT)),
        )

    def groups(self, centres: FloatArray) -> NDArray[np.uint8]:
        """Number of the centre (from 1) that each voxel votes for, of shape ``trace.shape``; 0 for none."""
        result = np.zeros(self.where.shape, dtype=np.uint8)
        result[self.where] = nearest_centre(self.votes.places, centres) + 1
        return result


def places(trace: Trace, where: NDArray[np.bool_], first: int = 0) -> FloatArray:
    """Where stored voxels lie, (n, 3): mm along z, y, x of the oriented scan from its first voxel.

    Args:
        trace: Of the stored grid.
        where: Which voxels are meant; some of the grid's slices along its first axis.
        first: The first of these.
    """
    spacing = trace.orientation.apply_grid(trace.grid).spacing
    result = np.empty((int(np.count_nonzero(where)), 3))
    for stored, index in enumerate(np.nonzero(where)):
        axis = trace.axes[stored]
        along = trace.canonical_positions(axis) * spacing[axis]
        result[:, axis] = along[first:][index] if stored == 0 else along[index]
    return result


def likeliest(prediction: Prediction, channels: Sequence[int], where: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Which of some channels is the largest, as an index into them, in the voxels of ``where``."""
    found = [
        prediction.logits[:, part][:, where[part]][list(channels)].argmax(axis=0)
        for part in slabs(where.shape, len(prediction.logits))
    ]
    return np.concatenate(found)


def pooled_names(
    members: Sequence[Prediction],
    weights: Sequence[float],
    channels: Sequence[int],
    groups: NDArray[np.uint8],
    trace: Trace,
    count: int,
) -> FloatArray:
    """Weighted mean of ``names_of_groups`` over the members, (count, len(channels)).

    Rows sum to 1, but for groups that no member gives any of these classes.
    """
    total = np.zeros((count, len(channels)))
    for member, weight in zip(members, weights, strict=True):
        total += weight * names_of_groups(member, channels, groups, trace, count)
    return np.asarray(total / np.maximum(total.sum(axis=1, keepdims=True), _TINY))


def names_of_groups(
    prediction: Prediction, channels: Sequence[int], groups: NDArray[np.uint8], trace: Trace, count: int
) -> FloatArray:
    """Mean softmax of some classes over the voxels of each group.

    Args:
        prediction: One member's.
        channels: The classes.
        groups: Number of each voxel's group (from 1) on the stored grid of ``trace``.
        trace: Of the member that the groups were found on.
        count: Number of groups.

    Returns:
        Shape (count, len(channels)); zero for a group without a voxel on the member's grid.
    """
    mine = _transferred(groups, trace, prediction.trace)
    sums = np.zeros((len(channels), count + 1))
    for part in slabs(mine.shape, 2 * len(prediction.logits)):
        numbers = mine[part]
        inside = numbers > 0
        shares = _softmax(prediction.logits[:, part][:, inside])
        for row, channel in enumerate(channels):
            sums[row] += np.bincount(numbers[inside], shares[channel], count + 1)
    sizes = voxel_counts(mine, count)
    return np.asarray((sums / np.maximum(sizes, 1)).T[1:])


def _softmax(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Along the first of two axes."""
    values = logits.astype(np.float32)
    values -= values.max(axis=0)
    np.exp(values, out=values)
    values /= values.sum(axis=0)
    return values


def _transferred(groups: NDArray[np.uint8], source: Trace, target: Trace) -> NDArray[np.uint8]:
    """The groups on another member's grid: those of the nearest voxel, 0 beyond the source's grid."""
    if source == target:
        return groups
    canonical = Orientation.permutation(source.axes).invert(groups)
    index, beyond = [], []
    for axis in range(3):
        nearest = np.rint(source.stored_positions(axis, target.canonical_positions(axis))).astype(int)
        beyond.append((nearest < 0) | (nearest >= canonical.shape[axis]))
        index.append(np.clip(nearest, 0, canonical.shape[axis] - 1))
    result = canonical[np.ix_(*index)]
    for axis, outside in enumerate(beyond):
        np.moveaxis(result, axis, 0)[outside] = 0
    return np.ascontiguousarray(Orientation.permutation(target.axes).apply(result))


def _canonical(vectors: FloatArray, trace: Trace) -> FloatArray:
    """Vectors (n, 3) along the stored axes as vectors along z, y, x."""
    result = np.empty_like(vectors)
    result[:, list(trace.axes)] = vectors
    return result


def _votes(
    vectors: NDArray[Any], where: NDArray[np.bool_], trace: Trace
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Where voxels point to (n, 3), themselves if that is too far, and which point to somewhere near."""
    count, filled = int(np.count_nonzero(where)), 0
    votes, sane = np.empty((count, 3)), np.empty(count, dtype=bool)
    for part in slabs(where.shape, _VOTE_ARRAYS):
        inside = where[part]
        pointing = _canonical(vectors[:, part][:, inside].T.astype(np.float64), trace)
        rows = slice(filled, filled + len(pointing))
        sane[rows] = (np.abs(pointing) <= _FARTHEST).all(axis=1)
        votes[rows] = places(trace, inside, part.start) + np.where(sane[rows, None], pointing, 0.0)
        filled = rows.stop
    return votes, sane


def _likely(logits: NDArray[Any], most: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which voxels may belong to the last class, and its log-odds there; as `_surest`."""

    def odds(part: slice) -> NDArray[np.float32]:
        *others, last = logits[:, part]
        return np.asarray(last - log_of_summed_odds(others))

    return _surest(odds, logits.shape[1:], most, 3 * len(logits))


def _surest(
    log_odds: Callable[[slice], NDArray[np.floating]], shape: Sequence[int], most: int, arrays: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """The voxels that are likely enough, but no more than ``most``.

    Args:
        log_odds: Gives a part's, along the first axis.
        shape: Of the whole.
        most: If there are more, only those with the highest remain.
        arrays: Float32 copies of a part that are alive while its log-odds are made.

    Returns:
        Which they are, bool of ``shape``, and their log-odds in array order.
    """
    index, odds = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.float32)]
    least, slice_size = _LEAST_LOGIT, math.prod(shape[1:])
    for part in slabs(shape, arrays):
        values = log_odds(part).ravel()
        chosen = np.flatnonzero(values > least)
        index.append(chosen + part.start * slice_size)
        odds.append(values[chosen].astype(np.float32))
        if sum(map(len, odds)) > 2 * most:
            index, odds, least = _highest(index, odds, most)
    index, odds, _ = _highest(index, odds, most)
    where = np.zeros(shape, dtype=bool)
    where.ravel()[index[0]] = True
    return where, odds[0]


def _highest(
    index: list[NDArray[np.intp]], odds: list[NDArray[np.float32]], most: int
) -> tuple[list[NDArray[np.intp]], list[NDArray[np.float32]], float]:
    """The ``most`` highest odds in their order, where they are, and the least of them."""
    places, values = np.concatenate(index), np.concatenate(odds)
    if len(values) <= most:
        return [places], [values], _LEAST_LOGIT
    kept = np.sort(np.argpartition(values, -most)[-most:])
    return [places[kept]], [values[kept]], float(values[kept].min())


def _probability(logits: NDArray[np.floating]) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))
