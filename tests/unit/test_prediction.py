import numpy as np
import pytest

from autospine.core.errors import AutospineError, GeometryError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.inference.prediction import Prediction, stored_files, to_half
from autospine.targets import VECTOR_UNIT

GRID = Grid((4, 5, 6), (2.0, 1.0, 1.0))
TRACE = Trace(GRID, Orientation.to_canonical(GRID), Box.whole(GRID.shape), (0, 1, 2), (2, 3, 3))


def prediction(classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return Prediction(rng.normal(size=(classes, *TRACE.shape)).astype(np.float16), TRACE)


def test_a_prediction_survives_the_disk(tmp_path):
    saved = prediction()
    saved.save(tmp_path / "a.case")
    loaded = Prediction.load(tmp_path / "a.case")
    assert loaded.trace == TRACE
    np.testing.assert_array_equal(loaded.logits, saved.logits)


@pytest.mark.parametrize("seed", range(5))
def test_the_class_map_is_the_argmax(seed):
    made = prediction(seed=seed)
    np.testing.assert_array_equal(made.class_map(), made.logits.argmax(axis=0))


def test_ties_go_to_the_lowest_class():
    logits = np.zeros((3, *TRACE.shape), dtype=np.float16)
    assert not Prediction(logits, TRACE).class_map().any()


def test_logits_of_another_shape_are_refused():
    with pytest.raises(GeometryError, match="do not fit"):
        Prediction(np.zeros((3, 2, 3, 4)), TRACE)


def test_an_absent_or_damaged_prediction_is_named(tmp_path):
    with pytest.raises(AutospineError, match="absent"):
        Prediction.load(tmp_path / "absent")
    prediction().save(tmp_path / "a")
    (tmp_path / "a.b2nd").write_bytes(b"nothing")
    with pytest.raises(AutospineError, match=r"a\.b2nd"):
        Prediction.load(tmp_path / "a")


def test_half_precision_never_becomes_infinite():
    np.testing.assert_array_equal(to_half(np.array([1e9, -1e9, 1.5])), [65504, -65504, 1.5])


def test_centre_channels_survive_the_disk_beside_the_logits(tmp_path):
    outputs = np.random.default_rng(0).normal(size=(7, *TRACE.shape)).astype(np.float16)
    made = Prediction.of(outputs.copy(), TRACE, 3)
    np.testing.assert_array_equal(made.logits, outputs[:3])
    np.testing.assert_array_equal(made.centres[0], outputs[3])
    np.testing.assert_allclose(made.centres[1:], outputs[4:] * VECTOR_UNIT, rtol=1e-2)
    made.save(tmp_path / "a.case")
    loaded = Prediction.load(tmp_path / "a.case")
    np.testing.assert_array_equal(loaded.centres, made.centres)
    assert [path.name for path in stored_files(tmp_path / "a.case")] == [
        "a.case.b2nd",
        "a.case_centres.b2nd",
        "a.case.json",
    ]


def test_without_centre_channels_there_are_none(tmp_path):
    made = Prediction.of(np.zeros((3, *TRACE.shape), np.float16), TRACE, 3)
    made.save(tmp_path / "a")
    assert Prediction.load(tmp_path / "a").centres is None
    with pytest.raises(GeometryError, match="do not fit"):
        Prediction(np.zeros((3, *TRACE.shape)), TRACE, np.zeros((4, 1, 2, 3)))


def test_classes_taken_as_one_have_their_summed_probability():
    logits = np.random.default_rng(1).normal(size=(5, *TRACE.shape)) * 4
    joined = Prediction(logits, TRACE).with_one_channel_for([1, 3, 4])

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(axis=0)

    p, q = softmax(logits), softmax(joined.logits)
    np.testing.assert_allclose(q, [p[0], p[2], p[1] + p[3] + p[4]], rtol=1e-5)


def test_saving_over_another_prediction_leaves_nothing_of_it(tmp_path):
    outputs = np.zeros((7, *TRACE.shape), np.float16)
    Prediction.of(outputs, TRACE, 3).save(tmp_path / "a")
    prediction().save(tmp_path / "a")
    assert Prediction.load(tmp_path / "a").centres is None


def test_large_vectors_do_not_become_infinite():
    outputs = np.full((7, *TRACE.shape), 60000, np.float16)
    assert np.isfinite(Prediction.of(outputs, TRACE, 3).centres).all()


def test_vertebra_or_not_is_shared_out_evenly_and_nothing_is_lost():
    logits = np.random.default_rng(2).normal(size=(2, *TRACE.shape)).astype(np.float32)
    spread = Prediction(logits, TRACE).spread_over([1, 2, 4], 5)
    p = np.exp(spread.logits.astype(np.float64))
    p /= p.sum(axis=0)
    binary = np.exp(logits) / np.exp(logits).sum(axis=0)
    np.testing.assert_allclose(p[[1, 2, 4]], np.broadcast_to(binary[1] / 3, (3, *TRACE.shape)), rtol=5e-3)
    assert not p[3].any()
    joined = spread.with_one_channel_for([1, 2, 4]).logits
    np.testing.assert_allclose(joined[-1] - joined[0], logits[1] - logits[0], atol=5e-3)
    np.testing.assert_array_equal(spread.foreground_map([1, 2, 4]), joined[-1] > joined[0])


def test_many_unsure_names_are_a_sure_vertebra():
    logits = np.zeros((5, *TRACE.shape))
    logits[0] = 0.5
    assert Prediction(logits, TRACE).class_map().max() == 0
    assert Prediction(logits, TRACE).foreground_map([1, 2, 3, 4]).all()
