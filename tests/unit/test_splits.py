from pathlib import Path

import pytest

from autospine.core.dataset import Case
from autospine.core.errors import UsageError
from autospine.splits import make_splits

CERVICAL, LUMBAR = (1, 2, 3, 4), (20, 21, 22, 23, 24)


def case(name: str, patient: str = "") -> Case:
    return Case(name, Path(f"{name}_0000.nii.gz"), Path(f"{name}.nii.gz"), patient)


def count(part, levels, wanted):
    return sum(wanted <= set(levels[name]) for name in part)


def test_every_case_validates_once_and_trains_otherwise():
    cases = [case(f"c{i}") for i in range(13)]
    splits = make_splits(cases, {})
    names = sorted(c.identifier for c in cases)
    assert sorted(name for fold in splits.folds for name in fold.validation) == names
    for fold in splits.folds:
        assert sorted(fold.training + fold.validation) == names
    sizes = [len(fold.validation) for fold in splits.folds]
    assert max(sizes) - min(sizes) <= 1


def test_patients_stay_together():
    cases = [case(f"c{i}", f"patient{i // 3}") for i in range(18)]
    patient = {c.identifier: c.patient for c in cases}
    for fold in make_splits(cases, {}, folds=3).folds:
        assert not {patient[c] for c in fold.training} & {patient[c] for c in fold.validation}


def test_regions_are_spread_evenly():
    levels = {f"n{i:02}": CERVICAL for i in range(10)} | {f"w{i:02}": LUMBAR for i in range(30)}
    splits = make_splits([case(name) for name in levels], levels)
    for fold in splits.folds:
        assert count(fold.validation, levels, set(CERVICAL)) == 2
        assert count(fold.validation, levels, set(LUMBAR)) == 6


@pytest.mark.parametrize(
    "rare", [(18, 19, 26, 20), (*LUMBAR, 25), (17, 18, 20, 21)], ids=["T13", "L6", "missing T12"]
)
def test_rare_anatomy_is_never_gathered_in_one_fold(rare):
    usual = (17, 18, 19, 20, 21, 22, 23, 24)
    levels = {f"c{i:02}": rare if i < 5 else usual for i in range(30)}
    splits = make_splits([case(name) for name in levels], levels)
    assert [sum(levels[name] == rare for name in fold.validation) for fold in splits.folds] == [1] * 5


def test_the_order_of_the_cases_does_not_matter_but_the_seed_does():
    cases = [case(f"c{i:02}") for i in range(20)]
    assert make_splits(cases, {}) == make_splits(cases[::-1], {})
    assert make_splits(cases, {}) != make_splits(cases, {}, seed=1)


def test_as_many_patients_as_folds_leave_no_fold_empty():
    cases = [case(f"c{i}", f"p{i // 4}") for i in range(8)] + [case("x"), case("y"), case("z")]
    splits = make_splits(cases, {"x": LUMBAR, "y": LUMBAR, "z": LUMBAR}, folds=5)
    assert all(fold.validation for fold in splits.folds)


def test_labels_that_are_no_vertebrae_are_balanced_too():
    levels = {f"c{i}": (1, 40) if i % 2 else (1,) for i in range(8)}
    splits = make_splits([case(name) for name in levels], levels, folds=2)
    assert [count(fold.validation, levels, {40}) for fold in splits.folds] == [2, 2]


def test_too_few_patients_are_refused_with_a_remedy():
    cases = [case("a", "p"), case("b", "p"), case("c", "q")]
    with pytest.raises(UsageError) as caught:
        make_splits(cases, {}, folds=3)
    assert "--split 2" in caught.value.remedy
    with pytest.raises(UsageError, match="1 folds"):
        make_splits(cases, {}, folds=1)
    with pytest.raises(UsageError, match="0 patients"):
        make_splits([], {})
