"""From the members' predictions to named vertebrae: instances, their names as a column, and the mask.

Until the column is named nothing is decided: votes for centres and evidence for names are pooled over voxels,
folds and members first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core import anatomy
from autospine.core.column import ColumnModel
from autospine.core.column_report import ColumnReport, FoundVertebra, Partial
from autospine.core.ensemble import Ensemble
from autospine.core.errors import UsageError
from autospine.core.geometry import FloatArray, Grid, Orientation, Triple
from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.inference.evidence import Voters, pooled_names
from autospine.inference.export import export_labels
from autospine.inference.merging import scan_matrices
from autospine.inference.prediction import Prediction
from autospine.resampling import sample_labels
from autospine.vertebrae.centroids import body_centres
from autospine.vertebrae.completeness import CUT_BELOW, visible_shares
from autospine.vertebrae.instances import Votes, find_centres
from autospine.vertebrae.sequence import ColumnEvidence, NamedColumn, NamingRules, name_column

#: Voxels around a group's own, at model resolution, that may turn out to be its vertebra on the scan's grid.
_RIM: Final = 2
#: Of the expected volume, what makes a group surely a vertebra; and the certainty never left.
_ENOUGH: Final = 0.25
_DOUBT: Final = 0.02
_LEAST_ALTERNATIVE: Final = 0.01


@dataclass(frozen=True)
class Decoded:
    """A scan's mask and the vertebrae in it.

    Args:
        labels: Label values of shape (z, y, x) on the scan's own grid, uint8.
        column: The vertebrae.
    """

    labels: NDArray[np.uint8]
    column: ColumnReport


@dataclass(frozen=True)
class Groups:
    """Groups of voxels, each of which may be a vertebra, and what is known about them before they are named.

    Args:
        voters: The member whose voxels were grouped.
        centres: Shape (k, 3), mm along z, y, x of the oriented scan; from head to foot.
        evidence: What the column is named by.
    """

    voters: Voters
    centres: FloatArray
    evidence: ColumnEvidence


def can_name_columns(ensemble: Ensemble, plan: Plan) -> bool:
    """Whether a member has learnt where vertebrae are, and the plan knows columns."""
    centred = (plan.configuration(member.configuration).centres for member in ensemble.members)
    return plan.column is not None and any(centred)


def decode_argmax(members: Sequence[Prediction], weights: Sequence[float], plan: Plan) -> Decoded:
    """Decide each voxel by itself; centres are found in the finished mask."""
    labels = export_labels(members, plan.classes, weights)
    grid = members[0].trace.grid
    return Decoded(labels, ColumnReport("argmax", found_in_mask(labels, grid, plan)))


def decode_sequence(
    members: Sequence[Prediction],
    weights: Sequence[float],
    plan: Plan,
    partial: Partial | None = None,
    rules: NamingRules | None = None,
) -> Decoded:
    """Find the vertebrae as individuals and name them as a column.

    Args:
        members: Predictions of one scan; at least one with centre channels.
        weights: Of the members.
        plan: With a column model.
        partial: What becomes of vertebrae that the border cuts; None follows the plan.
        rules: How much evidence counts; the defaults if None.

    Raises:
        UsageError: No member has centre channels, or the plan has no column model.
    """
    vertebrae = _vertebra_channels(plan)
    joined = [member.with_one_channel_for(list(vertebrae.values())) for member in members]
    groups = find_groups(members, joined, weights, plan)
    column = _column_model(plan)
    named = name_column(groups.evidence, column, rules or NamingRules())
    labels, instances = _painted(groups, named, joined, weights, plan)
    canonical = groups.voters.trace.orientation.apply_grid(groups.voters.trace.grid)
    found = _found(groups, named, instances, canonical, plan)
    policy = partial or plan.partial
    dropped = tuple(v for v in found if v.visible < CUT_BELOW) if policy == "drop" else ()
    for vertebra in dropped:
        labels[labels == vertebra.label] = 0
    report = ColumnReport(
        decoding="sequence",
        vertebrae=tuple(v for v in found if v not in dropped),
        dropped=dropped,
        shifted_up=round(named.shifted_up, 4),
        shifted_down=round(named.shifted_down, 4),
        doubts=named.doubts,
    )
    return Decoded(labels, report)


def find_groups(
    members: Sequence[Prediction], joined: Sequence[Prediction], weights: Sequence[float], plan: Plan
) -> Groups:
    """Let all members vote for centres, group the voxels of the finest, and pool the evidence for names.

    Args:
        members: Predictions of one scan.
        joined: The same, all vertebrae as their last class.
        weights: Of the members.
        plan: With a column model.

    Raises:
        UsageError: No member has centre channels.
    """
    voters = [Voters.of(p, w) for p, w in zip(joined, weights, strict=True) if p.centres is not None]
    if not voters:
        raise UsageError(
            "None of these models has learnt where vertebrae are.", remedy="Decode by --naming argmax."
        )
    guide = min(voters, key=lambda v: float(np.prod(v.trace.stored_grid.spacing)))
    centres = find_centres(Votes.pooled([votes for v in voters for votes in (v.votes, v.heat)]))
    groups = guide.groups(centres)
    present = np.unique(groups[groups > 0]).astype(int)
    centres = centres[present - 1]  # a centre that no voxel of the guide votes for is none
    groups = guide.groups(centres)
    column, channels = _column_model(plan), _vertebra_channels(plan)
    names = pooled_names(members, weights, [channels[v] for v in column.levels], groups, guide.trace)
    evidence = ColumnEvidence(
        names=names,
        centres=_world(centres, guide.trace),
        presence=_presence(groups, guide, names, column),
    )
    return Groups(guide, centres, evidence)


def found_in_mask(labels: NDArray[Any], grid: Grid, plan: Plan) -> tuple[FoundVertebra, ...]:
    """The vertebrae of a finished mask (z, y, x) on ``grid``, from head to foot."""
    vertebrae = plan.labels.vertebrae
    counts = np.bincount(labels.ravel(), minlength=max(vertebrae, default=0) + 1)
    present = [value for value in vertebrae if counts[value]]
    centres = body_centres(labels, grid, present)
    volume = float(np.prod(grid.spacing))
    return tuple(
        FoundVertebra(value, plan.labels.names[value], centres[value], float(counts[value]) * volume)
        for value in sorted(present, key=lambda value: anatomy.rank_of(vertebrae[value]))
        if value in centres
    )


def _column_model(plan: Plan) -> ColumnModel:
    if plan.column is None:
        raise UsageError("This plan knows nothing about columns.", remedy="Decode by --naming argmax.")
    return plan.column


def _vertebra_channels(plan: Plan) -> dict[int, int]:
    """Output channel by anatomical label."""
    vertebrae = plan.labels.vertebrae
    return {vertebrae[value]: channel for channel, value in enumerate(plan.classes) if value in vertebrae}


def _presence(
    groups: NDArray[np.uint8], voters: Voters, names: FloatArray, column: ColumnModel
) -> FloatArray:
    """How surely each group is a vertebra, by its share of the volume that its likely levels have."""
    volumes = np.bincount(groups.ravel(), minlength=len(names) + 1)[1:].astype(float)
    volumes *= float(np.prod(voters.trace.stored_grid.spacing))
    known = [column.volumes.get(level) for level in column.levels]
    usual = float(np.median([v for v in known if v is not None] or [1.0]))
    expected = names @ np.array([usual if v is None else v for v in known])
    return np.asarray(np.clip(volumes / np.maximum(expected * _ENOUGH, 1.0), _DOUBT, 1 - _DOUBT))


def _painted(
    groups: Groups, named: NamedColumn, joined: Sequence[Prediction], weights: Sequence[float], plan: Plan
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The mask on the scan's own grid; and on the oriented grid, the number of the accepted vertebra."""
    vertebrae = plan.labels.vertebrae
    values = {level: value for value, level in vertebrae.items()}
    accepted = [i for i, label in enumerate(named.labels) if label is not None]
    # Voxels of a rejected group go to the accepted centre they vote next to, if there is one.
    numbers = groups.voters.groups(groups.centres[accepted])
    instances = _on_scan(numbers, groups.voters.trace)
    others = [value for value in plan.classes if value not in vertebrae]
    one = max(others) + 1
    orientation = groups.voters.trace.orientation
    kinds = orientation.apply(export_labels(joined, [*others, one], weights))
    instances[kinds != one] = 0
    table = np.zeros(len(accepted) + 1, dtype=np.uint8)
    for number, i in enumerate(accepted, start=1):
        label = named.labels[i]
        table[number] = values[label] if label is not None else 0
    labels = np.where(kinds == one, table[instances], kinds).astype(np.uint8)
    return np.ascontiguousarray(orientation.invert(labels)), instances


