from dataclasses import replace
from itertools import pairwise
from time import process_time

import numpy as np
import pytest

from autospine.core import anatomy
from autospine.core.column import ColumnModel
from autospine.vertebrae.sequence import ColumnEvidence, NamingRules, name_column
from autospine.vertebrae.statistics import learn_column

MODEL = learn_column([], anatomy.COLUMN_LABELS)
PITCH = {(s.upper, s.lower): s.distance for s in MODEL.successions}


def labels(text):
    return tuple(anatomy.label_of(name) for name in text.split())


def names(named):
    return " ".join("-" if label is None else anatomy.name_of(label) for label in named.labels)


def place(text):
    """Centres of a column with the usual distances."""
    column = labels(text)
    depths = np.cumsum([0.0, *(PITCH[pair] for pair in pairwise(column))])
    return np.column_stack([np.zeros(len(column)), np.zeros(len(column)), -depths])


def looks(text, sure=0.9):
    """Evidence for each instance; ``T12/L1`` looks like both."""
    rows = np.full((len(text.split()), len(MODEL.levels)), (1 - sure) / len(MODEL.levels))
    for row, word in zip(rows, text.split(), strict=True):
        for name in word.split("/"):
            row[MODEL.levels.index(anatomy.label_of(name))] += sure / len(word.split("/"))
    return rows


def evidence(seen, centres, presence=0.98, sure=0.9):
    found = looks(seen, sure)
    return ColumnEvidence(found, centres, np.broadcast_to(presence, len(found)).astype(float))


def test_a_clear_column_is_named_without_doubts():
    column = "T10 T11 T12 L1 L2 L3 L4 L5"
    named = name_column(evidence(column, place(column)), MODEL)
    assert names(named) == column
    assert named.doubts == ()
    assert named.marginals.max(axis=1).min() > 0.95
    assert named.shifted_up + named.shifted_down < 0.01
    assert named.log_probability <= named.log_total


def test_no_instances_make_an_empty_column():
    named = name_column(ColumnEvidence(np.zeros((0, 26)), np.zeros((0, 3)), np.zeros(0)), MODEL)
    assert (named.labels, named.doubts) == ((), ())
    assert (named.log_total, named.shifted_up) == (0, 0)
    assert named.marginals.shape == (0, 26)


def test_a_single_instance_is_named_by_its_evidence():
    named = name_column(evidence("L3", place("L3")), MODEL)
    assert names(named) == "L3"
    assert named.marginals[0, MODEL.levels.index(22)] == pytest.approx(0.9, abs=0.05)


def test_a_part_that_is_one_off_follows_the_rest():
    named = name_column(
        evidence("T9 T10 T11 L1 L2 L2 L3 L4 L5", place("T9 T10 T11 T12 L1 L2 L3 L4 L5")), MODEL
    )
    assert names(named) == "T9 T10 T11 T12 L1 L2 L3 L4 L5"


def test_mixed_evidence_is_resolved_by_the_neighbours():
    named = name_column(evidence("T12 T12/L1 L1/L2 L2/L3 L4", place("T12 L1 L2 L3 L4")), MODEL)
    assert names(named) == "T12 L1 L2 L3 L4"


@pytest.mark.parametrize(
    "column", ["T10 T11 T12 T13 L1 L2 L3", "T9 T10 T11 L1 L2 L3 L4", "L2 L3 L4 L5 L6", "T12 T13 L1 L2"]
)
def test_clear_evidence_names_rare_anatomy(column):
    assert names(name_column(evidence(column, place(column), sure=0.97), MODEL)) == column


def test_weak_evidence_does_not():
    column = "T9 T10 T11 T12 L1 L2 L3 L4 L5"
    seen = "T9 T10 T11 T12 T13/L1 L1/L2 L2/L3 L3/L4 L4/L5"
    assert names(name_column(evidence(seen, place(column)), MODEL)) == column
    assert "L6" not in names(name_column(evidence("L2 L3 L4 L5/L6", place("L2 L3 L4 L5")), MODEL))


def test_the_same_level_is_given_twice_only_to_parts_of_one_vertebra():
    centres = place("L1 L2 L3 L4")
    apart = evidence("L1 L2 L2 L3", centres)
    assert names(name_column(apart, MODEL)) in ("L1 L2 L3 L4", "T12 L1 L2 L3")
    parts = np.insert(centres, 2, centres[1] - [0, 0, 8], axis=0)
    named = name_column(evidence("L1 L2 L2 L3 L4", parts), MODEL)
    assert names(named) == "L1 L2 L2 L3 L4"
    assert "L2 was found in more than one part." in named.doubts


def test_a_vertebra_that_was_not_found_leaves_a_gap():
    centres = np.delete(place("T10 T11 T12 L1 L2 L3"), 3, axis=0)
    named = name_column(evidence("T10 T11 T12 L2 L3", centres), MODEL)
    assert names(named) == "T10 T11 T12 L2 L3"
    assert "Not found between its neighbours: L1." in named.doubts


