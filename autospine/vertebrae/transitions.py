"""How likely one found vertebra follows another: all ways down the column, and the distance they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from autospine.core.column import ColumnModel
from autospine.core.geometry import FloatArray

_CLOSEST: Final = 1.0  # mm; zero has no logarithm
_LONE: Final = 30.0  # mm; pitch of a level without neighbours


@dataclass(frozen=True)
class NamingRules:
    """What the naming of a column takes for granted; probabilities unless said otherwise.

    Args:
        weight: What every further instance's evidence for names counts, where the first counts 1: neighbours
            are mistaken together. All of a column share the mean as their exponent.
        floor: Least value of evidence and of presence: nothing is ever ruled out.
        missed: That a vertebra in view was not found.
        doubled: That one vertebra was found twice.
        reach: Parts of one vertebra are usually closer than this share of its distance to the next.
        slack: Spread of the logarithm of their distance beyond that.
        jitter: Standard deviation in mm of a distance because centres are found inexactly.
        stray: Density, per unit of its logarithm, of any distance whatsoever: a centre may be far off.
        sure: A name less probable than this is doubtful.
        shift: A shift of the whole column more probable than this is doubtful.
    """

    weight: float = 0.7
    floor: float = 1e-3
    missed: float = 0.03
    doubled: float = 0.02
    reach: float = 0.5
    slack: float = 0.15
    jitter: float = 4.0
    stray: float = 1e-3
    sure: float = 0.9
    shift: float = 0.05


@dataclass(frozen=True)
class Way:
    """A way down the column from one level to another; levels are positions in the model.

    Args:
        upper: Where it starts.
        lower: Where it ends.
        passed: Levels between, which were not found.
        probability: Product over its successions.
        distance: In mm, sum over its successions.
        spread: Of the logarithm of the distance. A person is large or small throughout, so the spreads of
            the successions add up in full.
    """

    upper: int
    lower: int
    passed: tuple[int, ...]
    probability: float
    distance: float
    spread: float


def ways_down(model: ColumnModel) -> tuple[Way, ...]:
    """All ways from any level to any level below it."""
    place = {level: index for index, level in enumerate(model.levels)}
    steps = [
        Way(place[s.upper], place[s.lower], (), s.probability, s.distance, s.spread)
        for s in model.successions
    ]
    found: list[Way] = []
    # From the foot upwards, so that the ways from a step's lower end are complete.
    for step in sorted(steps, key=lambda step: -step.upper):
        found += [step, *(_joined(step, way) for way in found if way.upper == step.lower)]
    return tuple(found)


def _joined(step: Way, way: Way) -> Way:
    distance = step.distance + way.distance
    return Way(
        upper=step.upper,
        lower=way.lower,
        passed=(step.lower, *way.passed),
        probability=step.probability * way.probability,
        distance=distance,
        spread=(step.distance * step.spread + way.distance * way.spread) / distance,
    )


def way_scores(ways: Sequence[Way], distances: FloatArray, rules: NamingRules) -> FloatArray:
    """Logarithm of each way's probability times the density of the logarithm of the distance.

    Args:
        ways: W of them.
        distances: In mm; shape (p,).
        rules: See there.

    Returns:
        Shape (p, W).
    """
    usual = np.array([way.distance for way in ways])
    spread = np.hypot(np.array([way.spread for way in ways]), rules.jitter / usual)
    prior = np.array([way.probability * rules.missed ** len(way.passed) for way in ways])
    off = np.log(np.maximum(distances, _CLOSEST)[:, None] / usual) / spread
    density = np.exp(-(off**2) / 2) / (spread * np.sqrt(2 * np.pi))
    with np.errstate(divide="ignore"):  # a model may forbid a succession
        return np.asarray(np.log(prior * (density + rules.stray)))


def doubled_scores(pitches: FloatArray, distances: FloatArray, rules: NamingRules) -> FloatArray:
    """Likewise, for two parts of one vertebra.

    Args:
        pitches: Usual distance in mm of each level to the next; shape (L,).
        distances: In mm; shape (p,).
        rules: See there.

    Returns:
        Shape (p, L).
    """
    # In logarithms throughout: nothing lets parts of one vertebra lie far apart, and no score underflows.
    off = np.log(np.maximum(distances, _CLOSEST)[:, None] / (rules.reach * pitches)) / rules.slack
    peak = rules.doubled / (rules.slack * np.sqrt(2 * np.pi))
    return np.asarray(np.log(peak) - np.maximum(off, 0.0) ** 2 / 2)


def transition_tables(
    centres: FloatArray, model: ColumnModel, rules: NamingRules
) -> tuple[FloatArray, FloatArray]:
    """Scores of coming from one found vertebra, with a level, to a later one, with a level.

    Args:
        centres: LPS positions (x, y, z) in mm; shape (n, 3).
        model: L levels and their successions.
        rules: See there.

    Returns:
        Summed over all ways, and that of the likeliest way; both of shape (n, n, L, L), indexed by upper
        instance, lower instance, upper level, lower level; -inf where there is no way.
    """
    upper, lower = np.triu_indices(len(centres), 1)
    distances = np.linalg.norm(centres[upper] - centres[lower], axis=1)
    ways, count = ways_down(model), len(model.levels)
    same = np.arange(count) * (count + 1)
    cells = np.concatenate([same, np.array([w.upper * count + w.lower for w in ways], dtype=int)])
    scores = np.hstack(
        [doubled_scores(_pitches(model), distances, rules), way_scores(ways, distances, rules)]
    )
    order = np.argsort(cells, kind="stable")
    cells, firsts = np.unique(cells[order], return_index=True)

    def table(pool: np.ufunc) -> FloatArray:
        full = np.full((len(centres), len(centres), count * count), -np.inf)
        full[upper[:, None], lower[:, None], cells] = pool.reduceat(scores[:, order], firsts, axis=1)
        return full.reshape(len(centres), len(centres), count, count)

    return table(np.logaddexp), table(np.maximum)


def _pitches(model: ColumnModel) -> FloatArray:
    """Usual distance in mm of each level to the next below, or above where there is none; shape (L,)."""
    ends = {s.lower: s.distance for s in model.successions}
    starts = {s.upper: s.distance for s in sorted(model.successions, key=lambda s: s.probability)}
    return np.array([(ends | starts).get(level, _LONE) for level in model.levels])


def occupancy(model: ColumnModel) -> FloatArray:
    """Probability that a person has each level; shape (L,)."""
    entered = {s.lower for s in model.successions}
    share = {level: 0.0 if level in entered else 1.0 for level in model.levels}
    for level in model.levels:
        for s in model.successions:
            if s.upper == level:
                share[s.lower] += share[level] * s.probability
    return np.array([share[level] for level in model.levels])


def passed_over(
    labels: Sequence[int | None], centres: FloatArray, model: ColumnModel, rules: NamingRules
) -> tuple[int, ...]:
    """Labels that the likeliest way through a named column passes without a vertebra having been found."""
    named = [
        (model.levels.index(label), where) for label, where in zip(labels, centres, strict=True) if label
    ]
    ways, passed = ways_down(model), []
    for (upper, there), (lower, here) in pairwise(named):
        fitting = [way for way in ways if (way.upper, way.lower) == (upper, lower)]
        if fitting:
            scores = way_scores(fitting, np.array([np.linalg.norm(here - there)]), rules)
            passed += [model.levels[level] for level in fitting[int(scores.argmax())].passed]
    return tuple(passed)
