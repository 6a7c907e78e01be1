import errno
import os

import numpy as np
import pytest

from autospine.core.errors import StorageError
from autospine.io.scratch import IN_MEMORY, Scratch, slabs


def test_small_arrays_stay_in_memory(tmp_path):
    assert IN_MEMORY.empty((2, 3), np.float16).base is None
    assert Scratch(tmp_path, largest=12).empty((2, 3), np.float16).base is None


def test_large_arrays_lie_in_a_file_that_nobody_sees(tmp_path):
    array = Scratch(tmp_path / "new", largest=11).empty((2, 3), np.float16)
    assert type(array) is np.ndarray
    assert isinstance(array.base, np.memmap)
    assert list((tmp_path / "new").iterdir()) == []
    array[:] = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(array.sum(axis=0), [5, 7, 9])


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StorageError, match="Free some space"):
        Scratch(tmp_path).empty((2, 3), np.float16)


def test_where_the_system_cannot_reserve_room_it_is_written(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array = Scratch(tmp_path).empty((1000, 30_000), np.uint8)
    assert array.shape == (1000, 30_000)
    assert not array.any()


@pytest.mark.parametrize(
    ("shape", "arrays"), [((7, 3, 2), 1), ((50, 1000, 1000), 3), ((3, 10_000, 9_000), 1)]
)
def test_slabs_cover_the_first_axis_and_are_small(shape, arrays):
    parts = list(slabs(shape, arrays))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(shape[0]))
    for part in parts:
        size = 4 * arrays * (part.stop - part.start) * shape[1] * shape[2]
        assert size <= 2**26 or part.stop - part.start == 1
