"""What a data set looks like, case by case and as a whole: everything a planner may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from autospine.core.dataset import LabelSchema
from autospine.core.geometry import Triple

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Intensities:
    """Statistics of a set of intensities (HU for CT)."""

    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True)
class CaseFingerprint:
    """One training case; axes in canonical order z, y, x unless said otherwise.

    Args:
        identifier: The case.
        spacing: mm.
        shape: Voxels of the whole scan.
        shape_nonzero: Voxels after nnU-Net's crop to the non-zero region.
        shape_body: Voxels after the crop to the body.
        orientation: Axis codes of the file's own array axes, e.g. ``"SPL"``.
        levels: Labels present in the mask, ascending.
        cut_levels: Labels whose mask touches the scan's border.
        spine_extent: Extent in mm of the labelled voxels along z, y, x; zeros when there are none.
        body_pitch: Median distance in mm between the centres of neighbouring vertebrae; None below two.
        background_hu: 0.5 percentile of the scan: about -1000 where air is air.
        plausible_hu: Whether the intensities look like Hounsfield units.
        end_cut_levels: Those of ``cut_levels`` that touch the upper or lower border.
        patient: What keeps cases of one patient together.
        centres: LPS world position (x, y, z) in mm of the vertebral bodies' centres, by label.
        volumes: Volume in mm³ of every vertebra, by label.
    """

    identifier: str
    spacing: Triple
    shape: Shape
    shape_nonzero: Shape
    shape_body: Shape
    orientation: str
    levels: tuple[int, ...]
    cut_levels: tuple[int, ...]
    spine_extent: Triple
    body_pitch: float | None
    background_hu: float
    plausible_hu: bool
    end_cut_levels: tuple[int, ...] = ()
    patient: str = ""
    centres: Mapping[int, Triple] = field(default_factory=dict)
    volumes: Mapping[int, float] = field(default_factory=dict)

    @property
    def field_of_view(self) -> Triple:
        """Extent of the whole scan in mm along z, y, x."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return (z, y, x)


@dataclass(frozen=True)
class Fingerprint:
    """A data set's fingerprint.

    Args:
        dataset: The data set's name.
        labels: Its label schema.
        channels: Its channel names.
        cases: One entry per training case.
        foreground: Statistics over the labelled voxels, each case weighted equally, per channel.
        content: Hash of the case identifiers and files the fingerprint was made from.
    """

    dataset: str
    labels: LabelSchema
    channels: tuple[str, ...]
    cases: tuple[CaseFingerprint, ...]
    foreground: tuple[Intensities, ...]
    content: str = ""

    @property
    def median_relative_size(self) -> float:
        """Median share of a scan's voxels that the non-zero crop keeps."""
        return float(np.median([np.prod(c.shape_nonzero) / np.prod(c.shape) for c in self.cases]))

    @property
    def level_counts(self) -> Mapping[int, int]:
        """How many cases show each label, for labels that occur."""
        levels = [level for case in self.cases for level in case.levels]
        return {level: levels.count(level) for level in sorted(set(levels))}

    @property
    def median_pitch(self) -> float | None:
        """Median over the cases of the distance in mm between neighbouring vertebrae."""
        pitches = [case.body_pitch for case in self.cases if case.body_pitch is not None]
        return float(np.median(pitches)) if pitches else None
