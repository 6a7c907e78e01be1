"""Groups of voxels that may be vertebrae: found by the votes of all members, described by their evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.column import ColumnModel
from autospine.core.errors import UsageError
from autospine.core.geometry import FloatArray
from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.inference.evidence import Voters, likeliest, places, pooled_names
from autospine.inference.prediction import Prediction
from autospine.vertebrae.instances import find_centres
from autospine.vertebrae.sequence import ColumnEvidence
from autospine.vertebrae.splitting import split_fused, too_large
from autospine.vertebrae.volumes import voxel_counts

#: Of the expected volume, what makes a group surely a vertebra; and the certainty never left.
_ENOUGH: Final = 0.25
_DOUBT: Final = 0.02
#: Whole columns that the voxels may fill which are asked about vertebrae.
_COLUMNS: Final = 2.0
#: mm³ of a vertebra where the data set has shown none as a whole.
_USUAL_VOLUME: Final = 35_000.0


@dataclass(frozen=True)
class Witness:
    """A member's prediction and what naming needs of it, whichever members it is merged with.

    Args:
        prediction: As the network gave it.
        joined: The same, all vertebrae as its last class.
        voters: Its voxels and their votes; None without centre channels.
    """

    prediction: Prediction
    joined: Prediction
    voters: Voters | None

    @classmethod
    def of(cls, prediction: Prediction, plan: Plan) -> Witness:
        """Hear a member.

        Raises:
            UsageError: The plan knows nothing about columns.
        """
        column_model(plan)
        joined = prediction.with_one_channel_for(list(vertebra_channels(plan).values()))
        voters = (
            None if prediction.centres is None else Voters.of(joined, most_voters(prediction.trace, plan))
        )
        return cls(prediction, joined, voters)


@dataclass(frozen=True)
class Groups:
    """Groups of voxels, each of which may be a vertebra, and what is known about them before they are named.

    Args:
        voters: The member whose voxels were grouped.
        centres: Shape (k, 3), mm along z, y, x of the oriented scan; from head to foot.
        numbers: Each voxel's group, from 1, on that member's grid; 0 for none.
        sizes: Voxels of each group, (k,).
        evidence: What the column is named by.
    """

    voters: Voters
    centres: FloatArray
    numbers: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    evidence: ColumnEvidence


def find_groups(witnesses: Sequence[Witness], weights: Sequence[float], plan: Plan) -> Groups:
    """Let all members vote for centres, group the voxels of the finest, and pool the evidence for names.

    Args:
        witnesses: Of one scan.
        weights: Of the members.
        plan: With a column model.

    Raises:
        UsageError: No member has centre channels.
    """
    voting = [
        (w.voters, weight) for w, weight in zip(witnesses, weights, strict=True) if w.voters is not None
    ]
    if not voting:
        raise UsageError(
            "None of these models has learnt where vertebrae are.", remedy="Decode by --naming argmax."
        )
    guide = min((v for v, _ in voting), key=lambda v: v.trace.stored_grid.voxel_volume)
    votes = [part.weighted(weight) for v, weight in voting for part in (v.votes, v.heat)]
    centres = find_centres(*votes)
    present = np.unique(guide.groups(centres))
    centres = centres[present[present > 0].astype(int) - 1]  # one that no voxel votes for is none
    numbers = guide.groups(centres)
    column, channel_of = column_model(plan), vertebra_channels(plan)
    channels = [channel_of[level] for level in column.levels]
    predictions = [w.prediction for w in witnesses]
    names = pooled_names(predictions, weights, channels, numbers, guide.trace, len(centres))
    ratios = voxel_counts(numbers, len(centres))[1:] / _expected(names, column)
    if too_large(ratios).any():  # else the groups and their names stay as they are
        own = next(w.prediction for w in witnesses if w.voters is guide)
        centres, numbers = _apart(guide, own, channels, numbers, centres, ratios)
        names = pooled_names(predictions, weights, channels, numbers, guide.trace, len(centres))
    sizes = voxel_counts(numbers, len(centres))[1:]
    volumes = np.asarray(sizes * guide.trace.stored_grid.voxel_volume, dtype=np.float64)
    presence = _presence(volumes, names, column)
    evidence = ColumnEvidence(names, _world(centres, guide.trace), presence)
    return Groups(guide, centres, numbers, sizes, evidence)


def most_voters(trace: Trace, plan: Plan) -> int:
    """How many voxels of a stored grid may be vertebrae at all: those of two whole columns.

    A network that has learnt nothing takes everything for vertebrae; what is kept of that is bounded.
    """
    column = column_model(plan)
    each = float(np.mean(list(column.volumes.values()) or [_USUAL_VOLUME]))
    volume = _COLUMNS * len(column.levels) * each
    return int(min(volume / trace.stored_grid.voxel_volume, math.prod(trace.shape)))


def column_model(plan: Plan) -> ColumnModel:
    """The plan's column model.

    Raises:
        UsageError: It has none.
    """
    if plan.column is None:
        raise UsageError("This plan knows nothing about columns.", remedy="Decode by --naming argmax.")
    return plan.column


def vertebra_channels(plan: Plan) -> dict[int, int]:
    """Output channel by anatomical label."""
    vertebrae = plan.labels.vertebrae
    return {vertebrae[value]: channel for channel, value in enumerate(plan.classes) if value in vertebrae}


def _apart(
    guide: Voters,
    prediction: Prediction,
    channels: Sequence[int],
    numbers: NDArray[np.uint8],
    centres: FloatArray,
    sizes: FloatArray,
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Centres and voxels' group numbers (from 1, 0 for none) after fused vertebrae were split."""
    names = likeliest(prediction, channels, guide.where)
    mine = numbers[guide.where].astype(np.intp) - 1
    centres, mine = split_fused(places(guide.trace, guide.where), mine, names, centres, sizes)
    result = np.zeros_like(numbers)
    result[guide.where] = mine + 1
    return centres, result


def _expected(names: FloatArray, column: ColumnModel) -> FloatArray:
    """Volume in mm³ that each group should have, by what its levels probably are; never zero."""
    known = [column.volumes.get(level) for level in column.levels]
    usual = float(np.median([v for v in known if v is not None] or [1.0]))
    expected = names @ np.array([usual if v is None else v for v in known])
    return np.asarray(np.maximum(expected, 1.0), dtype=np.float64)


def _presence(volumes: FloatArray, names: FloatArray, column: ColumnModel) -> FloatArray:
    """How surely each group is a vertebra, by its share of the volume in mm³ that its likely levels have."""
    return np.clip(volumes / (_expected(names, column) * _ENOUGH), _DOUBT, 1 - _DOUBT)


def _world(places: FloatArray, trace: Trace) -> FloatArray:
    """LPS world positions (n, 3) of places in mm along the oriented scan's axes."""
    grid = trace.orientation.apply_grid(trace.grid)
    return grid.to_world(places / np.asarray(grid.spacing))
