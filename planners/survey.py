"""What a planner for spines wants to know about a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from autospine.core import anatomy
from autospine.core.column import ColumnModel
from autospine.core.fingerprint import CaseFingerprint, Fingerprint
from autospine.core.geometry import Triple
from autospine.core.plan import Normalisation
from autospine.vertebrae.statistics import ObservedColumn, learn_column

from . import rules
from .normalisation import from_fingerprint
from .rules import FloatArray

#: Distance in mm between neighbouring vertebrae when no case shows two: 15 (neck) to 38 (lumbar).
_USUAL_PITCH: Final = 28.0
#: In-plane extent in mm within which everything lies that tells the levels apart: ribs, iliac crests.
_LANDMARKS: Final = 240.0
#: A labelled vertebra at the upper or lower border with less than this share of its usual volume is cut.
_CUT_VOLUME: Final = 0.75
#: Where more than this share of the cases has such a one, cut vertebrae are labelled on purpose.
_CUT_CASES: Final = 0.1


@dataclass(frozen=True)
class Survey:
    """A data set in numbers, axes in canonical order z, y, x.

    Args:
        fingerprint: The data set's fingerprint.
        classes: Background and the labels that occur.
        absent: Names of the declared labels that do not occur.
        target: Spacing of nnU-Net's rule, mm.
        pitch: Distance between neighbouring vertebrae, mm.
        region: Extent in mm that shows where along the column one is: the 75th percentile of the
            scans' length, and in-plane the median body or what holds the landmarks.
        normalisation: Per channel.
        column: What the cases teach about columns; None when fewer than two labels are vertebrae.
        cut_labelled: Whether vertebrae are labelled although the upper or lower border cuts them.
    """

    fingerprint: Fingerprint
    classes: tuple[int, ...]
    absent: tuple[str, ...]
    target: FloatArray
    pitch: float
    region: Triple
    normalisation: tuple[Normalisation, ...]
    column: ColumnModel | None
    cut_labelled: bool

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> Survey:
        """Survey a fingerprint."""
        labels, counts = fingerprint.labels, fingerprint.level_counts
        cases = fingerprint.cases
        extents = np.array([c.shape_body for c in cases]) * np.array([c.spacing for c in cases])
        classes = (0, *(value for value in labels.foreground if value in counts))
        column = _column(fingerprint, classes)
        in_plane = np.minimum(np.median(extents[:, 1:], axis=0), _LANDMARKS)
        return cls(
            fingerprint=fingerprint,
            classes=classes,
            absent=tuple(labels.names[value] for value in labels.foreground if value not in counts),
            target=rules.target_spacing([c.spacing for c in cases], [c.shape_body for c in cases]),
            pitch=fingerprint.median_pitch or _USUAL_PITCH,
            region=(float(np.percentile(extents[:, 0], 75)), float(in_plane[0]), float(in_plane[1])),
            normalisation=from_fingerprint(fingerprint),
            column=column,
            cut_labelled=_labels_cut(fingerprint, column),
        )

    def median_shape(self, spacing: FloatArray) -> FloatArray:
        """Median shape of the cases after the crop to the body and resampling to ``spacing`` mm."""
        cases = self.fingerprint.cases
        return rules.median_shape([c.spacing for c in cases], [c.shape_body for c in cases], spacing)

    def coverage(self, extent: Mapping[int, float]) -> float:
        """The part of ``region`` that a patch covers, from its extent in mm by canonical axis."""
        return math.prod(min(1.0, extent[axis] / length) for axis, length in enumerate(self.region))


def _column(fingerprint: Fingerprint, classes: Sequence[int]) -> ColumnModel | None:
    vertebrae = fingerprint.labels.vertebrae
    levels = sorted((vertebrae[v] for v in classes if v in vertebrae), key=anatomy.rank_of)
    if len(levels) < 2:
        return None
    observed = [
        ObservedColumn(
            centres={vertebrae[v]: centre for v, centre in case.centres.items()},
            volumes={vertebrae[v]: mm3 for v, mm3 in case.volumes.items() if v in vertebrae},
            cut=tuple(vertebrae[v] for v in case.cut_levels if v in vertebrae),
            patient=case.patient or case.identifier,
        )
        for case in fingerprint.cases
    ]
    return learn_column(observed, levels)


def _labels_cut(fingerprint: Fingerprint, column: ColumnModel | None) -> bool:
    """Whether vertebrae are labelled on purpose although the upper or lower border cuts them."""
    if column is None:
        return False
    names = fingerprint.labels.vertebrae
    cases = [c for c in fingerprint.cases if _least_share(c, names, column) < _CUT_VOLUME]
    return len(cases) > _CUT_CASES * len(fingerprint.cases)


def _least_share(case: CaseFingerprint, names: Mapping[int, int], column: ColumnModel) -> float:
    """Volume over usual volume of the vertebrae at the upper and lower border, beside that of the others."""
    share = {
        value: volume / column.volumes[names[value]]
        for value, volume in case.volumes.items()
        if value in names and names[value] in column.volumes
    }
    size = float(np.median([s for v, s in share.items() if v not in case.cut_levels] or [1.0]))
    return min((share[v] / size for v in case.end_cut_levels if v in share), default=1.0)
