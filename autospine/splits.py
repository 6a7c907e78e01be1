"""Which cases train and which validate in each fold of the cross-validation."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from autospine.core import anatomy
from autospine.core.dataset import Case
from autospine.core.errors import UsageError

_T11: Final = anatomy.label_of("T11")
_T12: Final = anatomy.label_of("T12")
_L1: Final = anatomy.label_of("L1")


@dataclass(frozen=True)
class Fold:
    """Identifiers of the cases that train and of those that validate, each ascending."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """The folds of a cross-validation; every case validates in exactly one."""

    folds: tuple[Fold, ...]


def make_splits(
    cases: Sequence[Case], levels: Mapping[str, tuple[int, ...]], folds: int = 5, seed: int = 12345
) -> Splits:
    """Divide cases into folds that never share a patient and see alike anatomy.

    Patients are dealt out one by one, those with the rarest anatomy first, each to the fold that it
    leaves best balanced: the fold where the sum, over features, of squared shares of what is already
    there grows least. Features are every level, the regions, a missing T12, and the mere case.

    Args:
        cases: The training cases.
        levels: Labels present in each case's mask, by identifier; a case without an entry has none.
        folds: Number of folds, at least 2.
        seed: Decides between patients of equal rarity.

    Raises:
        UsageError: There are fewer than 2 folds, or fewer patients than folds.
    """
    groups: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.identifier):
        groups.setdefault(case.group, []).append(case)
    _require_enough(len(groups), folds)
    features = {
        group: sum((_features(levels.get(case.identifier, ())) for case in members), Counter[str]())
        for group, members in groups.items()
    }
    parts = _deal(features, folds, seed)
    validation = [{case.identifier for group in part for case in groups[group]} for part in parts]
    everything = {case.identifier for case in cases}
    return Splits(tuple(Fold(tuple(sorted(everything - part)), tuple(sorted(part))) for part in validation))


def _require_enough(patients: int, folds: int) -> None:
    if folds < 2:
        raise UsageError(
            f"A cross-validation with {folds} folds is impossible.", remedy="Choose --split 2 or more."
        )
    if patients < folds:
        remedy = f"Choose --split {patients}." if patients >= 2 else "Add cases of other patients."
        raise UsageError(
            f"There are {patients} patients for {folds} folds; every fold needs one of its own.",
            remedy=remedy,
        )


def _features(present: Sequence[int]) -> Counter[str]:
    """What a case contributes to a fold, each feature once."""
    vertebrae = {label for label in present if label in anatomy.COLUMN_LABELS}
    found = {"case"} | {f"level {label}" for label in present}
    found |= {anatomy.region_of(label) for label in vertebrae}
    if {_T11, _L1} <= vertebrae and _T12 not in vertebrae:
        found.add("missing T12")
    return Counter(found)


def _deal(features: Mapping[str, Counter[str]], folds: int, seed: int) -> list[list[str]]:
    totals = sum(features.values(), Counter[str]())
    order = sorted(features)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: (min(totals[f] for f in features[group]), -features[group].total()))
    parts: list[list[str]] = [[] for _ in range(folds)]
    filled = [Counter[str]() for _ in range(folds)]
    for position, group in enumerate(order):
        empty = [k for k in range(folds) if not parts[k]]
        open_folds = empty if len(order) - position == len(empty) else range(folds)
        costs = {k: _growth(filled[k], features[group], totals) for k in open_folds}
        chosen = min(costs, key=lambda k: (costs[k], k))
        parts[chosen].append(group)
        filled[chosen] += features[group]
    return parts


def _growth(filled: Counter[str], added: Counter[str], totals: Counter[str]) -> float:
    """By how much the sum of squared shares grows when ``added`` joins a fold."""
    return sum((n * n + 2 * n * filled[feature]) / totals[feature] ** 2 for feature, n in added.items())
