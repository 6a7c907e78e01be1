import numpy as np
import pytest

from autospine.core.errors import ImageError
from autospine.core.geometry import Grid
from autospine.io.images import read_grid, read_image, write_image

GRID = Grid((4, 5, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)))


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.mha"
    write_image(path, np.arange(120, dtype=np.float32).reshape(4, 5, 6), GRID)
    return path


@pytest.mark.parametrize("axes", [b"83", b"-1", b"0", b"x", b"99999999999", b"3\nNDims = 83"])
def test_a_number_of_axes_that_would_end_the_process_is_refused(scan, axes):
    scan.write_bytes(scan.read_bytes().replace(b"NDims = 3", b"NDims = " + axes))
    with pytest.raises(ImageError, match="number of axes"):
        read_grid(scan)


def test_an_image_without_voxels_is_refused(scan):
    scan.write_bytes(scan.read_bytes().replace(b"DimSize = 6 5 4", b"DimSize = 0 0 0"))
    with pytest.raises(ImageError):
        read_image(scan)


def test_a_sound_header_is_read(scan):
    assert read_image(scan).array.sum() == np.arange(120).sum()
