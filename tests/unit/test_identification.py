import math

import pytest

from autospine.core import anatomy
from autospine.evaluation.identification import (
    Shift,
    centre_distances,
    finite_centres,
    level_offsets,
    mean_localisation_error,
    nearest_references,
    official_hits,
    shift,
    strict_hits,
)

T10, T11, T12, L1, L2, L3, L4, L5 = 17, 18, 19, 20, 21, 22, 23, 24
T13 = 26
T9_TO_L5 = (16, 17, 18, 19, 20, 21, 22, 23, 24)


def column(labels, pitch=30.0, offset=(0.0, 0.0, 0.0)):
    """Centres below each other, ``pitch`` mm apart, moved by ``offset``."""
    x, y, z = offset
    return {label: (x, y, z - pitch * step) for step, label in enumerate(labels)}


def on_a_line(**heights):
    return {anatomy.label_of(name): (0.0, 0.0, float(z)) for name, z in heights.items()}


def test_a_missed_neighbour_cannot_steal_by_the_official_rule():
    reference = on_a_line(L1=0, L2=-30)
    displaced = on_a_line(L1=-19)
    assert official_hits(reference, displaced) == {L1}
    assert strict_hits(reference, displaced) == set()
    assert official_hits(reference, displaced | on_a_line(L2=-30)) == {L2}


def test_false_positive_labels_cost_nothing_and_are_never_hits():
    reference = column((L1, L2))
    extra = reference | {L3: reference[L2], 5: (0.0, 0.0, 0.0)}
    assert official_hits(reference, extra) == strict_hits(reference, extra) == {L1, L2}


def test_a_scan_named_one_level_wrong_has_no_hits():
    reference = column(T9_TO_L5)
    for by in (-1, 1):
        called = {label + by: position for label, position in reference.items()}
        assert official_hits(reference, called) == strict_hits(reference, called) == set()
        assert shift(reference, called) == Shift(by, 9)


def test_a_short_pitch_leaves_a_shifted_scan_one_official_hit_at_its_end():
    reference = column(T9_TO_L5, pitch=14)
    called_too_high = {label - 1: position for label, position in reference.items()}
    assert official_hits(reference, called_too_high) == {L4}
    assert strict_hits(reference, called_too_high) == set()


def test_a_uniform_offset_across_the_column_keeps_all_hits():
    labels = T9_TO_L5[:7]
    reference, behind = column(labels, pitch=14), column(labels, pitch=14, offset=(0.0, 10.0, 0.0))
    assert official_hits(reference, behind) == strict_hits(reference, behind) == set(labels)


def test_exactly_twenty_millimetres_is_a_hit_and_more_is_none():
    reference = on_a_line(L1=0)
    assert official_hits(reference, on_a_line(L1=-20)) == strict_hits(reference, on_a_line(L1=-20)) == {L1}
    further = {L1: (0.0, 0.0, math.nextafter(20.0, 21.0))}
    assert official_hits(reference, further) == strict_hits(reference, further) == set()


def test_of_equally_close_references_the_lowest_label_wins():
    reference = {L2: (0.0, 0.0, -10.0), L1: (0.0, 0.0, 10.0)}
    between = {L2: (0.0, 0.0, 0.0), L1: (0.0, 0.0, 0.0)}
    assert official_hits(reference, between) == strict_hits(reference, between) == {L1}


def test_t13_comes_last_among_equals_as_its_id_28_does():
    reference = {T13: (0.0, 0.0, 10.0), L1: (0.0, 0.0, -10.0)}
    assert official_hits(reference, dict.fromkeys((T13, L1), (0.0, 0.0, 0.0))) == {L1}


@pytest.mark.parametrize("hits", [official_hits, strict_hits])
def test_nothing_predicted_or_nothing_there_is_no_hit(hits):
    assert hits(column((L1, L2)), {}) == set()
    assert hits({}, column((L1, L2))) == set()
    assert hits({}, {}) == set()


def test_positions_that_are_not_finite_are_absent():
    unknown = (math.nan, 0.0, 0.0)
    reference = on_a_line(L1=0, L3=-60) | {L2: unknown}
    prediction = on_a_line(L1=0, L2=-30) | {L3: unknown}
    assert list(finite_centres(reference)) == [L1, L3]
    assert official_hits(reference, prediction) == strict_hits(reference, prediction) == {L1}
    assert centre_distances(reference, prediction) == {L1: 0}


def test_nearest_references_lie_within_reach():
    reference = on_a_line(L1=0, L2=-30)
    assert nearest_references(reference, on_a_line(L3=-31, L4=-60, T12=14)) == {L3: L2, T12: L1}


def test_distances_are_of_the_labels_in_both():
    reference, prediction = on_a_line(L1=0, L2=-30, L3=-60), on_a_line(L1=-3, L2=-26, L5=0)
    assert centre_distances(reference, prediction) == {L1: 3, L2: 4}
    assert mean_localisation_error(reference, prediction) == 3.5
    assert mean_localisation_error(reference, on_a_line(L5=0)) is None


@pytest.mark.parametrize(
    ("called", "true", "offsets"),
    [
        (L1, L1, {0}),
        (L2, L1, {1}),
        (L1, L2, {-1}),
        (T13, T12, {1}),
        (L1, T13, {1}),
        (L1, T12, {1, 2}),
        (L1, T11, {1, 2, 3}),
        (T11, L1, {-1, -2, -3}),
        (25, 24, {1}),
        (1, 2, {-1}),
    ],
)
def test_levels_are_counted_as_anatomy_allows(called, true, offsets):
    assert level_offsets(called, true) == offsets


def test_a_shift_across_the_thoracolumbar_junction_is_one_level():
    reference = column((T11, T12, L1, L2))
    assert shift(reference, column((T12, L1, L2, L3))) == Shift(1, 4)
    assert shift(reference, column((T10, T11, T12, L1))) == Shift(-1, 4)


def test_an_overlooked_t13_shifts_only_what_lies_below():
    reference = column((T11, T12, T13, L1, L2, L3, L4))
    assert shift(reference, column((T11, T12, L1, L2, L3, L4, L5))) == Shift(1, 5)
    assert shift(reference, column((T10, T11, T12, L1, L2, L3, L4))) == Shift(0, 4)


def test_a_missing_t12_is_no_shift():
    labels = (T10, T11, L1, L2)
    assert shift(column(labels), column(labels)) == Shift(0, 4)


def test_a_shift_that_nothing_shows_is_none():
    assert shift(column((L1, L2)), column((L1, L2), offset=(100.0, 0.0, 0.0))) == Shift(None, 0)
    assert shift({}, {}) == Shift(None, 0)


def test_the_smaller_of_two_equally_good_shifts_wins():
    reference = on_a_line(L1=0, L3=-60)
    assert shift(reference, on_a_line(L1=0, L5=-60)) == Shift(0, 1)


def test_a_vertebra_found_twice_counts_once():
    reference = on_a_line(T12=0)
    assert shift(reference, {T13: (0.0, 0.0, 1.0), L1: (0.0, 0.0, -1.0)}) == Shift(1, 1)
