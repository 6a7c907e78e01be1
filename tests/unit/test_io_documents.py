import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.dataset import LabelSchema
from autospine.core.errors import DocumentError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Configuration, NetworkSpec, Normalisation, Plan, Reason
from autospine.core.trace import Trace
from autospine.io.documents import content_hash, from_json, load, save, to_json

NETWORK = NetworkSpec("plain_unet", (4, 8), ((3, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2)), (2, 2), (2,))
CONFIGURATION = Configuration(
    name="3d_fullres",
    axes=(0, 1, 2),
    spacing=(1.0, None, 0.7),
    patch=(8, 8, 8),
    batch_size=2,
    median_shape=(16.0, 16.5, 16.0),
    network=NETWORK,
    crop="body",
    normalisation=(Normalisation("ct", -100.0, 900.0, 200.0, 250.0),),
    padding=(-1.2,),
    mirror_axes=(0, 1),
    batch_dice=False,
)
PLAN = Plan(
    "toy",
    "spine",
    LabelSchema({0: "background", 1: "L1", 2: "L2"}, left_right=((1, 2),)),
    (0, 1, 2),
    (CONFIGURATION,),
    (Reason("patch", "8", "it is a toy, très petit"),),
)
GRID = Grid((4, 5, 6), (1 / 3, 0.1, 2.0), (0.1, 0.2, -0.3))
TRACE = Trace(
    GRID, Orientation((2, 0, 1), (True, False, False)), Box((0, 0, 0), (6, 4, 5)), (0, 1, 2), (3, 3, 3)
)


@pytest.mark.parametrize("value", [PLAN, TRACE])
def test_documents_come_back_exactly(tmp_path, value):
    save(tmp_path / "a.json", value)
    assert load(tmp_path / "a.json", type(value)) == value


def test_unknown_fields_are_refused_with_their_path():
    document = json.loads(to_json(PLAN))
    document["configurations"][0]["schedule"]["epoch"] = 7
    with pytest.raises(DocumentError, match=r"unknown field configurations.*schedule\.epoch"):
        from_json(Plan, json.dumps(document))


def test_missing_fields_are_named():
    document = json.loads(to_json(PLAN))
    del document["configurations"][0]["patch"]
    with pytest.raises(DocumentError, match=r"configurations\.0\.patch"):
        from_json(Plan, json.dumps(document))


@pytest.mark.parametrize(
    ("field", "value"),
    [("spacing", [0, 1, 1]), ("spacing", ["a", 1, 1]), ("direction", [[0, 0, 0]] * 3), ("shape", [4, 5])],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(DocumentError):
        from_json(Grid, json.dumps(asdict(GRID) | {field: value}))


def test_defaults_may_be_left_out():
    document = json.loads(to_json(TRACE))
    del document["separate_axis"]
    assert from_json(Trace, json.dumps(document)) == TRACE


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b"NaN", b"9" * 5000]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        load(tmp_path / "a.json", Plan)
    assert caught.value.where == tmp_path / "a.json"


def test_absent_files_are_refused(tmp_path):
    with pytest.raises(DocumentError, match="does not exist"):
        load(tmp_path / "a.json", Plan)
    with pytest.raises(DocumentError, match="cannot be read"):
        load(tmp_path, Plan)


@settings(max_examples=150)
@given(st.data())
def test_mutated_documents_load_or_are_refused(data):
    """Whatever happens to the text, the only error is ours."""
    text = to_json(data.draw(st.sampled_from([PLAN, TRACE])))
    kind = Plan if "planner" in text else Trace
    start = data.draw(st.integers(0, len(text) - 1))
    stop = data.draw(st.integers(start, min(len(text), start + 30)))
    inserted = data.draw(
        st.sampled_from(["", "0", "-1", "1e999", "null", '"', "[", "}", "{}", ",", "NaN", "\\", "9" * 400])
    )
    try:
        loaded = from_json(kind, text[:start] + inserted + text[stop:])
    except DocumentError:
        return
    assert isinstance(loaded, kind)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(st.data(), json_values)
def test_replaced_fields_load_or_are_refused(data, value):
    document = json.loads(to_json(PLAN))
    node = document
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = value
    try:
        loaded = from_json(Plan, json.dumps(document))
    except DocumentError:
        return
    assert isinstance(loaded, Plan)


def test_hashes_tell_contents_apart():
    assert content_hash(PLAN) == content_hash(replace(PLAN))
    assert content_hash(PLAN) != content_hash(replace(PLAN, version=2))
    assert content_hash((1.0, 2), "a") == content_hash((1.0, 2), "a")
