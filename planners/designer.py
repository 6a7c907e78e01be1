"""Configurations for spines: a grid, the largest affordable patch on it, and a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from autospine.core.geometry import Triple
from autospine.core.plan import Budget, Configuration, NetworkSpec

from . import rules
from .allowance import Allowance
from .normalisation import air
from .patches import CONTEXT, elongated, voxels_for
from .rules import FloatArray, Topology
from .schedules import schedule_for
from .survey import Survey

NetworkRule = Callable[[Topology], NetworkSpec]

#: A full-resolution scan has at least this many times the voxels of a coarse one (nnU-Net).
_WORTHWHILE: Final = 2.0
#: Voxel edge in mm that a CPU works with when a step may take one core-second; finer with more.
_CPU_EDGE: Final = 4.0
_CPU_LOW_FACTOR: Final = 1.5
#: Coarser than this, vertebrae of the neck merge.
_COARSEST: Final = 8.0
_SAGITTAL: Final = (2, 0, 1)


@dataclass(frozen=True)
class Designer:
    """Designs configurations for a survey within an allowance.

    Args:
        survey: Of the data set.
        allowance: What a step may take.
    """

    survey: Survey
    allowance: Allowance

    @property
    def spacing(self) -> FloatArray:
        """nnU-Net's target spacing in mm; on a CPU no finer than it can work with."""
        if self.allowance.budget.device == "cuda":
            return self.survey.target
        return np.maximum(self.survey.target, _cpu_edge(self.allowance.budget))

    def sagittal(self, name: str, network: NetworkRule | None = None) -> Configuration:
        """A 2D configuration: a sagittal plane shows the whole column."""
        spacing = self.spacing
        extent = self.survey.median_shape(spacing) * spacing
        return self.configuration(name, _SAGITTAL, spacing, extent, network, flat=True)

    def volume(
        self, name: str, network: NetworkRule | None = None, extent: rules.Axes | None = None
    ) -> Configuration:
        """A 3D configuration at the finest affordable spacing.

        Args:
            name: Its name.
            network: What becomes of a topology; None takes the allowance's.
            extent: Largest patch in mm along z, y, x; None lets it be as large as a scan, but on a CPU no
                wider than a vertebra needs.
        """
        spacing = self.spacing
        return self.configuration(
            name, _volume_axes(spacing), spacing, self._widest(spacing) if extent is None else extent, network
        )

    def coarse(self, name: str, network: NetworkRule | None = None) -> Configuration:
        """A 3D configuration so coarse that one patch shows the whole region."""
        spacing = self.spacing
        if self.allowance.budget.device == "cpu":
            edge = _CPU_LOW_FACTOR * _cpu_edge(self.allowance.budget)
            coarse = np.maximum(self.survey.target, edge)
        else:
            coarse = spacing
        while min(coarse) < _COARSEST and not (
            np.prod(coarse / spacing) >= _WORTHWHILE and self.allowance.affords(self._whole(coarse))
        ):
            coarse = rules.coarsened(coarse)
        return self.configuration(name, _volume_axes(coarse), coarse, self.survey.region, network)

    def configuration(
        self,
        name: str,
        axes: tuple[int, int, int],
        spacing: FloatArray,
        extent: rules.Axes,
        network: NetworkRule | None = None,
        *,
        flat: bool = False,
    ) -> Configuration:
        """The configuration with the largest affordable patch within ``extent``.

        Args:
            name: Its name.
            axes: Order of the stored axes.
            spacing: mm along z, y, x.
            extent: mm along z, y, x.
            network: What becomes of a topology; None takes the allowance's.
            flat: Whether the network sees the last two stored axes only.
        """
        stored, shape = spacing[list(axes)], self.survey.median_shape(spacing)[list(axes)]
        seen = axes[1:] if flat else axes
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
            network=(network or self.allowance.network)(found),
            crop="body",
            normalisation=normalisation,
            padding=tuple(air(channel) for channel in normalisation),
            mirror_axes=self._mirror_axes(seen),
            batch_dice=flat,
            schedule=schedule_for(self.allowance.budget),
            centres=self.allowance.centres and not flat,
        )

    def _widest(self, spacing: FloatArray) -> list[float]:
        shape = self.survey.median_shape(spacing)
        start = [float(n) for n in shape]
        if self.allowance.budget.device == "cpu":
            # Wider patches would fit, but cheap steps are worth more than in-plane context.
            start[1:] = (min(n, CONTEXT / s) for n, s in zip(start[1:], spacing[1:], strict=True))
        return [n * s for n, s in zip(start, spacing, strict=True)]

    def _whole(self, spacing: FloatArray) -> Topology:
        return rules.topology(spacing, voxels_for(self.survey.region, spacing))

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
