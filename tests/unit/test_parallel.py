from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from autospine.core.errors import AutospineError, ImageError
from autospine.io.images import read_grid
from autospine.io.parallel import parallel_map


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    assert list(parallel_map(math.sqrt, [9, 4, 1], workers)) == [3, 2, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_arrive_whole(workers):
    missing = Path("nowhere.nii.gz")
    with pytest.raises(ImageError, match="no such file") as caught:
        list(parallel_map(read_grid, [missing, missing], workers))
    assert caught.value.where == missing


def test_a_killed_worker_is_explained():
    with pytest.raises(AutospineError, match="fewer workers"):
        list(parallel_map(os._exit, [1, 1], 2))


def test_no_tasks():
    assert list(parallel_map(math.sqrt, [], 4)) == []
