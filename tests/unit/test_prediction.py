import numpy as np
import pytest

from autospine.core.errors import AutospineError, GeometryError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.inference.prediction import Prediction, to_half

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
