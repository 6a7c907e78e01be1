import numpy as np
import pytest

from autospine.core.errors import ImageError
from autospine.io.store import load_array, open_array, remove, save_array

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("kind", [np.int8, np.float16, np.float32])
@pytest.mark.parametrize("shape", [(7,), (1, 20, 30, 40), (3, 1, 5)])
@pytest.mark.parametrize("chunks", [None, 16])
def test_arrays_come_back(tmp_path, kind, shape, chunks):
    array = RANDOM.normal(0, 9, shape).astype(kind)
    save_array(tmp_path / "a.b2nd", array, chunks and (chunks,) * len(shape))
    loaded = load_array(tmp_path / "a.b2nd")
    assert loaded.dtype == kind
    np.testing.assert_array_equal(loaded, array)


def test_parts_are_read_alone(tmp_path):
    array = RANDOM.normal(size=(2, 40, 40, 40)).astype(np.float16)
    save_array(tmp_path / "a.b2nd", array, (1, 16, 16, 16))
    stored = open_array(tmp_path / "a.b2nd")
    assert stored.chunks == (1, 16, 16, 16)
    np.testing.assert_array_equal(stored[:, 3:21, 39:, 5:6], array[:, 3:21, 39:, 5:6])


def test_views_are_stored_as_they_look(tmp_path):
    array = np.arange(60).reshape(3, 4, 5)[::-1].transpose(2, 0, 1)
    save_array(tmp_path / "a.b2nd", array)
    np.testing.assert_array_equal(load_array(tmp_path / "a.b2nd"), array)


def test_equal_arrays_give_equal_bytes(tmp_path):
    array = RANDOM.normal(size=(30, 30, 30)).astype(np.float16)
    for name in ("a.b2nd", "b.b2nd"):
        save_array(tmp_path / name, array, (16, 16, 16))
    assert (tmp_path / "a.b2nd").read_bytes() == (tmp_path / "b.b2nd").read_bytes()


def test_a_stored_array_is_replaced(tmp_path):
    save_array(tmp_path / "a.b2nd", np.zeros(5))
    save_array(tmp_path / "a.b2nd", np.ones(6))
    assert load_array(tmp_path / "a.b2nd").tolist() == [1] * 6


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_damaged_arrays_are_refused(tmp_path, keep):
    path = tmp_path / "a.b2nd"
    save_array(path, RANDOM.normal(size=(30, 30, 30)), (16, 16, 16))
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ImageError) as caught:
        load_array(path)
    assert caught.value.where == path


def test_absent_arrays_are_refused(tmp_path):
    with pytest.raises(ImageError):
        open_array(tmp_path / "a.b2nd")


def test_removing_is_idempotent(tmp_path):
    save_array(tmp_path / "a.b2nd", np.zeros(5))
    remove(tmp_path / "a.b2nd")
    remove(tmp_path / "a.b2nd")
    assert not list(tmp_path.iterdir())
