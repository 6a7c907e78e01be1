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
from autospine.core.column_report import ColumnReport, FoundVertebra, Partial
from autospine.core.ensemble import Ensemble, PostProcessing
from autospine.core.geometry import FloatArray, Grid, Orientation, Triple
from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.inference.export import export_labels
from autospine.inference.groups import Groups, Witness, column_model, find_groups
from autospine.inference.merging import scan_matrices
from autospine.inference.prediction import Prediction
from autospine.postprocessing import apply
from autospine.resampling import one_thread, sample_labels
from autospine.vertebrae.centroids import body_centres
from autospine.vertebrae.completeness import CUT_BELOW, visible_shares
from autospine.vertebrae.sequence import NamedColumn, name_column
from autospine.vertebrae.volumes import voxel_counts

#: Voxels around a group's own, at model resolution, that may turn out to be its vertebra on the scan's grid.
_RIM: Final = 2
#: Centres nearer than this, mm, are of one vertebra: bodies of the neck are 15 mm apart.
_SAME: Final = 12.0
_LEAST_ALTERNATIVE: Final = 0.01
_LABELS: Final = 256


@dataclass(frozen=True)
class Decoded:
    """A scan's mask and the vertebrae in it.

    Args:
        labels: Label values of shape (z, y, x) on the scan's own grid, uint8.
        column: The vertebrae.
    """

    labels: NDArray[np.uint8]
    column: ColumnReport


def post_processed(decoded: Decoded, choice: PostProcessing, grid: Grid) -> Decoded:
    """The same after post-processing; the report tells of what is left.

    Args:
        decoded: Its mask lies on ``grid``.
        choice: What happens to the mask.
        grid: The scan's own.
    """
    labels = apply(decoded.labels, choice)
    volumes = voxel_counts(labels, _LABELS - 1) * grid.voxel_volume
    left = tuple(
        replace(vertebra, volume=float(volumes[vertebra.label]))
        for vertebra in decoded.column.vertebrae
        if volumes[vertebra.label] > 0
    )
    return Decoded(labels, replace(decoded.column, vertebrae=left))


def can_name_columns(ensemble: Ensemble, plan: Plan) -> bool:
    """Whether a member tells where vertebrae are, and the plan knows columns."""
    located = (plan.configuration(member.configuration).locates for member in ensemble.members)
    return plan.column is not None and any(located)


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
) -> Decoded:
    """Find the vertebrae as individuals and name them as a column.

    Args:
        members: Predictions of one scan; at least one with centre channels.
        weights: Of the members.
        plan: With a column model.
        partial: What becomes of vertebrae that the border cuts; None follows the plan.

    Raises:
        UsageError: No member has centre channels, or the plan has no column model.
    """
    return name_together([Witness.of(member, plan) for member in members], weights, plan, partial)


def name_together(
    witnesses: Sequence[Witness], weights: Sequence[float], plan: Plan, partial: Partial | None = None
) -> Decoded:
    """``decode_sequence`` of members that have been heard already."""
    groups = find_groups(witnesses, weights, plan)
    named = name_column(groups.evidence, column_model(plan))
    levels = list(dict.fromkeys(label for label in named.labels if label is not None))
    instances = _instances(groups, named, levels)
    labels = _painted(instances, levels, groups.voters.trace, witnesses, weights, plan)
    found = _found(groups, named, instances, levels, plan)
    drop = (partial or plan.partial) == "drop"
    dropped = tuple(v for v in found if drop and v.visible < CUT_BELOW)
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


def found_in_mask(labels: NDArray[Any], grid: Grid, plan: Plan) -> tuple[FoundVertebra, ...]:
    """The vertebrae of a finished mask (z, y, x) on ``grid``, from head to foot."""
    vertebrae = plan.labels.vertebrae
    counts = voxel_counts(labels, max(_LABELS - 1, *vertebrae, 0))
    present = [value for value in vertebrae if counts[value]]
    centres = body_centres(labels, grid, present)
    volume = grid.voxel_volume
    return tuple(
        FoundVertebra(value, plan.labels.names[value], centres[value], float(counts[value]) * volume)
        for value in sorted(present, key=lambda value: anatomy.rank_of(vertebrae[value]))
        if value in centres
    )


