"""A mean and how sure one may be of it: the percentile bootstrap over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from autospine.core.geometry import FloatArray

_RESAMPLES: Final = 2000
_LEVEL: Final = 0.95
_SEED: Final = 12345


@dataclass(frozen=True)
class Estimate:
    """A mean with the limits of its 95 % confidence interval.

    Args:
        mean: The mean.
        low: Lower limit; None when fewer than two patients were seen.
        high: Upper limit; None when fewer than two patients were seen.
    """

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def estimate(values: Sequence[float], groups: Sequence[str]) -> Estimate | None:
    """Mean of ``values`` with a percentile bootstrap that resamples whole groups (Efron 1979).

    Values of one patient depend on each other, so patients are drawn with replacement, not values:
    2000 times, with a fixed seed, so that the same values give the same interval.

    Args:
        values: One number per observation, for instance the Dice of one vertebra in one scan.
        groups: The patient of each observation.

    Returns:
        None when there are no values.
    """
    if not values:
        return None
    data = np.asarray(values, dtype=np.float64)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    mean = float(data.mean())
    if len(names) < 2:
        return Estimate(mean, None, None)
    sums = np.bincount(member, weights=data)
    counts = np.bincount(member)
    draws = _draws(len(names))
    means = (draws @ sums) / (draws @ counts)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(mean, float(low), float(high))


@lru_cache(maxsize=8)
def _draws(groups: int) -> FloatArray:
    """How often each resample (rows) draws each group (columns). All scores of an evaluation share it."""
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=_RESAMPLES).astype(np.float64)
