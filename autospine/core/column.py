"""What a data set teaches about vertebral columns: which level follows which, how far away, how large.

A plan carries one of these, because prediction names vertebrae by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Succession:
    """Two levels that may stand directly above each other. Levels are anatomical labels, 1..26.

    Args:
        upper: The level above.
        lower: The level below.
        probability: Of ``lower`` among all levels that may follow ``upper``.
        distance: Median distance in mm from body centre to body centre.
        spread: Standard deviation of the natural logarithm of that distance, between patients.
    """

    upper: int
    lower: int
    probability: float
    distance: float
    spread: float


@dataclass(frozen=True)
class ColumnModel:
    """Levels, their successions and their sizes.

    Args:
        levels: Anatomical labels (1..26) that a vertebra may be named, from head to foot.
        successions: Every allowed pair of neighbours, both of them among ``levels``.
        volumes: Median volume in mm³ of a whole vertebra by level, where one was seen.
    """

    levels: tuple[int, ...]
    successions: tuple[Succession, ...]
    volumes: Mapping[int, float] = field(default_factory=dict)
