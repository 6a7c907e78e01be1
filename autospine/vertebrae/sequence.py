"""Name the vertebrae of a whole column at once: an exact dynamic programme over all legal sequences.

In a sequence, each found instance is a vertebra of some level or nothing (spurious). Its score sums

- for a vertebra: the logarithm of its presence, and a weight times that of its evidence over an even guess;
- for nothing: the logarithm of one minus its presence;
- for the first vertebra: the logarithm of the share of people who have its level;
- for each later vertebra: the score of coming from the last one before (``transitions``).

The best sequence is Viterbi's; probabilities are exact sums over all sequences (forward-backward algorithm,
Rabiner, Proc. IEEE 1989).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from autospine.core.column import ColumnModel
from autospine.core.geometry import FloatArray
from autospine.vertebrae.doubts import find_doubts
from autospine.vertebrae.transitions import NamingRules, occupancy, passed_over, transition_tables

__all__ = ["ColumnEvidence", "NamedColumn", "NamingRules", "name_column"]

_USUAL: Final = NamingRules()


@dataclass(frozen=True, eq=False)
class ColumnEvidence:
    """What was found in a scan, from head to foot.

    Args:
        names: Probability of each level of the model, given that the instance is a vertebra; shape (n, L).
        centres: LPS world positions (x, y, z) in mm of the body centres; shape (n, 3).
        presence: Probability that the instance is a vertebra at all; shape (n,).
    """

    names: FloatArray
    centres: FloatArray
    presence: FloatArray


@dataclass(frozen=True, eq=False)
class NamedColumn:
    """Names of the instances, and how sure they are.

    Args:
        labels: Anatomical label of each instance in the best sequence; None for nothing. Parts of one
            vertebra share a label.
        marginals: Probability of each level over all sequences; shape (n, L).
        absent: Probability of being nothing; shape (n,). It and a row of ``marginals`` sum to 1.
        shifted_up: Probability that every vertebra of the best sequence truly is one directly above the
            level it is called, and what it leaves out is nothing.
        shifted_down: Likewise, directly below.
        log_probability: Score of the best sequence, not normalised.
        log_total: Logarithm of the sum over all sequences.
        doubts: Why a person should look again, in words; empty when nothing is doubtful.
    """

    labels: tuple[int | None, ...]
    marginals: FloatArray
    absent: FloatArray
    shifted_up: float
    shifted_down: float
    log_probability: float
    log_total: float
    doubts: tuple[str, ...] = ()


def name_column(evidence: ColumnEvidence, model: ColumnModel, rules: NamingRules = _USUAL) -> NamedColumn:
    """Name all instances of a column together.

    Args:
        evidence: n instances; n may be 0.
        model: L levels and their successions.
        rules: What is taken for granted.

    Raises:
        ValueError: The arrays' shapes do not agree with each other and with the model, or it has no levels.
    """
    _check(evidence, model)
    summed, likeliest = transition_tables(evidence.centres, model, rules)
    trellis = _trellis(evidence, model, rules, summed)
    forward, total = _forward(trellis, _log_sum)
    backward, _ = _forward(_upside_down(trellis), _log_sum)
    marginals = np.exp(forward + backward[::-1] - trellis.vertebra - total)
    best, score = _best(replace(trellis, moves=likeliest))
    labels = tuple(None if level is None else model.levels[level] for level in best)
    pairs = {(s.upper, s.lower) for s in model.successions}
    above = [[(level, label) in pairs for level in model.levels] for label in labels]
    below = [[(label, level) in pairs for level in model.levels] for label in labels]
    named = NamedColumn(
        labels=labels,
        marginals=marginals,
        absent=np.clip(1.0 - marginals.sum(axis=1), 0.0, 1.0),
        shifted_up=_mass(trellis, best, above, total),
        shifted_down=_mass(trellis, best, below, total),
        log_probability=score,
        log_total=total,
    )
    return replace(named, doubts=_doubts(named, evidence, model, rules))


def _check(evidence: ColumnEvidence, model: ColumnModel) -> None:
    n, levels = len(evidence.presence), len(model.levels)
    shapes = (evidence.names.shape, evidence.centres.shape, evidence.presence.shape)
    if shapes != ((n, levels), (n, 3), (n,)) or levels == 0:
        raise ValueError(f"Evidence of shapes {shapes} does not fit a model of {levels} levels.")


_Pool = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class _Trellis:
    """Scores of all sequences, by their parts.

    Args:
        start: Of beginning with a level; shape (L,).
        vertebra: Of an instance being a vertebra of a level; shape (n, L).
        nothing: Of an instance being nothing; shape (n,).
        moves: Of coming from one vertebra to a later one; shape (n, n, L, L).
    """

    start: FloatArray
    vertebra: FloatArray
    nothing: FloatArray
    moves: FloatArray


def _trellis(evidence: ColumnEvidence, model: ColumnModel, rules: NamingRules, moves: FloatArray) -> _Trellis:
    presence = np.clip(evidence.presence, rules.floor, 1.0 - rules.floor)
    names = np.maximum(evidence.names, rules.floor) * len(model.levels)
    shares = occupancy(model)
    with np.errstate(divide="ignore"):  # a model may forbid a level
        start = np.log(shares / shares.sum())
    weight = rules.weight + (1.0 - rules.weight) / max(len(names), 1)
    vertebra = weight * np.log(names) + np.log(presence)[:, None]
    return _Trellis(start, vertebra, np.log1p(-presence), moves)


def _upside_down(trellis: _Trellis) -> _Trellis:
    """From foot to head; a column may end at any level alike."""
    return _Trellis(
        start=np.zeros_like(trellis.start),
        vertebra=trellis.vertebra[::-1],
        nothing=trellis.nothing[::-1],
        moves=trellis.moves.transpose(1, 0, 3, 2)[::-1, ::-1],
    )


def _log_sum(scores: FloatArray) -> FloatArray:
    """Logarithm of the sum of exponentials along the first axis."""
    top = scores.max(axis=0)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):  # nothing adds up to nothing
        return np.asarray(np.log(np.exp(scores - top).sum(axis=0)) + top)


def _largest(scores: FloatArray) -> FloatArray:
    return np.asarray(scores.max(axis=0))


def _skipped(nothing: FloatArray, index: int) -> FloatArray:
    """Score of everything between each instance up to ``index`` and that one being nothing.

    Entry 0 stands for the head's end of the column, entry i + 1 for instance i.
    """
    return np.append(np.cumsum(nothing[:index][::-1])[::-1], 0.0)


def _arrivals(trellis: _Trellis, forward: FloatArray, index: int) -> FloatArray:
    """Scores of all ways to an instance: from the head's end, then from each earlier one and its level.

    Shape (1 + index * L, L).
    """
    skipped = _skipped(trellis.nothing, index)
    came = forward[:index, :, None] + trellis.moves[:index, index] + skipped[1:, None, None]
    return np.concatenate([(trellis.start + skipped[0])[None], came.reshape(-1, len(trellis.start))])


def _endings(trellis: _Trellis, forward: FloatArray) -> FloatArray:
    """Scores of all ways to end: without any vertebra, then with each instance and level as the last."""
    skipped = _skipped(trellis.nothing, len(forward))
    return np.append(skipped[0], (forward + skipped[1:, None]).ravel())


def _forward(trellis: _Trellis, pool: _Pool) -> tuple[FloatArray, float]:
    """Score of all sequences up to each instance and level, shape (n, L), and of all whole ones."""
    forward = np.empty_like(trellis.vertebra)
    for index, vertebra in enumerate(trellis.vertebra):
        forward[index] = vertebra + pool(_arrivals(trellis, forward, index))
    return forward, float(pool(_endings(trellis, forward)))


def _best(trellis: _Trellis) -> tuple[tuple[int | None, ...], float]:
    """Viterbi: level (or None) of each instance in the best sequence, and its score."""
    forward, score = _forward(trellis, _largest)
    best: list[int | None] = [None] * len(forward)
    came = int(_endings(trellis, forward).argmax())
    while came:
        index, level = divmod(came - 1, len(trellis.start))
        best[index] = level
        came = int(_arrivals(trellis, forward, index)[:, level].argmax())
    return tuple(best), score


def _mass(
    trellis: _Trellis, best: Sequence[int | None], allowed: Sequence[Sequence[bool]], total: float
) -> float:
    """Probability of the sequences with allowed levels wherever the best has a vertebra, and nowhere else."""
    taken = np.array([level is not None for level in best], dtype=bool)
    if not taken.any():
        return 0.0
    mask = np.reshape(np.array(allowed, dtype=bool), trellis.vertebra.shape) & taken[:, None]
    bound = replace(
        trellis,
        vertebra=np.where(mask, trellis.vertebra, -np.inf),
        nothing=np.where(taken, -np.inf, trellis.nothing),
    )
    return float(np.exp(_forward(bound, _log_sum)[1] - total))


def _doubts(
    named: NamedColumn, evidence: ColumnEvidence, model: ColumnModel, rules: NamingRules
) -> tuple[str, ...]:
    return find_doubts(
        named.labels,
        np.column_stack([named.marginals, named.absent]),
        (*model.levels, None),
        (named.shifted_up, named.shifted_down),
        evidence.presence,
        passed_over(named.labels, evidence.centres, model, rules),
        rules,
    )
