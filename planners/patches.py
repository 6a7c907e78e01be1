"""Patches for a column: long from head to foot, in-plane no wider than a vertebra needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from autospine.core.plan import Configuration

from . import rules
from .rules import MIN_EDGE, Axes, Topology

#: mm in-plane that show a vertebra with its processes (about 80 mm wide at the lumbar spine) and the
#: tissue around it.
CONTEXT: Final = 100.0


def voxels_for(extent: Axes, spacing: Axes) -> tuple[int, ...]:
    """Voxels that cover ``extent`` mm along each axis, never fewer than the smallest feature map."""
    return tuple(max(MIN_EDGE, math.ceil(mm / s - 1e-6)) for mm, s in zip(extent, spacing, strict=True))


def elongated(
    spacing: Axes, start: Sequence[int], column: int, affordable: Callable[[Topology], bool]
) -> Topology:
    """Shrink a patch until it is affordable, sparing the axis along the column.

    In-plane axes shrink first, the longest in mm before the other, but not below ``CONTEXT``. Then the
    column's axis does, down to the same length. What still does not fit shrinks on all sides alike.

    Args:
        spacing: mm along the network's axes.
        start: Voxels to begin with.
        column: Index of the axis that runs along the column.
        affordable: Whether the budget allows a topology.
    """
    found = rules.topology(spacing, start)
    while not affordable(found):
        axis = _axis_to_shrink(found, column)
        if axis is None:
            break
        found = rules.shrunk(found, axis)
    return found


def covered(configuration: Configuration) -> dict[int, float]:
    """Extent in mm of a patch along each axis its network sees, by canonical axis (0 z, 1 y, 2 x)."""
    seen = configuration.axes[-configuration.dimensions :]
    spacing = configuration.spacing[-configuration.dimensions :]
    return {a: n * (s or 0.0) for a, n, s in zip(seen, configuration.patch, spacing, strict=True)}


def _axis_to_shrink(found: Topology, column: int) -> int | None:
    shrinkable = [axis for axis, n in enumerate(found.patch) if n >= 3 * MIN_EDGE]
    generous = [axis for axis in shrinkable if rules.shrunk(found, axis).extent[axis] >= CONTEXT]
    in_plane = [axis for axis in generous if axis != column]
    for choice in (in_plane, generous, shrinkable):
        if choice:
            return max(choice, key=lambda axis: (found.extent[axis], axis))
    return None
