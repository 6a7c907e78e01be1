import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autospine.core import anatomy
from autospine.evaluation.identification import (
    centre_distances,
    level_offsets,
    nearest_references,
    official_hits,
    shift,
    strict_hits,
)

IDS = 28

# Multiples of 5 mm make many distances equal, and many exactly 20 mm; arbitrary ones make none.
coarse = st.tuples(*[st.integers(-6, 6).map(lambda step: 5.0 * step)] * 3)
fine = st.tuples(*[st.floats(-40, 40)] * 3)
unknown = st.just((float("nan"),) * 3)
centres = st.dictionaries(st.sampled_from(anatomy.COLUMN_LABELS), coarse | fine | unknown, max_size=9)
known_centres = st.dictionaries(st.sampled_from(anatomy.COLUMN_LABELS), coarse | fine, max_size=9)
labels = st.sampled_from(anatomy.COLUMN_LABELS)


def by_id(positions):
    """28 rows by VerSe's id - 1; a row of NaN stands for a vertebra that is absent."""
    rows = np.full((IDS, 3), np.nan)
    for label, position in positions.items():
        rows[anatomy.to_verse(label) - 1] = position
    return rows


def described_hits(truth, predicted):
    """The organisers' rule, written down row by row from its description."""
    present = [
        row for row in range(IDS) if not np.isnan(truth[row]).any() and not np.isnan(predicted[row]).any()
    ]
    hits = []
    for row in present:
        distances = [np.sqrt(np.sum((predicted[row] - truth[other]) ** 2)) for other in present]
        first_smallest = present[distances.index(min(distances))]
        if first_smallest == row and not distances[present.index(row)] > 20:
            hits.append(row + 1)
    return hits


@given(centres, centres)
def test_official_hits_are_those_of_the_description(reference, prediction):
    hits = official_hits(reference, prediction)
    assert sorted(map(anatomy.to_verse, hits)) == described_hits(by_id(reference), by_id(prediction))


@given(centres, centres)
def test_strict_hits_are_those_of_the_description_with_all_references_predicted(reference, prediction):
    truth, rows = by_id(reference), by_id(prediction)
    expected = []
    for row in range(IDS):
        if np.isnan(truth[row]).any() or np.isnan(rows[row]).any():
            continue
        # Where the others were predicted does not matter, only that they were.
        others = truth.copy()
        others[row] = rows[row]
        if row + 1 in described_hits(truth, others):
            expected.append(row + 1)
    assert sorted(map(anatomy.to_verse, strict_hits(reference, prediction))) == expected


@given(centres, centres)
def test_strict_hits_are_official_ones(reference, prediction):
    assert strict_hits(reference, prediction) <= official_hits(reference, prediction)
    assert official_hits(reference, prediction) <= reference.keys() & prediction.keys()


@given(centres, centres, known_centres)
def test_false_positives_never_change_the_hits(reference, prediction, extra):
    more = {label: position for label, position in extra.items() if label not in reference} | prediction
    assert official_hits(reference, more) == official_hits(reference, prediction)
    assert strict_hits(reference, more) == strict_hits(reference, prediction)


@given(known_centres)
def test_the_truth_hits_everything_that_does_not_coincide(reference):
    if len(set(reference.values())) == len(reference):
        assert strict_hits(reference, reference) == reference.keys()
        if reference:
            assert shift(reference, reference).offset == 0


@given(centres, centres)
def test_the_best_shift_explains_at_least_what_no_shift_explains(reference, prediction):
    best = shift(reference, prediction)
    assert best.hits >= len(strict_hits(reference, prediction))
    assert best.hits <= len(set(nearest_references(reference, prediction).values()))
    assert (best.offset is None) == (best.hits == 0)


@given(known_centres, known_centres)
def test_distances_are_symmetric(reference, prediction):
    forth, back = centre_distances(reference, prediction), centre_distances(prediction, reference)
    assert forth == back


@given(labels, labels)
def test_level_offsets_are_antisymmetric_and_never_empty(one, other):
    there = level_offsets(one, other)
    assert there
    assert there == {-offset for offset in level_offsets(other, one)}
    assert (0 in there) == (one == other)
