import numpy as np
import pytest
from threadpoolctl import threadpool_info

from autospine.resampling import (
    linear_matrix,
    nearest_matrix,
    one_thread,
    resample_image,
    resample_labels,
    resize_matrix,
    resized_shape,
    separate_axis,
)


@pytest.mark.parametrize(
    ("spacing", "target", "ratio", "expected"),
    [
        ((1, 1, 1), (1, 1, 1), 3, None),
        ((5, 1, 1), (1, 1, 1), 3, 0),
        ((1, 1, 1), (1, 1, 4), 3, 2),
        ((3, 1, 1), (3, 1, 1), 3, None),  # exactly three times is not yet anisotropic
        ((5, 5, 1), (5, 1, 1), 3, None),  # two axes tie on the grid that decides
        ((1, 4, 1), (4, 1, 1), 3, 1),  # the old grid is asked first
        ((9, 1, 1), (9, 1, 1), None, None),
    ],
)
def test_the_coarse_axis(spacing, target, ratio, expected):
    assert separate_axis(spacing, target, ratio) == expected


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "expected"),
    [
        ((100, 50, 60), (1.0, 0.5, 0.5), (1.0, 1.0, 1.0), (100, 25, 30)),
        ((3, 2, 1), (1.0, 1.0, 1.0), (2.0, 9.0, 9.0), (2, 1, 1)),
    ],
)
def test_shapes_after_resampling(shape, spacing, target, expected):
    assert resized_shape(shape, spacing, target) == expected


@pytest.mark.parametrize("order", [0, 1, 3])
def test_weights_are_shared_and_read_only(order):
    matrix = resize_matrix(5, 8, order)
    assert matrix.shape == (8, 5)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    assert resize_matrix(5, 8, order) is matrix
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 2


def test_places_beyond_the_border_take_the_border():
    positions = np.array([-3.0, 0.25, 1.0, 7.0])
    np.testing.assert_allclose(linear_matrix(positions, 3) @ [10, 20, 30], [10, 12.5, 20, 30])
    np.testing.assert_allclose(nearest_matrix(positions, 3) @ [10, 20, 30], [10, 10, 20, 30])
    assert linear_matrix(positions, 1).ravel().tolist() == [1, 1, 1, 1]


def test_splines_do_not_leave_the_old_range():
    step = np.zeros((1, 4, 4, 12), np.float32)
    step[..., 6:] = 1000
    result = resample_image(step, (4, 4, 40))
    assert result.min() == 0
    assert result.max() == 1000


def test_the_coarse_axis_repeats_slices():
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    result = resample_image(image, (7, 8, 8), 3, separate=0)
    # Centres of 7 voxels on 3: 0.21, 0.64, 1.07, 1.5, 1.93, 2.36, 2.79 edges from the top.
    np.testing.assert_array_equal(result[0], image[0][[0, 0, 1, 1, 1, 2, 2]])


def test_constant_images_stay_constant():
    np.testing.assert_allclose(resample_image(np.full((2, 5, 6, 7), 3), (9, 2, 20)), 3, rtol=1e-5)


def test_non_contiguous_integers_are_resampled():
    image = np.arange(5 * 6 * 7, dtype=np.int16).reshape(1, 5, 6, 7)[:, ::-1, :, ::-1]
    assert resample_image(image, (5, 6, 7)).dtype == np.float32
    np.testing.assert_array_equal(resample_image(image, (5, 6, 7)), image)


def test_labels_are_never_mixed():
    """Between 1 and 9 there are no 5s, and the boundary stays in the middle."""
    labels = np.ones((4, 4, 8), np.uint8)
    labels[..., 4:] = 9
    result = resample_labels(labels, (4, 4, 24))
    assert result.dtype == np.uint8
    assert (result[..., :12] == 1).all()
    assert (result[..., 12:] == 9).all()


def test_where_labels_tie_the_foreground_survives():
    labels = np.zeros((2, 2, 8), np.int8)
    labels[..., 3] = 4
    assert resample_labels(labels, (2, 2, 4)).tolist() == [[[0, 4, 0, 0]] * 2] * 2


def test_ignored_voxels_survive():
    labels = np.zeros((6, 6, 6), np.int8)
    labels[2:4] = -1
    assert set(np.unique(resample_labels(labels, (12, 6, 6)))) == {-1, 0}


def test_masks_of_one_label():
    assert (resample_labels(np.full((3, 4, 5), 7), (6, 2, 5)) == 7).all()


def test_labels_between_the_sampled_places_vanish():
    labels = np.zeros((1, 1, 9), np.int8)
    labels[..., 0] = 1
    assert not resample_labels(labels, (1, 1, 1)).any()


def test_the_number_of_threads_is_restored():
    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    with one_thread():
        assert set(threads()) == {1}
    assert threads() == before
