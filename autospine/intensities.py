"""Large samples of intensities, kept as a table of values and counts.

nnU-Net draws 100 million labelled voxels from a data set and keeps them all. A CT has a few thousand
distinct values, so a table of how often each was drawn says the same in a few kilobytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.fingerprint import Intensities

_SEED: Final = 1234
_CHUNK: Final = 4_000_000
#: Values are kept to this many binary digits: whole numbers up to a million exactly, others within 5e-7.
_DIGITS: Final = 20


@dataclass(frozen=True)
class ValueCounts:
    """Distinct values, ascending, and how often each occurs."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any], counts: NDArray[np.int64]) -> ValueCounts:
        """Merge equal values, after rounding to a bounded number of binary digits."""
        mantissa, exponent = np.frexp(values.astype(np.float64))
        rounded = np.ldexp(np.rint(mantissa * 2**_DIGITS), exponent - _DIGITS)
        distinct, inverse = np.unique(rounded, return_inverse=True)
        merged = np.bincount(inverse.ravel(), weights=counts, minlength=len(distinct))
        return cls(distinct, merged.astype(np.int64))

    @classmethod
    def sampled(cls, values: NDArray[Any], samples: int) -> ValueCounts:
        """``samples`` of ``values``, drawn with replacement: the very ones that nnU-Net draws.

        Drawing in pieces from one legacy generator gives the same numbers as drawing at once.
        """
        drawn = np.zeros(values.size, dtype=np.int64)
        if values.size:
            random = np.random.RandomState(_SEED)
            for start in range(0, samples, _CHUNK):
                picked = random.randint(0, values.size, size=min(_CHUNK, samples - start))
                drawn += np.bincount(picked, minlength=values.size)
        hit = drawn > 0
        return cls.of(values[hit], drawn[hit])

    def merged(self, other: ValueCounts) -> ValueCounts:
        """Both tables in one."""
        return ValueCounts.of(
            np.concatenate([self.values, other.values]), np.concatenate([self.counts, other.counts])
        )

    def percentile(self, percent: float) -> float:
        """Percentile with linear interpolation between neighbours, as ``numpy.percentile``."""
        position = percent / 100 * (self.counts.sum() - 1)
        below = np.floor(position)
        ends = np.cumsum(self.counts)
        low, high = self.values[np.searchsorted(ends, [below, min(below + 1, ends[-1] - 1)], side="right")]
        return float(low + (high - low) * (position - below))

    def statistics(self) -> Intensities:
        """Mean, spread, range and percentiles."""
        mean = float(np.average(self.values, weights=self.counts))
        variance = float(np.average((self.values - mean) ** 2, weights=self.counts))
        present = self.values[self.counts > 0]
        return Intensities(
            mean=mean,
            median=self.percentile(50),
            std=variance**0.5,
            minimum=float(present[0]),
            maximum=float(present[-1]),
            percentile_00_5=self.percentile(0.5),
            percentile_99_5=self.percentile(99.5),
        )
