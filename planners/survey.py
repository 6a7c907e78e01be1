"""What a planner for spines wants to know about a data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from autospine.core.fingerprint import Fingerprint
from autospine.core.geometry import Triple
from autospine.core.plan import Normalisation

from . import rules
from .normalisation import from_fingerprint
from .rules import FloatArray

#: Distance in mm between neighbouring vertebrae when no case shows two: 15 (neck) to 38 (lumbar).
_USUAL_PITCH: Final = 28.0
#: In-plane extent in mm within which everything lies that tells the levels apart: ribs, iliac crests.
_LANDMARKS: Final = 240.0


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
    """

    fingerprint: Fingerprint
    classes: tuple[int, ...]
    absent: tuple[str, ...]
    target: FloatArray
    pitch: float
    region: Triple
    normalisation: tuple[Normalisation, ...]

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> Survey:
        """Survey a fingerprint."""
        labels, counts = fingerprint.labels, fingerprint.level_counts
        cases = fingerprint.cases
        extents = np.array([c.shape_body for c in cases]) * np.array([c.spacing for c in cases])
        in_plane = np.minimum(np.median(extents[:, 1:], axis=0), _LANDMARKS)
        return cls(
            fingerprint=fingerprint,
            classes=(0, *(value for value in labels.foreground if value in counts)),
            absent=tuple(labels.names[value] for value in labels.foreground if value not in counts),
            target=rules.target_spacing([c.spacing for c in cases], [c.shape_body for c in cases]),
            pitch=fingerprint.median_pitch or _USUAL_PITCH,
            region=(float(np.percentile(extents[:, 0], 75)), float(in_plane[0]), float(in_plane[1])),
            normalisation=from_fingerprint(fingerprint),
        )

    def median_shape(self, spacing: FloatArray) -> FloatArray:
        """Median shape of the cases after the crop to the body and resampling to ``spacing`` mm."""
        cases = self.fingerprint.cases
        return rules.median_shape([c.spacing for c in cases], [c.shape_body for c in cases], spacing)

    def coverage(self, extent: Mapping[int, float]) -> float:
        """The part of ``region`` that a patch covers, from its extent in mm by canonical axis."""
        return math.prod(min(1.0, extent[axis] / length) for axis, length in enumerate(self.region))
