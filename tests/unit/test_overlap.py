from __future__ import annotations

import numpy as np
import pytest

from autospine.core.errors import LabelError
from autospine.evaluation.overlap import Overlap, overlaps


def line(*values):
    return np.array(values).reshape(1, 1, -1)


def test_counts_of_each_label():
    found = overlaps(line(1, 1, 2, 0, 0), line(1, 2, 2, 2, 0), [1, 2, 3])
    assert found == {1: Overlap(1, 2, 1), 2: Overlap(1, 1, 3)}


@pytest.mark.parametrize(
    ("overlap", "dice"),
    [(Overlap(5, 5, 5), 1), (Overlap(0, 3, 4), 0), (Overlap(2, 4, 4), 0.5), (Overlap(0, 0, 9), 0)],
)
def test_dice(overlap, dice):
    assert overlap.dice == dice


def test_a_label_in_neither_mask_has_no_dice():
    with pytest.raises(ZeroDivisionError):
        _ = Overlap(0, 0, 0).dice


def test_ignored_voxels_count_for_neither_mask():
    found = overlaps(line(1, 1, 1, 9), line(1, 9, 9, 9), [1], ignore=9)
    assert found == {1: Overlap(1, 1, 1)}


def test_labels_not_asked_for_count_as_background():
    assert overlaps(line(7, 7, 1), line(1, 7, 7), [1]) == {1: Overlap(0, 1, 1)}


def test_empty_masks_have_no_labels():
    assert overlaps(line(0, 0), line(0, 0), [1, 2]) == {}


@pytest.mark.parametrize("value", [-1, 70000])
def test_impossible_values_are_refused(value):
    with pytest.raises(LabelError, match=str(value)):
        overlaps(line(0, value), line(1, 1), [1])


def test_masks_of_different_integer_types_compare():
    prediction, reference = line(1, 2).astype(np.uint8), line(1, 2).astype(np.int32)
    assert overlaps(prediction, reference, [1, 2])[2].dice == 1