def _on_scan(numbers: NDArray[np.uint8], trace: Trace) -> NDArray[np.uint8]:
    """Numbers on the stored grid, with a rim, on the voxels of the oriented scan."""
    canonical = Orientation.permutation(trace.axes).invert(numbers)
    rim = ndimage.maximum_filter(canonical, 2 * _RIM + 1)
    inner = sample_labels(np.where(canonical > 0, canonical, rim), scan_matrices(trace))
    full = np.zeros(trace.orientation.apply_grid(trace.grid).shape, dtype=np.uint8)
    full[trace.box.slices] = inner
    return full


def _found(
    groups: Groups, named: NamedColumn, instances: NDArray[np.uint8], grid: Grid, plan: Plan
) -> tuple[FoundVertebra, ...]:
    """One entry per name, from head to foot; of a vertebra found twice, the larger part gives the centre."""
    values = {level: value for value, level in plan.labels.vertebrae.items()}
    column = _column_model(plan)
    accepted = [(i, label) for i, label in enumerate(named.labels) if label is not None]
    shares = visible_shares(instances, grid.spacing, [label for _, label in accepted], column.volumes)
    counts = np.bincount(instances.ravel(), minlength=len(accepted) + 1)[1:] * float(np.prod(grid.spacing))
    result: dict[int, FoundVertebra] = {}
    for (i, level), share, volume in zip(accepted, shares, counts, strict=True):
        posterior = dict(zip(column.levels, named.marginals[i].tolist(), strict=True))
        mine = FoundVertebra(
            label=values[level],
            name=plan.labels.names[values[level]],
            centre=_triple(groups.evidence.centres[i]),
            volume=float(volume),
            visible=round(float(share), 3),
            probability=round(posterior.pop(level), 4),
            alternatives=_alternatives(posterior),
        )
        twin = result.get(level)
        result[level] = mine if twin is None else _united(mine, twin)
    return tuple(vertebra for vertebra in result.values() if vertebra.volume > 0)


def _united(one: FoundVertebra, other: FoundVertebra) -> FoundVertebra:
    larger = max(one, other, key=lambda v: v.volume)
    return replace(larger, volume=one.volume + other.volume, visible=max(one.visible, other.visible))


def _alternatives(posterior: dict[int, float]) -> dict[str, float]:
    likely = sorted(posterior.items(), key=lambda item: -item[1])
    return {anatomy.name_of(level): round(p, 4) for level, p in likely if p >= _LEAST_ALTERNATIVE}


def _world(places: FloatArray, trace: Trace) -> FloatArray:
    """LPS world positions (n, 3) of places in mm along the oriented scan's axes."""
    grid = trace.orientation.apply_grid(trace.grid)
    return grid.to_world(places / np.asarray(grid.spacing))


def _triple(values: FloatArray) -> Triple:
    x, y, z = (round(float(v), 2) for v in values)
    return (x, y, z)
