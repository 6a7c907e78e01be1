"""Vertebrae as a stage hands them to the next: where they are and what they may be called."""

from __future__ import annotations

from dataclasses import dataclass

from autospine.core.geometry import Box, Triple


@dataclass(frozen=True)
class Located:
    """A vertebra that was found but not yet outlined.

    Args:
        centre: LPS world position (x, y, z) in mm of its body's centre.
        names: Probability of each output channel of the plan; that of the background is 0, and they sum to 1.
    """

    centre: Triple
    names: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """What a stage has found in a scan.

    Args:
        vertebrae: From head to foot.
        spine: Box around them on the oriented (canonical) grid of the whole scan; None when there are none.
    """

    vertebrae: tuple[Located, ...] = ()
    spine: Box | None = None
