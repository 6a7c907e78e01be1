"""Plans as documents: what is written comes back equal, and what is damaged is refused with its place."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.dataset import LabelSchema
from autospine.core.errors import DocumentError, UsageError
from autospine.core.plan import (
    Augmentation,
    Budget,
    Configuration,
    NetworkSpec,
    Normalisation,
    Plan,
    Reason,
    Schedule,
)
from autospine.io import documents

NETWORK = NetworkSpec(
    name="plain_unet",
    features=(32, 64, 128),
    kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    encoder_blocks=(2, 2, 2),
    decoder_blocks=(2, 2),
)
FULL = Configuration(
    name="3d_fullres",
    axes=(2, 0, 1),
    spacing=(1.5, 0.75, 0.75),
    patch=(64, 96, 96),
    batch_size=2,
    median_shape=(80.0, 512.5, 300.0),
    network=NETWORK,
    crop="nonzero",
    normalisation=(Normalisation("ct", -800.0, 1200.0, 250.0, 190.0),),
    padding=(-1.3,),
    mirror_axes=(0, 1),
    batch_dice=False,
)
FLAT = replace(
    FULL,
    name="2d",
    spacing=(None, 0.75, 0.75),
    patch=(96, 96),
    batch_dice=True,
    separate_axis_ratio=None,
    network=replace(NETWORK, kernels=((3, 3),) * 3, strides=((1, 1), (2, 2), (2, 2))),
)
CASCADE = replace(FULL, name="3d_cascade_fullres", previous_stage="3d_fullres")
PLAN = Plan(
    dataset="verse",
    planner="spine",
    labels=LabelSchema.vertebral_column(ignore=True),
    classes=tuple(range(27)),
    configurations=(FLAT, FULL, CASCADE),
    reasons=(Reason("spacing", "0.75 mm", "the median's"),),
    budget=Budget(device="cpu", gpu_memory=8.0),
)


def test_a_plan_comes_back_equal(tmp_path):
    documents.save(tmp_path / "plan.json", PLAN)
    assert documents.load(tmp_path / "plan.json", Plan) == PLAN


def test_equal_plans_hash_equal_and_changed_ones_do_not():
    again = documents.from_json(Plan, documents.to_json(PLAN))
    changed = replace(PLAN, planner="nnunet")
    assert documents.content_hash(again) == documents.content_hash(PLAN) != documents.content_hash(changed)


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=25)
@given(
    st.builds(
        Schedule,
        epochs=st.integers(1, 10**6),
        learning_rate=finite,
        nesterov=st.booleans(),
        workers=st.none() | st.integers(0, 64),
        precision=st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
        augmentation=st.builds(Augmentation, scale=st.tuples(finite, finite)),
    )
)
def test_any_schedule_comes_back_equal_to_the_last_bit(schedule):
    assert documents.from_json(Schedule, documents.to_json(schedule)) == schedule


def edited(*path, value):
    """The plan's JSON with one value replaced."""
    document = json.loads(documents.to_json(PLAN))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("colour",), "blue", "colour"),
        (("configurations", 1, "schedule", "epoch"), 5, "configurations.schedule.epoch"),
        (("configurations", 0, "batch_size"), "many", "configurations.0.batch_size"),
        (("configurations", 0, "crop"), "tight", "configurations.0.crop"),
        (("configurations", 2, "patch"), 3, "configurations.2.patch"),
        (("labels", "names", "40"), "L7", "consecutive"),
        (("budget", "device"), "tpu", "budget.device"),
    ],
)
def test_a_wrong_value_is_refused_and_named(path, value, named):
    with pytest.raises(DocumentError, match=named) as caught:
        documents.from_json(Plan, edited(*path, value=value), "plan.json")
    assert caught.value.where == "plan.json"


@pytest.mark.parametrize("name", [field.name for field in fields(Configuration)][:5])
def test_a_missing_field_is_refused_and_named(name):
    document = json.loads(documents.to_json(FULL))
    del document[name]
    with pytest.raises(DocumentError, match=name):
        documents.from_json(Configuration, json.dumps(document))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_cut_off_file_is_refused_with_a_remedy(tmp_path, share):
    text = documents.to_json(PLAN)
    (tmp_path / "plan.json").write_text(text[: int(len(text) * share)])
    with pytest.raises(DocumentError, match="complete JSON") as caught:
        documents.load(tmp_path / "plan.json", Plan)
    assert caught.value.where == tmp_path / "plan.json"
    assert caught.value.remedy


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="does not exist"):
        documents.load(tmp_path / "plan.json", Plan)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DocumentError, match="cannot be read"):
        documents.load(tmp_path / "plan.json", Plan)


def test_a_configuration_is_found_by_name():
    assert PLAN.configuration("3d_fullres") is FULL
    with pytest.raises(UsageError, match="'5d'") as caught:
        PLAN.configuration("5d")
    assert "2d, 3d_fullres, 3d_cascade_fullres" in caught.value.remedy


def test_a_cascade_sees_the_previous_stage_s_classes():
    assert PLAN.input_channels(FULL) == 1
    assert PLAN.input_channels(CASCADE) == 1 + 26


def test_dimensions_and_divisors_follow_the_network():
    assert (FLAT.dimensions, FULL.dimensions) == (2, 3)
    assert FULL.network.divisors == (2, 4, 4)
    assert FLAT.network.divisors == (4, 4)
