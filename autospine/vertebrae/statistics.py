"""Learn from annotated columns which level follows which, how far away, and how large each one is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from typing import Final, TypeVar

import numpy as np

from autospine.core import anatomy
from autospine.core.column import ColumnModel, Succession
from autospine.core.geometry import Triple

#: Distance in mm from the body centre of a level to that of the next; levels between are interpolated.
#: Rounded from usual body and disc heights of adults.
_USUAL_DISTANCES: Final = {
    "C1": 21.0,
    "C3": 17.0,
    "C7": 19.0,
    "T6": 24.0,
    "T12": 31.5,
    "L4": 37.0,
    "L6": 36.0,
}
#: Standard deviation of the logarithm of a distance between adults.
_USUAL_SPREAD: Final = 0.12
#: How many patients the knowledge in this file weighs.
_PRIOR_PATIENTS: Final = 10.0
#: A pair farther apart than this many usual distances has an unannotated vertebra between.
_TOO_FAR: Final = 1.6

_T11, _T12, _L1, _L5, _L6 = (anatomy.label_of(name) for name in ("T11", "T12", "L1", "L5", "L6"))
_SACRUM: Final = 0
#: How often a rare neighbour stands below a level, before any column has been seen.
_RARE: Final = {(_T11, _L1): 0.03, (_T12, anatomy.T13): 0.03, (_L5, _L6): 0.05}

_Pair = tuple[int, int]
_Samples = Mapping[_Pair, Sequence[float]]
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class ObservedColumn:
    """The annotated vertebrae of one scan; keys are anatomical labels, 1..26.

    Args:
        centres: LPS world positions (x, y, z) in mm of the body centres.
        volumes: Sizes in mm³.
        cut: Labels that the border of the scan cuts; neither their volumes nor their centres are learnt from.
        patient: Scans of the same patient count as one; without a name, each scan is a patient of its own.
    """

    centres: Mapping[int, Triple]
    volumes: Mapping[int, float] = field(default_factory=dict)
    cut: tuple[int, ...] = ()
    patient: str = ""


def learn_column(columns: Sequence[ObservedColumn], levels: Sequence[int]) -> ColumnModel:
    """What the columns teach; usual anatomy fills in for what they do not show.

    The successions are those of ``anatomy.successors``. Where none of a level's successors can be named,
    the next level below that can be named takes their place, at the sum of the usual distances. The
    probabilities below a level sum to 1, unless the column may end there: below L5 the rest is the sacrum's.

    Args:
        columns: One entry a scan; may be empty.
        levels: Anatomical labels that can be named, in any order.

    Raises:
        KeyError: A level is not in 1..26.
    """
    ordered = tuple(sorted(set(levels), key=anatomy.rank_of))
    patients = [column.patient or f"scan {index}" for index, column in enumerate(columns)]
    scans = list(zip(patients, columns, strict=True))
    logs = _by_patient((p, pair, float(np.log(mm))) for p, c in scans for pair, mm in _pairs(c).items())
    volumes = _by_patient(
        (p, level, mm3) for p, c in scans for level, mm3 in c.volumes.items() if level not in c.cut
    )
    followed = _by_patient((p, pair, 1.0) for p, c in scans for pair in _neighbours(c))
    return ColumnModel(
        levels=ordered,
        successions=tuple(
            Succession(upper, lower, probability, *_distance((upper, lower), logs))
            for upper in ordered
            for lower, probability in _shares(upper, _successors(upper, ordered), followed).items()
        ),
        volumes={level: median(volumes[level]) for level in ordered if level in volumes},
    )


def _by_patient(rows: Iterable[tuple[str, _Key, float]]) -> dict[_Key, list[float]]:
    """One value a patient: the mean over the scans."""
    values: defaultdict[_Key, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for patient, key, value in rows:
        values[key][patient].append(value)
    return {key: [fmean(each) for each in patients.values()] for key, patients in values.items()}


def _neighbours(column: ObservedColumn) -> dict[_Pair, float]:
    """Distance in mm of vertebrae that stand directly above each other; (L5, sacrum) has none."""
    ordered = sorted(column.centres, key=anatomy.rank_of)
    found = {}
    for upper, lower in pairwise(ordered):
        mm = float(np.linalg.norm(np.subtract(column.centres[upper], column.centres[lower])))
        if lower in anatomy.successors(upper) and 0 < mm < _TOO_FAR * _usual_distance(upper, lower):
            found[upper, lower] = mm
    if ordered and ordered[-1] == _L5 and _L5 not in column.cut:
        found[_L5, _SACRUM] = 0.0
    return found


def _pairs(column: ObservedColumn) -> dict[_Pair, float]:
    """Distance in mm of neighbours that are both wholly in view."""
    hidden = {_SACRUM, *column.cut}
    return {pair: mm for pair, mm in _neighbours(column).items() if hidden.isdisjoint(pair)}


def _successors(upper: int, levels: Sequence[int]) -> tuple[int, ...]:
    """Levels that may stand below; where none of them can be named, the next one that can."""
    direct = tuple(lower for lower in anatomy.successors(upper) if lower in levels)
    return direct or tuple(levels[levels.index(upper) + 1 :][:1])


def _shares(upper: int, lowers: Sequence[int], followed: _Samples) -> dict[int, float]:
    """Probability of each level below ``upper``: counts of patients and of the prior's patients."""
    if not lowers:
        return {}
    # What ends the column keeps its share; what a named level stands in for does not.
    last = anatomy.rank_of(lowers[-1])
    ends = [b for b in anatomy.successors(upper) if b not in lowers and anatomy.rank_of(b) > last]
    below = [*lowers, *ends, *([_SACRUM] if upper == _L5 else [])]
    rare = {lower: _RARE.get((upper, lower), 0.0) for lower in below}
    prior = {lower: rare[lower] or 1.0 - sum(rare.values()) for lower in below}
    counts = {
        lower: len(followed.get((upper, lower), ())) + _PRIOR_PATIENTS * prior[lower] for lower in below
    }
    return {lower: counts[lower] / sum(counts.values()) for lower in lowers}


def _distance(pair: _Pair, logs: _Samples) -> tuple[float, float]:
    """Median in mm and spread of the logarithm, the latter drawn towards the usual one."""
    seen = logs.get(pair)
    if not seen:
        return _usual_distance(*pair), _USUAL_SPREAD
    squares = sum((value - fmean(seen)) ** 2 for value in seen)
    variance = (squares + _PRIOR_PATIENTS * _USUAL_SPREAD**2) / (len(seen) - 1 + _PRIOR_PATIENTS)
    return float(np.exp(median(seen))), float(np.sqrt(variance))


def _usual_distance(upper: int, lower: int) -> float:
    """From body centre to body centre in mm, along the usual column where levels lie between."""
    ranks = [anatomy.rank_of(anatomy.label_of(name)) for name in _USUAL_DISTANCES]
    total, level = 0.0, upper
    while level != lower:
        total += float(np.interp(anatomy.rank_of(level), ranks, list(_USUAL_DISTANCES.values())))
        below = anatomy.successors(level)
        level = lower if lower in below else next(b for b in below if (level, b) not in _RARE)
    return total
