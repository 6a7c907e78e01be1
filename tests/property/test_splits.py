from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.dataset import Case
from autospine.splits import make_splits


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_division_is_complete_disjoint_and_by_patient(data):
    folds = data.draw(st.integers(2, 6))
    patients = data.draw(st.integers(folds, 20))
    owners = [*range(patients), *data.draw(st.lists(st.integers(0, patients - 1), max_size=30))]
    cases = [Case(f"c{i}", Path("x"), patient=f"p{owner}") for i, owner in enumerate(owners)]
    levels = {c.identifier: tuple(data.draw(st.sets(st.integers(1, 30), max_size=4))) for c in cases}
    splits = make_splits(cases, levels, folds, data.draw(st.integers(0, 5)))
    group = {c.identifier: c.group for c in cases}
    validated = [name for fold in splits.folds for name in fold.validation]
    assert sorted(validated) == sorted(group)
    assert len(splits.folds) == folds
    for fold in splits.folds:
        assert fold.validation
        assert set(fold.training) == set(group) - set(fold.validation)
        assert not {group[n] for n in fold.training} & {group[n] for n in fold.validation}
