"""From logits at model resolution to a mask on the scan's own grid, in bounded memory.

The mask is what linear resampling of all classes to the scan's grid, softmax, weighted mean over the
members and argmax give (ties to the lowest class), yet classes times full-resolution voxels never
exist. The scan is worked through in blocks, and two facts spare most of the work: interpolation stays
within the range of the logits it joins, so in most blocks one class is known to win beforehand; and in
the others only the few classes that can matter are interpolated. Outside a member's crop it votes
for background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from autospine.core.errors import GeometryError, LabelError
from autospine.core.geometry import Box
from autospine.inference.merging import Index, Tiling, Votes
from autospine.inference.prediction import Prediction

#: Edge of a block in voxels of the scan: its logits stay in the processor's cache.
_EDGE: Final = 32
#: What sums of probabilities may be off by in single precision.
_ROUNDING: Final = 1e-5
_HIGHEST_LABEL: Final = 255


def export_labels(
    members: Sequence[Prediction], classes: Sequence[int], weights: Sequence[float] | None = None
) -> NDArray[np.uint8]:
    """Merge the members and give the mask on the scan's own grid.

    Args:
        members: At least one prediction of the same scan, on grids of their own.
        classes: Label value of each channel; the first is background.
        weights: Of the members in the mean of their softmax; None weighs them equally.

    Returns:
        Label values of shape (z, y, x), the scan's own.

    Raises:
        GeometryError: The members are not of the same scan.
        LabelError: The members' channels are not ``classes``, or a label exceeds 255.
    """
    shares = [1.0] * len(members) if weights is None else list(weights)
    named = {str(i): member for i, member in enumerate(members)}
    return export_combinations(named, [dict(zip(named, shares, strict=True))], classes)[0]


def export_combinations(
    members: Mapping[str, Prediction], combinations: Sequence[Mapping[str, float]], classes: Sequence[int]
) -> list[NDArray[np.uint8]]:
    """Masks of several weighted combinations; each member is resampled once for all of them.

    Args:
        members: Predictions of the same scan, by name.
        combinations: Per combination, the weights by member name.
        classes: Label value of each channel; the first is background.

    Returns:
        Per combination, label values of shape (z, y, x) on the scan's own grid.

    Raises:
        GeometryError: The members are not of the same scan.
        LabelError: The members' channels are not ``classes``, or a label exceeds 255.
    """
    _require_fitting(members, classes)
    trace = next(iter(members.values())).trace
    tiling = Tiling.over([member.trace.box for member in members.values()], _EDGE)
    votes = {name: Votes.of(member, tiling) for name, member in members.items()}
    elections = [_Election.of(combination, votes) for combination in combinations]
    shape = trace.orientation.apply_grid(trace.grid).shape
    results = [np.full(shape, classes[0], dtype=np.uint8) for _ in combinations]
    values = np.array(classes, dtype=np.uint8)
    with _one_thread():  # on blocks this small, more threads wait for each other longer than they work
        for index, block in tiling.blocks():
            cache: dict[str, torch.Tensor] = {}
            for election, result in zip(elections, results, strict=True):
                where, winner = election.winner(index, block, cache)
                result[where.slices] = values[winner]
    return [np.ascontiguousarray(trace.orientation.invert(result)) for result in results]


@dataclass(frozen=True)
class _Election:
    """One weighted combination of members.

    Args:
        votes: Its members.
        weights: Of the members, summing to 1.
        possible: Which classes may win somewhere in a block, (classes, blocks along z, y, x).
    """

    votes: Mapping[str, Votes]
    weights: Mapping[str, float]
    possible: NDArray[np.bool_]

    @classmethod
    def of(cls, combination: Mapping[str, float], votes: Mapping[str, Votes]) -> _Election:
        """Find out, from the bounds alone, who may win."""
        weights = {name: w / sum(combination.values()) for name, w in combination.items() if w > 0}
        chosen = {name: votes[name] for name in weights}
        if len(chosen) == 1:
            low, high = next(iter(chosen.values())).logits
            return cls(chosen, weights, high >= low.max(axis=0))
        low = np.sum([w * votes[name].probabilities[0] for name, w in weights.items()], axis=0)
        high = np.sum([w * votes[name].probabilities[1] for name, w in weights.items()], axis=0)
        # The winner of n classes has at least the n-th part of the votes.
        needed = np.maximum(low.max(axis=0), 1 / len(low)) - _ROUNDING
        return cls(chosen, weights, high >= needed)

    def winner(
        self, index: Index, block: Box, cache: dict[str, torch.Tensor]
    ) -> tuple[Box, NDArray[np.intp]]:
        """The winning channel of each voxel, or of all, and the part of the block where it wins.

        Args:
            index: Place of the block in the tiling.
            block: On the oriented scan.
            cache: Votes of the members in this block, shared by the combinations.
        """
        channels = np.flatnonzero(self.possible[(slice(None), *index)])
        if len(self.votes) == 1:
            sampler = next(iter(self.votes.values())).sampler
            block = block.intersection(sampler.box) or Box(block.start, block.start)
        if len(channels) == 1 or 0 in block.shape:
            return block, channels[0]
        if len(self.votes) == 1:
            scores = sampler.sample(block, channels)
        else:
            scores = torch.zeros((len(channels), *block.shape))
            for name, weight in self.weights.items():
                if name not in cache:
                    cache[name] = self.votes[name].softmax(index, block)
                scores += weight * cache[name][channels]
        return block, channels[scores.numpy().argmax(axis=0)]


def _require_fitting(members: Mapping[str, Prediction], classes: Sequence[int]) -> None:
    if max(classes) > _HIGHEST_LABEL or min(classes) < 0:
        raise LabelError(f"The label {max(classes)} does not fit into a mask of bytes.")
    first = next(iter(members.values())).trace
    for name, member in members.items():
        if member.trace.grid != first.grid:
            raise GeometryError(f"The member {name} has predicted another scan.")
        if len(member.logits) != len(classes):
            raise LabelError(f"The member {name} has {len(member.logits)} channels, not {len(classes)}.")


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
