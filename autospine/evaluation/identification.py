"""Identification of vertebrae: which ones are named right, judged by the centres of their bodies.

All functions take centres as LPS world positions (x, y, z) in mm by label. Labels are autospine's
own (``core.anatomy``); their ascending order is that of VerSe's ids, too, for T13 comes last in both.
A position that is not finite counts as absent, as NaN does in VerSe's centroid files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from autospine.core import anatomy
from autospine.core.geometry import FloatArray, Triple

Centres = Mapping[int, Triple]

#: A predicted centre farther than this from its vertebra, in mm, does not identify it; VerSe's rule.
RADIUS: Final = 20.0


@dataclass(frozen=True)
class Shift:
    """The one error of counting that explains a scan's names best.

    Args:
        offset: Levels by which the names lie too far down: 0 for right names, 1 where every vertebra
            is called the one below it, -1 the one above it; None where nothing explains anything.
        hits: Reference vertebrae that are found when the names are corrected by the offset.
    """

    offset: int | None
    hits: int


def finite_centres(centres: Centres) -> dict[int, Triple]:
    """The finite positions by ascending label: the order that decides between equal distances."""
    return {label: position for label, position in sorted(centres.items()) if np.isfinite(position).all()}


def official_hits(reference: Centres, prediction: Centres) -> frozenset[int]:
    """Vertebrae that VerSe's own scorer, ``get_hits``, counts as identified.

    Only labels present in both enter. Of these, label i is identified if no other's reference centre
    is closer to the predicted centre i and the distance is at most 20 mm; of equally close ones the
    lowest label wins. Hence a vertebra that was *not* predicted cannot be the closer one, and labels
    without a reference cost nothing.
    """
    common = finite_centres(reference).keys() & finite_centres(prediction).keys()
    return strict_hits({i: reference[i] for i in common}, {i: prediction[i] for i in common})


def strict_hits(reference: Centres, prediction: Centres) -> frozenset[int]:
    """Vertebrae whose predicted centre has their own as the closest of *all* reference centres.

    The distance is at most 20 mm; of equally close ones the lowest label wins. This is the rule as the
    challenge states it. A label without a reference is never identified.
    """
    return frozenset(i for i, nearest in nearest_references(reference, prediction).items() if i == nearest)


def nearest_references(reference: Centres, prediction: Centres) -> dict[int, int]:
    """Label of the closest reference centre by predicted label, where one lies within 20 mm."""
    reference, prediction = finite_centres(reference), finite_centres(prediction)
    if not reference or not prediction:
        return {}
    true = list(reference)
    distances = _distances(prediction, reference)
    closest = distances.argmin(axis=1)
    return {
        called: true[column]
        for called, column, row in zip(prediction, closest, distances, strict=True)
        if row[column] <= RADIUS
    }


def shift(reference: Centres, prediction: Centres) -> Shift:
    """The offset in levels that makes most predicted names right.

    Every predicted centre is taken for the closest reference vertebra within 20 mm, and its name
    compared with that one's. Levels are counted as anatomy allows: L1 is one below T12, and also one
    below T13. Between equally good offsets the smaller wins, then the one towards the head.

    Raises:
        KeyError: A label is not in 1..26.
    """
    explained: dict[int, set[int]] = defaultdict(set)
    for called, true in nearest_references(reference, prediction).items():
        for offset in level_offsets(called, true):
            explained[offset].add(true)
    if not explained:
        return Shift(None, 0)
    best = min(explained, key=lambda offset: (-len(explained[offset]), abs(offset), offset))
    return Shift(best, len(explained[best]))


def level_offsets(called: int, true: int) -> frozenset[int]:
    """How many levels a name may be said to lie below the true one; negative above, 0 only for itself.

    There may be several: L1 is one below T12, or two below it in a column with a T13.

    Raises:
        KeyError: A label is not in 1..26.
    """
    return _steps_down(true, called) | {-steps for steps in _steps_down(called, true)}


def centre_distances(reference: Centres, prediction: Centres) -> dict[int, float]:
    """Distance in mm between predicted and reference centre, by label, of the labels in both."""
    reference, prediction = finite_centres(reference), finite_centres(prediction)
    return {
        label: float(np.linalg.norm(np.subtract(prediction[label], position)))
        for label, position in reference.items()
        if label in prediction
    }


def mean_localisation_error(reference: Centres, prediction: Centres) -> float | None:
    """Mean distance in mm between predicted and reference centres of the labels in both; None without any."""
    distances = centre_distances(reference, prediction)
    return float(np.mean(list(distances.values()))) if distances else None


def _distances(rows: Centres, columns: Centres) -> FloatArray:
    a, b = (np.asarray(list(centres.values()), dtype=np.float64) for centres in (rows, columns))
    distances: FloatArray = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return distances


@cache
def _steps_down(upper: int, lower: int) -> frozenset[int]:
    """Lengths of all ways from one vertebra down to another that anatomy knows; none if it lies above."""
    if upper == lower:
        return frozenset({0})
    if anatomy.rank_of(upper) > anatomy.rank_of(lower):
        return frozenset()
    below = [_steps_down(label, lower) for label in anatomy.successors(upper)]
    return frozenset(1 + steps for lengths in below for steps in lengths)