def test_a_close_l1_means_that_there_is_no_t12_a_far_one_that_it_was_missed():
    close = name_column(evidence("T10 T11 L1 L2", place("T10 T11 L1 L2"), sure=0.97), MODEL)
    far = name_column(
        evidence("T10 T11 L1 L2", np.delete(place("T10 T11 T12 L1 L2"), 2, axis=0), sure=0.97), MODEL
    )
    assert names(close) == names(far) == "T10 T11 L1 L2"
    assert not any("T12" in doubt and "Not found" in doubt for doubt in close.doubts)
    assert "Not found between its neighbours: T12." in far.doubts


def test_something_unlikely_between_vertebrae_is_left_out():
    centres = np.insert(place("L1 L2 L3"), 1, [25.0, 30.0, -12.0], axis=0)
    named = name_column(evidence("L1 L2 L2 L3", centres, [0.98, 0.1, 0.98, 0.98]), MODEL)
    assert names(named) == "L1 - L2 L3"
    assert named.absent[1] > 0.9
    assert named.doubts == ()


def test_a_sure_vertebra_is_not_left_out_because_its_name_does_not_fit():
    seen = evidence("T10 T11 C3 L1 L2", place("T10 T11 T12 L1 L2"), presence=0.99)
    named = name_column(seen, MODEL)
    assert names(named) == "T10 T11 T12 L1 L2"
    assert named.absent.max() < 0.1


def test_leaving_out_what_looks_like_a_vertebra_is_a_doubt():
    centres = np.insert(place("L1 L2 L3"), 1, [60.0, 60.0, -12.0], axis=0)
    named = name_column(evidence("L1 C3 L2 L3", centres, [0.98, 0.55, 0.98, 0.98]), MODEL)
    assert names(named) == "L1 - L2 L3"
    assert "Something between L1 and L2 was left out, but may be a vertebra." in named.doubts


def test_a_column_that_could_be_one_level_off_says_so():
    column = place("T5 T6 T7 T8")
    named = name_column(evidence("T5/T6 T6/T7 T7/T8 T8/T9", column), MODEL)
    assert max(named.shifted_up, named.shifted_down) > 0.3
    assert any(doubt.startswith("The whole column may be one level") for doubt in named.doubts)
    assert any("is uncertain" in doubt for doubt in named.doubts)


def test_nothing_stands_above_c1_and_below_l6():
    top = name_column(evidence("C1 C2 C3", place("C1 C2 C3")), MODEL)
    bottom = name_column(evidence("L4 L5 L6", place("L4 L5 L6"), sure=0.99), MODEL)
    assert (names(top), top.shifted_up) == ("C1 C2 C3", 0)
    assert (names(bottom), bottom.shifted_down) == ("L4 L5 L6", 0)


def test_only_levels_of_the_model_are_given():
    model = learn_column([], labels("L1 L2 L3 L4 L5"))
    found = ColumnEvidence(np.full((5, 5), 0.2), place("L1 L2 L3 L4 L5"), np.full(5, 0.99))
    assert names(name_column(found, model)) == "L1 L2 L3 L4 L5"


def test_a_succession_may_be_forbidden():
    successions = tuple(replace(s, probability=0.0) if s.lower == 26 else s for s in MODEL.successions)
    model = replace(MODEL, successions=successions)
    column = "T11 T12 T13 L1 L2"
    named = name_column(evidence(column, place(column), sure=0.99), model)
    assert "T13" not in names(named)
    assert named.marginals[:, model.levels.index(26)].max() == 0


def test_evidence_may_be_anything_finite():
    found = ColumnEvidence(np.zeros((3, 26)), np.zeros((3, 3)), np.array([0.0, 1.0, 1.0]))
    named = name_column(found, MODEL)
    assert np.isfinite(named.log_total)
    assert named.marginals.sum(axis=1) + named.absent == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong", [{"names": np.ones((2, 25))}, {"centres": np.ones((2, 2))}, {"presence": np.ones(3)}]
)
def test_shapes_must_agree(wrong):
    found = ColumnEvidence(np.ones((2, 26)) / 26, np.zeros((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="does not fit a model of 26 levels"):
        name_column(replace(found, **wrong), MODEL)


def test_a_model_without_levels_is_refused():
    with pytest.raises(ValueError, match="0 levels"):
        name_column(ColumnEvidence(np.zeros((1, 0)), np.zeros((1, 3)), np.ones(1)), ColumnModel((), ()))


def test_evidence_weighs_as_the_rules_say():
    found = evidence("T5 T6", place("T5 T6"))
    deaf = name_column(found, MODEL, NamingRules(weight=-1.0))  # two instances: the mean weight is 0
    assert deaf.marginals.max() < 0.1


def test_a_long_column_takes_milliseconds():
    column = " ".join(name for name in anatomy.COLUMN if name not in ("T13", "L6"))
    found = evidence(column, place(column))
    name_column(found, MODEL)
    start = process_time()
    name_column(found, MODEL)
    assert process_time() - start < 0.5
