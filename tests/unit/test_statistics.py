import numpy as np
import pytest

from autospine.core import anatomy
from autospine.vertebrae.statistics import ObservedColumn, learn_column

ALL = anatomy.COLUMN_LABELS
USUAL = tuple(name for name in anatomy.COLUMN if name not in ("T13", "L6"))


def label(name):
    return anatomy.label_of(name)


def column(names, pitch=30.0, **fields):
    """Vertebrae straight above each other."""
    return ObservedColumn({label(n): (0.0, 0.0, -pitch * i) for i, n in enumerate(names)}, **fields)


def succession(model, upper, lower):
    found = [s for s in model.successions if (s.upper, s.lower) == (label(upper), label(lower))]
    assert len(found) == 1
    return found[0]


def pairs(model):
    return {(anatomy.name_of(s.upper), anatomy.name_of(s.lower)) for s in model.successions}


def test_without_columns_the_usual_anatomy_is_known():
    model = learn_column([], ALL)
    assert model.levels == ALL
    assert pairs(model) == {
        (anatomy.name_of(u), anatomy.name_of(b)) for u in ALL for b in anatomy.successors(u)
    }
    assert succession(model, "C3", "C4").distance == pytest.approx(17, abs=1)
    assert succession(model, "L4", "L5").distance == pytest.approx(37, abs=1)
    assert {s.spread for s in model.successions} == {0.12}
    assert model.volumes == {}


@pytest.mark.parametrize(("upper", "rare"), [("T11", "L1"), ("T12", "T13"), ("L5", "L6")])
def test_rare_neighbours_have_a_few_percent(upper, rare):
    assert 0.01 < succession(learn_column([], ALL), upper, rare).probability < 0.08


def test_probabilities_below_a_level_sum_to_one_unless_the_column_may_end():
    model = learn_column([column(USUAL, 20)] * 5, ALL)
    for upper in ALL[:-2]:
        assert sum(s.probability for s in model.successions if s.upper == upper) == pytest.approx(1)
    assert succession(model, "L5", "L6").probability < 0.05


def test_counts_move_the_prior():
    seen = [column(("T11", "L1"))] * 10 + [column(("T11", "T12"))] * 10
    assert succession(learn_column(seen, ALL), "T11", "L1").probability == pytest.approx(10.3 / 30)
    six = [column(("L4", "L5", "L6"))] * 3 + [column(("L4", "L5"))] * 7
    assert succession(learn_column(six, ALL), "L5", "L6").probability == pytest.approx(3.5 / 20)


def test_a_cut_lowest_vertebra_does_not_show_the_sacrum():
    seen = [column(("L4", "L5"), cut=(label("L5"),))] * 7
    assert succession(learn_column(seen, ALL), "L5", "L6").probability == pytest.approx(0.05)


def test_scans_of_one_patient_count_once():
    scans = [column(("L1", "L2"), 30, patient="a")] * 9 + [column(("L1", "L2"), 40, patient="b")]
    found = succession(learn_column(scans, ALL), "L1", "L2")
    assert found.distance == pytest.approx(np.sqrt(30 * 40))


def test_distances_are_medians_and_spreads_are_drawn_to_the_usual_one():
    scans = [column(("L1", "L2"), pitch) for pitch in (28, 30, 44)]
    found = succession(learn_column(scans, ALL), "L1", "L2")
    assert found.distance == pytest.approx(30)
    assert 0.12 < found.spread < np.std(np.log([28, 30, 44]), ddof=1)
    alike = succession(learn_column([column(("L1", "L2"), 30)] * 500, ALL), "L1", "L2")
    assert alike.spread < 0.03


def test_gaps_in_the_annotation_teach_no_succession():
    far = learn_column([column(("T11", "L1"), 60)] * 20, ALL)
    assert succession(far, "T11", "L1").probability == pytest.approx(0.03)
    assert learn_column([column(("L1", "L3"), 60)] * 20, ALL) == learn_column([], ALL)


def test_cut_vertebrae_teach_neither_volume_nor_distance():
    whole, cut = label("L1"), label("L2")
    scan = column(("L1", "L2"), 20, volumes={whole: 50_000.0, cut: 9_000.0}, cut=(cut,))
    model = learn_column([scan], ALL)
    assert model.volumes == {whole: 50_000.0}
    assert succession(model, "L1", "L2").distance > 30


def test_levels_come_in_order_and_only_those_that_can_be_named():
    model = learn_column([column(USUAL, 20)], [label(n) for n in ("L1", "T12", "T11")])
    assert [anatomy.name_of(level) for level in model.levels] == ["T11", "T12", "L1"]
    assert pairs(model) == {("T11", "T12"), ("T12", "L1"), ("T11", "L1")}
    assert succession(model, "T12", "L1").probability == 1


def test_a_level_without_a_name_is_bridged():
    model = learn_column([], [label(n) for n in ("T3", "T4", "T6", "T7")])
    assert pairs(model) == {("T3", "T4"), ("T4", "T6"), ("T6", "T7")}
    bridge, single = succession(model, "T4", "T6"), succession(model, "T3", "T4")
    assert bridge.probability == 1
    assert bridge.distance == pytest.approx(2 * single.distance, rel=0.1)


def test_a_rare_level_is_rare_even_where_the_usual_one_has_no_name():
    model = learn_column([], [label(n) for n in ("T11", "T12", "T13")])
    assert succession(model, "T12", "T13").probability == pytest.approx(0.03)


def test_an_unknown_level_is_refused():
    with pytest.raises(KeyError):
        learn_column([], [27])
