"""The naming of a column against the plain sum and the plain maximum over all sequences."""

from itertools import pairwise, product
from math import exp, hypot, inf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core import anatomy
from autospine.core.column import ColumnModel, Succession
from autospine.vertebrae.sequence import ColumnEvidence, NamingRules, name_column

WINDOWS = [
    ("T11", "T12", "T13", "L1", "L2"),
    ("T10", "T11", "T12", "L1"),
    ("T12", "T13", "L1"),
    ("L3", "L4", "L5", "L6"),
    ("C1", "C2", "C3", "C4"),
    ("C1",),
]


@st.composite
def models(draw):
    levels = tuple(anatomy.label_of(name) for name in draw(st.sampled_from(WINDOWS)))
    successions = tuple(
        Succession(
            upper, lower, draw(st.floats(0.01, 1)), draw(st.floats(15, 40)), draw(st.floats(0.05, 0.3))
        )
        for upper in levels
        for lower in anatomy.successors(upper)
        if lower in levels
    )
    return ColumnModel(levels, successions)


@st.composite
def columns(draw):
    """A model and the evidence of up to four instances: noise, or nearly sure names at likely places."""
    model = draw(models())
    n, levels = draw(st.integers(0, 4)), len(model.levels)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = rng.dirichlet(np.full(levels, draw(st.sampled_from([0.05, 0.5, 5.0]))), n)
    gaps = rng.choice([0.0, 6.0, 15.0, 25.0, 30.0, 35.0, 60.0], n) * rng.uniform(0.8, 1.2, n)
    centres = np.column_stack([rng.normal(0, 3, n), rng.normal(0, 3, n), -np.cumsum(gaps)])
    presence = rng.choice([0.0, 0.05, 0.5, 0.9, 1.0], n)
    rules = NamingRules(
        weight=draw(st.sampled_from([0.0, 0.5, 1.0])),
        missed=draw(st.sampled_from([0.02, 0.3])),
        doubled=draw(st.sampled_from([0.01, 0.3])),
    )
    return ColumnEvidence(names, centres.reshape(n, 3), presence), model, rules


class BruteForce:
    """Scores of single sequences, straight from the definition."""

    def __init__(self, evidence, model, rules):
        self.evidence, self.model, self.rules = evidence, model, rules
        n = len(evidence.presence)
        self.scores = {
            sequence: (self.score(sequence, sum), self.score(sequence, max))
            for sequence in product((None, *model.levels), repeat=n)
        }
        self.total = sum(summed for summed, _ in self.scores.values())

    def score(self, sequence, pool):
        rules, n = self.rules, len(sequence)
        value, weight = 1.0, rules.weight + (1 - rules.weight) / max(n, 1)
        for i, label in enumerate(sequence):
            presence = min(max(self.evidence.presence[i], rules.floor), 1 - rules.floor)
            if label is None:
                value *= 1 - presence
            else:
                seen = self.evidence.names[i, self.model.levels.index(label)]
                value *= presence * (max(seen, rules.floor) * len(self.model.levels)) ** weight
        taken = [i for i, label in enumerate(sequence) if label is not None]
        if taken:
            people = {level: self.people(level) for level in self.model.levels}
            value *= people[sequence[taken[0]]] / sum(people.values())
        for i, j in pairwise(taken):
            value *= self.move(i, j, sequence[i], sequence[j], pool)
        return value

    def people(self, level):
        """Share of people with a level."""
        above = [s for s in self.model.successions if s.lower == level]
        return sum(s.probability * self.people(s.upper) for s in above) if above else 1.0

    def move(self, i, j, upper, lower, pool):
        rules = self.rules
        apart = max(float(np.linalg.norm(self.evidence.centres[i] - self.evidence.centres[j])), 1.0)
        if upper == lower:
            off = max(log(apart / (rules.reach * self.pitch(upper))) / rules.slack, 0)
            return rules.doubled * bell(off, rules.slack)
        values = []
        for way in self.ways(upper, lower):
            length = sum(s.distance for s in way)
            spread = hypot(sum(s.spread * s.distance for s in way) / length, rules.jitter / length)
            chance = rules.missed ** (len(way) - 1)
            for s in way:
                chance *= s.probability
            values.append(chance * (bell(log(apart / length) / spread, spread) + rules.stray))
        return pool(values) if values else 0.0

    def ways(self, upper, lower):
        """All chains of successions from one level to another."""
        for s in self.model.successions:
            if s.upper == upper and s.lower == lower:
                yield (s,)
            elif s.upper == upper:
                yield from ((s, *rest) for rest in self.ways(s.lower, lower))

    def pitch(self, level):
        below = [s for s in self.model.successions if s.upper == level]
        if below:
            return max(below, key=lambda s: s.probability).distance
        above = [s for s in self.model.successions if s.lower == level]
        return above[-1].distance if above else 30.0

    def marginal(self, i, label):
        return sum(v for sequence, (v, _) in self.scores.items() if sequence[i] == label) / self.total

    def shifted(self, best, related):
        """Mass of the sequences whose every label is related to the best one's; None only to None."""
        if not any(label is not None for label in best):
            return 0.0
        pairs = {(s.upper, s.lower) for s in self.model.successions}

        def fits(label, of):
            return label is None if of is None else label is not None and related(label, of) in pairs

        return sum(v for q, (v, _) in self.scores.items() if all(map(fits, q, best))) / self.total


def bell(z, spread):
    return exp(-z * z / 2) / (spread * sqrt(2 * pi))


@settings(deadline=None, max_examples=300)
@given(columns())
def test_everything_equals_brute_force(column):
    levels = column[1].levels
    named, brute = name_column(*column), BruteForce(*column)
    best = max((v for _, v in brute.scores.values()), default=-inf)
    assert brute.scores[named.labels][1] == pytest.approx(best, rel=1e-9)
    assert named.log_probability == pytest.approx(log(best), abs=1e-9)
    assert named.log_total == pytest.approx(log(brute.total), abs=1e-9)
    for i in range(len(named.labels)):
        expected = [brute.marginal(i, level) for level in levels]
        assert named.marginals[i] == pytest.approx(expected, abs=1e-9)
        assert named.absent[i] == pytest.approx(brute.marginal(i, None), abs=1e-9)
    assert named.shifted_up == pytest.approx(brute.shifted(named.labels, lambda a, b: (a, b)), abs=1e-9)
    assert named.shifted_down == pytest.approx(brute.shifted(named.labels, lambda a, b: (b, a)), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(columns())
def test_names_are_legal(column):
    labels = [label for label in name_column(*column).labels if label is not None]
    ranks = [anatomy.rank_of(label) for label in labels]
    assert ranks == sorted(ranks)
    assert set(labels) <= set(column[1].levels)


@settings(deadline=None, max_examples=60)
@given(columns(), st.floats(-200, 200))
def test_a_moved_column_keeps_its_names(column, by):
    evidence, model, rules = column
    moved = name_column(
        ColumnEvidence(evidence.names, evidence.centres + by, evidence.presence), model, rules
    )
    named = name_column(*column)
    assert moved.marginals == pytest.approx(named.marginals, abs=1e-6)
    assert moved.log_probability == pytest.approx(named.log_probability, abs=1e-6)
