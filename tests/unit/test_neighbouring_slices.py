"""What a 2D network with neighbouring slices sees, in training and in prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autospine.core.plan import Configuration, NetworkSpec, Normalisation
from autospine.inference.sliding_window import predict_outputs
from autospine.patch_reading import read_patch

CPU = torch.device("cpu")
PADDING = (-3.0, -4.0)
CONFIGURATION = Configuration(
    name="test",
    axes=(2, 0, 1),
    spacing=(1.0, 1.0, 1.0),
    patch=(4, 6),
    batch_size=1,
    median_shape=(1.0, 1.0, 1.0),
    network=NetworkSpec("plain_unet", (4,), ((3, 3),), ((1, 1),), (1,), ()),
    crop="body",
    normalisation=(Normalisation("ct", -1000, 1000, 0, 1),) * 2,
    padding=PADDING,
    mirror_axes=(),
    batch_dice=False,
    context=1,
)


@pytest.fixture
def image():
    """Two channels of five slices; a voxel tells channel and slice."""
    tens = 10 * np.arange(2).reshape(2, 1, 1, 1)
    return np.broadcast_to(tens + np.arange(5).reshape(1, 5, 1, 1), (2, 5, 7, 9)).astype(np.float32)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, (-3, -4, -3, -4, 0, 10, 1, 11, 2, 12)),
        (2, (0, 10, 1, 11, 2, 12, 3, 13, 4, 14)),
        (4, (2, 12, 3, 13, 4, 14, -3, -4, -3, -4)),
    ],
)
def test_a_patch_holds_all_channels_of_one_slice_after_the_other(image, index, expected):
    patch = read_patch(image, (index, 1, 2), (4, 6), PADDING, context=2)
    assert patch.shape == (10, 4, 6)
    np.testing.assert_array_equal(patch, np.broadcast_to(np.reshape(expected, (10, 1, 1)), patch.shape))


def test_without_neighbours_a_patch_is_as_ever(image):
    np.testing.assert_array_equal(read_patch(image, (2, 1, 2), (4, 6), PADDING), image[:, 2, 1:5, 2:8])


@pytest.mark.parametrize("context", [1, 2])
def test_a_network_is_shown_in_prediction_what_it_was_shown_in_training(image, context):
    noise = image + np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    configuration = replace(CONFIGURATION, context=context)
    outputs = predict_outputs([lambda x: x], noise, configuration, CPU)
    assert outputs.shape == (2 * (2 * context + 1), 5, 7, 9)
    for index in range(5):
        patch = read_patch(noise, (index, 0, 0), (7, 9), PADDING, context)
        np.testing.assert_allclose(outputs[:, index], patch, atol=0.02)


def test_a_previous_stage_enters_with_its_own_slice_only(image):
    previous = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1) + 100
    fed = np.concatenate([image, np.broadcast_to(previous, (1, 5, 7, 9))])
    outputs = predict_outputs([lambda x: x], fed, CONFIGURATION, CPU)
    assert outputs.shape == (7, 5, 7, 9)
    np.testing.assert_allclose(outputs[:, 3, 0, 0], [2, 12, 3, 13, 4, 14, 103], atol=0.05)


def test_a_scan_smaller_than_the_patch_is_padded_on_all_slices(image):
    seen = []
    predict_outputs([lambda x: seen.append(x) or x], image[:, :, :2], CONFIGURATION, CPU)
    first = seen[0][0]
    assert first.shape == (6, 4, 6)
    np.testing.assert_array_equal(first[:, 0, 0], [-3, -4, -3, -4, -3, -4])
    np.testing.assert_array_equal(first[:, 1, 0], [-3, -4, 0, 10, 1, 11])
