from itertools import pairwise

import pytest

from autospine.core import anatomy


def test_labels_are_verse_s_except_t13():
    named = {"C1": 1, "C7": 7, "T1": 8, "T12": 19, "L1": 20, "L5": 24, "L6": 25, "T13": 26}
    assert {name: anatomy.label_of(name) for name in named} == named


def test_labels_are_consecutive_and_unique():
    assert sorted(anatomy.COLUMN_LABELS) == list(range(1, 27))


def test_names_and_labels_are_inverse():
    assert [anatomy.name_of(anatomy.label_of(name)) for name in anatomy.COLUMN] == list(anatomy.COLUMN)


def test_rank_follows_the_column_not_the_number():
    in_between = [anatomy.rank_of(anatomy.label_of(name)) for name in ("T12", "T13", "L1")]
    assert in_between == [18, 19, 20]
    assert anatomy.rank_of(1) == 0


@pytest.mark.parametrize(
    ("label", "region"), [(1, "cervical"), (8, "thoracic"), (26, "thoracic"), (25, "lumbar")]
)
def test_region(label, region):
    assert anatomy.region_of(label) == region


@pytest.mark.parametrize("label", [0, 27, -1])
def test_what_is_no_vertebra_has_no_name_rank_or_verse_id(label):
    for lookup in (anatomy.name_of, anatomy.rank_of, anatomy.to_verse, anatomy.successors):
        with pytest.raises(KeyError):
            lookup(label)


@pytest.mark.parametrize(
    ("verse_id", "label"), [(1, 1), (25, 25), (28, 26), (26, None), (27, None), (0, None), (29, None)]
)
def test_from_verse(verse_id, label):
    assert anatomy.from_verse(verse_id) == label


def test_verse_ids_survive_the_round_trip():
    assert [anatomy.from_verse(anatomy.to_verse(label)) for label in range(1, 27)] == list(range(1, 27))
    assert anatomy.to_verse(anatomy.T13) == 28


def test_the_usual_column_is_a_chain_of_successors():
    usual = [anatomy.label_of(name) for name in anatomy.COLUMN if name not in ("T13", "L6")]
    assert all(below in anatomy.successors(above) for above, below in pairwise(usual))


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("C1", ["C2"]),
        ("T11", ["T12", "L1"]),
        ("T12", ["L1", "T13"]),
        ("T13", ["L1"]),
        ("L5", ["L6"]),
        ("L6", []),
    ],
)
def test_successors_know_the_variants(name, below):
    found = [anatomy.name_of(label) for label in anatomy.successors(anatomy.label_of(name))]
    assert found == below


def test_nobody_stands_above_the_atlas():
    assert not any(anatomy.label_of("C1") in anatomy.successors(label) for label in range(1, 27))
