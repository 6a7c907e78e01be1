from __future__ import annotations

import numpy as np
import pytest

from autospine.core.ensemble import PostProcessing
from autospine.evaluation.overlap import Overlap, overlaps
from autospine.postprocessing import apply, choose, variants


def line(*values):
    return np.array(values, np.uint8).reshape(1, 1, -1)


def test_the_largest_component_of_a_label():
    labels = line(1, 1, 0, 1, 0, 2, 0, 2, 2)
    np.testing.assert_array_equal(apply(labels, PostProcessing(labels=(1,))), line(1, 1, 0, 0, 0, 2, 0, 2, 2))
    np.testing.assert_array_equal(
        apply(labels, PostProcessing(labels=(1, 2))), line(1, 1, 0, 0, 0, 0, 0, 2, 2)
    )


def test_the_largest_component_of_all_labels_as_one():
    labels = line(1, 1, 0, 1, 2, 2, 0, 2)
    found = apply(labels, PostProcessing(foreground=True))
    np.testing.assert_array_equal(found, line(0, 0, 0, 1, 2, 2, 0, 0))


def test_foreground_comes_before_the_labels():
    labels = line(1, 1, 1, 0, 2, 2, 2, 2, 1)
    found = apply(labels, PostProcessing(foreground=True, labels=(1,)))
    np.testing.assert_array_equal(found, line(0, 0, 0, 0, 2, 2, 2, 2, 1))


def test_corners_connect_and_equal_sizes_are_all_kept():
    labels = np.zeros((2, 2, 6), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[0, 0, 4] = labels[0, 0, 5] = 3
    np.testing.assert_array_equal(apply(labels, PostProcessing(True, (3,))), labels)


def test_nothing_to_do():
    empty = line(0, 0, 0)
    np.testing.assert_array_equal(apply(empty, PostProcessing(True, (1, 2))), empty)
    labels = line(1, 0, 1, 1)
    result = apply(labels, PostProcessing())
    np.testing.assert_array_equal(result, labels)
    assert result is not labels


def test_variants_keep_their_order():
    plain, whole, each, both = variants(line(1, 1, 1, 0, 2, 2, 2, 2, 1), [1, 2])
    np.testing.assert_array_equal(plain, line(1, 1, 1, 0, 2, 2, 2, 2, 1))
    np.testing.assert_array_equal(whole, line(0, 0, 0, 0, 2, 2, 2, 2, 1))
    np.testing.assert_array_equal(each, line(1, 1, 1, 0, 2, 2, 2, 2, 0))
    np.testing.assert_array_equal(both, line(0, 0, 0, 0, 2, 2, 2, 2, 1))


def counts(**dice):
    """Voxel counts with the given Dice in per cent, ``counts(v1=80)``."""
    return {int(name[1:]): Overlap(value, 100, 100) for name, value in dice.items()}


def case(plain, whole=None, each=None, both=None):
    return plain, whole or plain, each or plain, both or whole or each or plain


def test_foreground_is_accepted_when_the_mean_rises_and_no_label_falls():
    choice, kept = choose([case(counts(v1=80, v2=70), whole=counts(v1=80, v2=71))])
    assert choice == PostProcessing(foreground=True)
    assert kept == [counts(v1=80, v2=71)]


@pytest.mark.parametrize("whole", [counts(v1=80, v2=70), counts(v1=99, v2=69)])
def test_foreground_is_refused_when_nothing_rises_or_a_label_falls(whole):
    assert choose([case(counts(v1=80, v2=70), whole, each=counts(v1=80, v2=70))])[0] == PostProcessing()


def test_each_label_decides_for_itself():
    choice, kept = choose([case(counts(v1=80, v2=70), each=counts(v1=75, v2=90))])
    assert choice == PostProcessing(labels=(2,))
    assert kept == [counts(v1=80, v2=90)]


def test_labels_are_judged_after_the_foreground():
    plain, whole = counts(v1=80, v2=70), counts(v1=80, v2=75)
    choice, _ = choose([case(plain, whole, each=counts(v1=90, v2=90), both=counts(v1=80, v2=76))])
    assert choice == PostProcessing(foreground=True, labels=(2,))


def test_a_labels_dice_is_the_mean_over_the_cases_that_show_it():
    cases = [
        case(counts(v1=80), each=counts(v1=70)),
        case(counts(v1=80, v2=50), each=counts(v1=95, v2=40)),
    ]
    assert choose(cases)[0] == PostProcessing(labels=(1,))


def test_removing_false_positives_helps():
    """A label that the reference does not show has Dice 0 until it is gone."""
    spurious = {2: Overlap(0, 5, 0)}
    cases = [case(counts(v1=80) | spurious, whole=counts(v1=80)), case(counts(v1=90, v2=90))]
    assert choose(cases)[0].foreground


def test_a_label_may_vanish_where_voxels_are_ignored():
    """The largest component lies in the ignored region, the one that is scored goes."""
    prediction, reference = line(1, 0, 1, 1), line(0, 0, 9, 9)
    case_counts = [overlaps(variant, reference, [1], ignore=9) for variant in variants(prediction, [1])]
    assert choose([case_counts]) == (PostProcessing(), [{1: Overlap(0, 1, 0)}])


def test_no_case_shows_a_label():
    assert choose([({}, {}, {}, {})]) == (PostProcessing(), [{}])


def test_the_rule_finds_what_helps_on_masks():
    """Debris far away: per label it helps, and taken as one it helps no label less."""
    reference = np.zeros((3, 8, 20), np.uint8)
    reference[:, :4, :6], reference[:, :4, 6:12] = 1, 2
    noisy = reference.copy()
    noisy[0, 7, 19] = 1
    cases = [[overlaps(v, reference, [1, 2]) for v in variants(noisy, [1, 2])]]
    choice, kept = choose(cases)
    assert choice == PostProcessing(foreground=True)
    assert [overlap.dice for overlap in kept[0].values()] == [1, 1]
    np.testing.assert_array_equal(apply(noisy, choice), reference)
