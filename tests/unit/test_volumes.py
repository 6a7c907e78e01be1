import numpy as np
import pytest

from autospine.vertebrae.volumes import voxel_counts


@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_counts_are_those_of_the_values(kind):
    labels = np.random.default_rng(0).integers(0, 9, (7, 5, 6)).astype(kind)
    np.testing.assert_array_equal(voxel_counts(labels, 12), np.bincount(labels.ravel(), minlength=13))


def test_an_empty_map_counts_nothing():
    assert voxel_counts(np.zeros((0, 4, 4), np.uint8), 2).tolist() == [0, 0, 0]
