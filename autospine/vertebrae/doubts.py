"""Why a person should look again at how a column was named: short sentences for whoever checks the mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from autospine.core import anatomy
from autospine.core.geometry import FloatArray
from autospine.vertebrae.transitions import NamingRules


def find_doubts(
    labels: Sequence[int | None],
    probabilities: FloatArray,
    choices: Sequence[int | None],
    shifts: tuple[float, float],
    presence: FloatArray,
    passed: Sequence[int],
    rules: NamingRules,
) -> tuple[str, ...]:
    """Reasons for a second look, the gravest first; empty when there is none.

    Args:
        labels: Anatomical label of each instance, from head to foot; None where it was taken for nothing.
        probabilities: Of each choice; shape (n, number of choices).
        choices: What the columns of ``probabilities`` stand for: labels, and None for nothing.
        shifts: Probability that everything is truly one level higher, and one level lower.
        presence: Probability that each instance is a vertebra, before the column was considered; shape (n,).
        passed: Labels of vertebrae that should have been found between others but were not.
        rules: What counts as sure.
    """
    found = (
        *_shifted(shifts, rules),
        *_least_sure(labels, probabilities, choices, rules),
        *_passed(passed),
        *_doubled(labels),
        *_left_out(labels, probabilities[:, choices.index(None)], presence, rules),
    )
    return tuple(dict.fromkeys(found))  # nobody reads the same sentence twice


def _shifted(shifts: tuple[float, float], rules: NamingRules) -> Iterator[str]:
    for probability, way in zip(shifts, ("higher", "lower"), strict=True):
        if probability > rules.shift:
            yield f"The whole column may be one level {way} than named ({_percent(probability)})."


def _least_sure(
    labels: Sequence[int | None],
    probabilities: FloatArray,
    choices: Sequence[int | None],
    rules: NamingRules,
) -> Iterator[str]:
    """The least certain vertebra stands for its neighbours, too: they are unsure for the same reason."""
    own = np.array([row[choices.index(label)] for label, row in zip(labels, probabilities, strict=True)])
    named = [index for index, label in enumerate(labels) if label is not None and own[index] < rules.sure]
    if named:
        least = min(named, key=lambda index: own[index])
        name, rest = _name(labels[least]), probabilities[least].copy()
        rest[choices.index(labels[least])] = 0.0
        other = choices[int(rest.argmax())]
        instead = f"{_name(other)} ({_percent(rest.max())})"
        yield f"{name} is uncertain ({_percent(own[least])}); it may be {instead}."


def _passed(passed: Sequence[int]) -> Iterator[str]:
    if passed:
        names = ", ".join(_name(label) for label in passed)
        yield f"Not found between its neighbours: {names}."


def _doubled(labels: Sequence[int | None]) -> Iterator[str]:
    taken = [label for label in labels if label is not None]
    for label in dict.fromkeys(upper for upper, lower in pairwise(taken) if upper == lower):
        yield f"{_name(label)} was found in more than one part."


def _left_out(
    labels: Sequence[int | None], absent: FloatArray, presence: FloatArray, rules: NamingRules
) -> Iterator[str]:
    for index, label in enumerate(labels):
        if label is None and (presence[index] >= 0.5 or absent[index] < rules.sure):
            yield f"Something {_where(labels, index)} was left out, but may be a vertebra."


def _where(labels: Sequence[int | None], index: int) -> str:
    above = [label for label in labels[:index] if label is not None][-1:]
    below = [label for label in labels[index:] if label is not None][:1]
    if above and below:
        return f"between {_name(above[0])} and {_name(below[0])}"
    return f"below {_name(above[0])}" if above else f"above {_name(below[0])}" if below else "in view"


def _name(label: int | None) -> str:
    return "no vertebra" if label is None else anatomy.name_of(label)


def _percent(probability: float) -> str:
    return f"{100 * probability:.0f} %"