def _instances(groups: Groups, named: NamedColumn, levels: Sequence[int]) -> NDArray[np.uint8]:
    """Number (from 1) of the level in ``levels`` that each voxel of the oriented scan may belong to.

    A group that was rejected joins the accepted one whose centre is nearest if that is so near that the two
    must be parts of one vertebra; else its voxels belong to none.
    """
    table = np.zeros(len(named.labels) + 1, dtype=np.uint8)
    accepted = [i for i, label in enumerate(named.labels) if label is not None]
    for i, centre in enumerate(groups.centres if accepted else ()):
        distances = np.linalg.norm(groups.centres[accepted] - centre, axis=1)
        nearest = named.labels[accepted[int(distances.argmin())]] if distances.min() < _SAME else None
        label = nearest if named.labels[i] is None else named.labels[i]
        table[i + 1] = 0 if label is None else levels.index(label) + 1
    return _on_scan(table[groups.numbers], groups.voters.trace)


def _painted(
    instances: NDArray[np.uint8],
    levels: Sequence[int],
    trace: Trace,
    witnesses: Sequence[Witness],
    weights: Sequence[float],
    plan: Plan,
) -> NDArray[np.uint8]:
    """The mask on the scan's own grid; ``instances`` keep only the voxels that are in it."""
    vertebrae = plan.labels.vertebrae
    others = [value for value in plan.classes if value not in vertebrae]
    one = max(others) + 1
    mask = export_labels([w.joined for w in witnesses], [*others, one], weights)
    values = {level: value for value, level in vertebrae.items()}
    table = np.array([0, *(values[level] for level in levels)], dtype=np.uint8)
    # Slice by slice in place: beside these two maps there is no room for a third.
    for kinds, numbers in zip(trace.orientation.apply(mask), instances, strict=True):
        bone = kinds == one
        numbers[~bone] = 0
        kinds[bone] = table[numbers[bone]]
    return mask


def _on_scan(numbers: NDArray[np.uint8], trace: Trace) -> NDArray[np.uint8]:
    """Numbers on the stored grid, with a rim, on the voxels of the oriented scan."""
    canonical = Orientation.permutation(trace.axes).invert(numbers)
    rim = ndimage.maximum_filter(canonical, 2 * _RIM + 1)
    with one_thread():
        inner = sample_labels(np.where(canonical > 0, canonical, rim), scan_matrices(trace))
    full = np.zeros(trace.orientation.apply_grid(trace.grid).shape, dtype=np.uint8)
    full[trace.box.slices] = inner
    return full


def _found(
    groups: Groups,
    named: NamedColumn,
    instances: NDArray[np.uint8],
    levels: Sequence[int],
    plan: Plan,
) -> tuple[FoundVertebra, ...]:
    """One entry per level, from head to foot; of a vertebra found twice, the larger part gives the centre."""
    values = {level: value for value, level in plan.labels.vertebrae.items()}
    trace, column = groups.voters.trace, column_model(plan)
    grid = trace.orientation.apply_grid(trace.grid)
    shares = visible_shares(instances, grid.spacing, levels, column.volumes)
    volumes = voxel_counts(instances, len(levels))[1:] * grid.voxel_volume
    result = []
    for level, share, volume in zip(levels, shares, volumes, strict=True):
        parts = [i for i, label in enumerate(named.labels) if label == level]
        main = max(parts, key=lambda i: int(groups.sizes[i]))
        posterior = dict(zip(column.levels, named.marginals[main].tolist(), strict=True))
        vertebra = FoundVertebra(
            label=values[level],
            name=plan.labels.names[values[level]],
            centre=_triple(groups.evidence.centres[main]),
            volume=float(volume),
            visible=round(float(share), 3),
            probability=round(posterior.pop(level), 4),
            alternatives=_alternatives(posterior),
        )
        result.append(vertebra)
    return tuple(vertebra for vertebra in result if vertebra.volume > 0)


def _alternatives(posterior: dict[int, float]) -> dict[str, float]:
    likely = sorted(posterior.items(), key=lambda item: -item[1])
    return {anatomy.name_of(level): round(p, 4) for level, p in likely if p >= _LEAST_ALTERNATIVE}


def _triple(values: FloatArray) -> Triple:
    x, y, z = (round(float(v), 2) for v in values)
    return (x, y, z)
