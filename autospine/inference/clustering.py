"""From the members' predictions to vertebrae told apart by clustering and named from an anchor.

Nothing is asked of the members but which voxels are vertebrae. Without an anchor the vertebrae are numbered
from head to foot and have no names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.anchor import Anchor
from autospine.core.column_report import ColumnReport, FoundVertebra
from autospine.core.errors import DataError
from autospine.core.geometry import Triple
from autospine.core.plan import Plan
from autospine.inference.decoding import Decoded
from autospine.inference.export import export_labels
from autospine.inference.prediction import Prediction
from autospine.vertebrae.kmeans_knn import names_from_anchor, separate_vertebrae
from autospine.vertebrae.volumes import voxel_counts

_UNNAMED: Final = "The vertebrae are numbered from head to foot, not named: give an anchor, as --anchor T12."


def decode_clusters(
    members: Sequence[Prediction], weights: Sequence[float], plan: Plan, anchor: Anchor | None = None
) -> Decoded:
    """Tell the vertebrae of the merged mask apart, and name them if one of them is known.

    Args:
        members: Predictions of one scan.
        weights: Of the members.
        plan: What its labels mean. Where none of them is a vertebra's name, names are given in the coding of
            ``core.anatomy``.
        anchor: The first or last vertebra's name.

    Raises:
        UsageError: The anchor leads beyond the column's end.
        DataError: A name has no label in the data set.
    """
    mask, one = export_joined(members, weights, plan)
    grid = members[0].trace.grid
    found = separate_vertebrae(mask == one, grid)
    names = names_from_anchor(len(found.centres), anchor, found.whole)
    values = _values(len(found.centres), names, plan)
    labels = np.where(mask == one, np.array([0, *values], dtype=np.uint8)[found.numbers], mask)
    volumes = voxel_counts(found.numbers, len(values))[1:] * grid.voxel_volume
    vertebrae = tuple(
        FoundVertebra(value, _name(i, names), _triple(centre), float(volume))
        for i, (value, centre, volume) in enumerate(zip(values, found.centres, volumes, strict=True))
    )
    report = ColumnReport("clusters", vertebrae, named=names is not None)
    if names is None:
        report = replace(report, doubts=(_UNNAMED,))
    return Decoded(labels.astype(np.uint8), report)


def export_joined(
    members: Sequence[Prediction], weights: Sequence[float], plan: Plan
) -> tuple[NDArray[np.uint8], int]:
    """The mask on the scan's own grid with all vertebrae as one label, and that label's value."""
    kinds = [value for channel, value in enumerate(plan.classes) if channel not in plan.vertebra_channels]
    one = max(kinds) + 1
    joined = [member.with_one_channel_for(plan.vertebra_channels) for member in members]
    return export_labels(joined, [*kinds, one], weights), one


def _values(count: int, names: Sequence[int] | None, plan: Plan) -> list[int]:
    """Label value of each vertebra."""
    if names is None:
        return list(range(1, count + 1))
    by_level = {level: value for value, level in plan.labels.vertebrae.items()}
    if not by_level:
        return list(names)
    unknown = [anatomy.name_of(level) for level in names if level not in by_level]
    if unknown:
        raise DataError(
            f"The data set has no label for {unknown[0]}, which the anchor leads to.",
            remedy="Check the anchor.",
        )
    return [by_level[level] for level in names]


def _name(index: int, names: Sequence[int] | None) -> str:
    return f"vertebra {index + 1}" if names is None else anatomy.name_of(names[index])


def _triple(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Triple:
    x, y, z = (round(float(v), 2) for v in values)
    return (x, y, z)
