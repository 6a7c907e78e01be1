from pathlib import Path

import pytest

from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import DataError, LabelError


def case(identifier, **more):
    return Case(identifier, Path(f"{identifier}_0000.nii.gz"), **more)


@pytest.mark.parametrize("values", [[], [1], [0, 2], [0, 1, 3], [-1, 0]])
def test_values_must_be_consecutive_from_zero(values):
    with pytest.raises(LabelError, match="consecutive") as caught:
        LabelSchema({value: f"name {value}" for value in values})
    assert "Renumber" in caught.value.remedy


def test_the_ignore_label_must_be_the_highest():
    with pytest.raises(LabelError, match="not the highest"):
        LabelSchema({0: "background", 1: "ignore", 2: "L1"}, ignore=1)


def test_foreground_leaves_out_background_and_ignore():
    schema = LabelSchema({2: "L2", 0: "background", 1: "L1", 3: "ignore"}, ignore=3)
    assert schema.foreground == (1, 2)


def test_vertebrae_are_found_by_name():
    schema = LabelSchema({0: "background", 1: "L1", 2: "sacrum", 3: "T13"})
    assert schema.vertebrae == {1: 20, 3: 26}


@pytest.mark.parametrize("ignore", [False, True])
def test_the_column_s_schema_names_every_vertebra_by_its_label(ignore):
    schema = LabelSchema.vertebral_column(ignore=ignore)
    assert schema.vertebrae == {label: label for label in range(1, 27)}
    assert schema.foreground == tuple(range(1, 27))
    assert schema.ignore == (27 if ignore else None)


def test_cases_group_by_patient_or_stand_alone():
    assert case("scan", patient="somebody").group == "somebody"
    assert case("scan").group == "scan"


def test_a_case_may_not_appear_twice():
    with pytest.raises(DataError, match="scan appears twice") as caught:
        Dataset("twice", LabelSchema.vertebral_column(), (case("scan"),), test=(case("scan"),))
    assert caught.value.where == Path("scan_0000.nii.gz")


def test_distinct_cases_are_welcome():
    dataset = Dataset("fine", LabelSchema.vertebral_column(), (case("a"), case("b")), test=(case("c"),))
    assert [c.identifier for c in dataset.training + dataset.test] == ["a", "b", "c"]
