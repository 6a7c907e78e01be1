"""The default planner: nnU-Net's rules, mended where a spine or the device ask for something else.

Every departure is explained in the plan's ``reasons``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from autospine.core.errors import DataError
from autospine.core.fingerprint import Fingerprint
from autospine.core.geometry import Triple
from autospine.core.plan import Budget, Configuration, Plan

from . import rules
from .allowance import Allowance
from .normalisation import air
from .patches import CONTEXT, covered, elongated, voxels_for
from .reasons import explain
from .rules import FloatArray, Topology
from .schedules import schedule_for
from .survey import Survey

#: A low-resolution stage is planned when a full-resolution patch covers less than this of the region.
_COVERED: Final = 0.75
#: A full-resolution scan has at least this many times its voxels (nnU-Net).
_WORTHWHILE: Final = 2.0
#: Voxel edge in mm that a CPU works with when a step may take one core-second; finer with more.
_CPU_EDGE: Final = 4.0
_CPU_LOW_FACTOR: Final = 1.5
#: Coarser than this, vertebrae of the neck merge.
_COARSEST: Final = 8.0
_SAGITTAL: Final = (2, 0, 1)


def plan(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """A plan for spines.

    Args:
        fingerprint: The data set's fingerprint; its cases in canonical orientation.
        budget: Where the networks will run and what they may take.

    Raises:
        DataError: No label occurs.
    """
    survey = Survey.of(fingerprint)
    if len(survey.classes) == 1:
        raise DataError(f"No case of {fingerprint.dataset} shows a label.", remedy="Check the masks.")
    allowance = Allowance(
        budget, len(fingerprint.channels), len(survey.classes), centres=survey.column is not None
    )
    designer = _Designer(survey, allowance)
    configurations = designer.configurations()
    return Plan(
        dataset=fingerprint.dataset,
        planner="spine",
        labels=fingerprint.labels,
        classes=survey.classes,
        configurations=configurations,
        reasons=explain(survey, allowance, configurations),
        budget=budget,
        column=survey.column,
        ignore_border=survey.column is not None and not survey.cut_labelled,
        partial="keep" if survey.cut_labelled else "drop",
    )


@dataclass(frozen=True)
class _Designer:
    """Designs configurations for a survey within an allowance."""

    survey: Survey
    allowance: Allowance

    def configurations(self) -> tuple[Configuration, ...]:
        """2D, and one or three in 3D, in the order they are trained."""
        spacing = self._spacing()
        flat = self._sagittal(spacing)
        full = self._full(spacing)
        if self.survey.coverage(covered(full)) >= _COVERED:
            return flat, full
        low = self._low(spacing)
        full = replace(full, batch_dice=True)
        return flat, low, full, replace(full, name="3d_cascade_fullres", previous_stage=low.name)

    def _spacing(self) -> FloatArray:
        """nnU-Net's target spacing; on a CPU no finer than it can work with."""
        if self.allowance.budget.device == "cuda":
            return self.survey.target
        return np.maximum(self.survey.target, _cpu_edge(self.allowance.budget))

    def _full(self, spacing: FloatArray) -> Configuration:
        shape = self.survey.median_shape(spacing)
        start = [float(n) for n in shape]
        if self.allowance.budget.device == "cpu":
            # Wider patches would fit, but cheap steps are worth more than in-plane context.
            start[1:] = (min(n, CONTEXT / s) for n, s in zip(start[1:], spacing[1:], strict=True))
        extent = [n * s for n, s in zip(start, spacing, strict=True)]
        return self._configuration("3d_fullres", _volume_axes(spacing), spacing, extent)

    def _low(self, spacing: FloatArray) -> Configuration:
        """Coarsen until one patch shows the whole region."""
        if self.allowance.budget.device == "cpu":
            edge = _CPU_LOW_FACTOR * _cpu_edge(self.allowance.budget)
            coarse = np.maximum(self.survey.target, edge)
        else:
            coarse = spacing
        while min(coarse) < _COARSEST and not (
            np.prod(coarse / spacing) >= _WORTHWHILE and self.allowance.affords(self._whole(coarse))
        ):
            coarse = rules.coarsened(coarse)
        return self._configuration("3d_lowres", _volume_axes(coarse), coarse, self.survey.region)

    def _whole(self, spacing: FloatArray) -> Topology:
        return rules.topology(spacing, voxels_for(self.survey.region, spacing))

    def _sagittal(self, spacing: FloatArray) -> Configuration:
        extent = self.survey.median_shape(spacing) * spacing
        return self._configuration("2d", _SAGITTAL, spacing, extent)

    def _configuration(
        self, name: str, axes: tuple[int, int, int], spacing: FloatArray, extent: rules.Axes
    ) -> Configuration:
        """The configuration with the largest affordable patch within ``extent`` mm (z, y, x)."""
        stored, shape = spacing[list(axes)], self.survey.median_shape(spacing)[list(axes)]
        seen = axes[1:] if name == "2d" else axes
        mm = spacing[list(seen)]
        start = voxels_for([extent[axis] for axis in seen], mm)
        found = elongated(mm, start, seen.index(0), self.allowance.affords)
        voxels = float(np.prod(shape)) * len(self.survey.fingerprint.cases)
        normalisation = self.survey.normalisation
        return Configuration(
            name=name,
            axes=axes,
            spacing=_triple(stored),
            patch=found.patch,
            batch_size=self.allowance.batch(found, voxels),
            median_shape=_triple(shape),
            network=self.allowance.network(found),
            crop="body",
            normalisation=normalisation,
            padding=tuple(air(channel) for channel in normalisation),
            mirror_axes=self._mirror_axes(seen),
            batch_dice=name == "2d",
            schedule=schedule_for(self.allowance.budget),
            centres=self.allowance.centres and len(seen) == 3,
        )

    def _mirror_axes(self, seen: tuple[int, ...]) -> tuple[int, ...]:
        """Left-right alone, if the network sees that axis and no label has a side."""
        if self.survey.fingerprint.labels.left_right or 2 not in seen:
            return ()
        return (seen.index(2),)


def _cpu_edge(budget: Budget) -> float:
    """Halving the voxel edge makes eight times the voxels, and a step eight times as long."""
    core_seconds = budget.step_seconds * budget.cores
    return float(min(_CPU_EDGE / core_seconds ** (1 / 3), _COARSEST / _CPU_LOW_FACTOR))


def _volume_axes(spacing: FloatArray) -> tuple[int, int, int]:
    """Canonical order, unless one axis is so coarse that it is augmented and resampled apart: first then."""
    axes = rules.coarsest_first(spacing)
    first, *others = axes
    return axes if spacing[first] > rules.ANISOTROPY * max(spacing[others]) else (0, 1, 2)


def _triple(values: Sequence[float] | FloatArray) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)
