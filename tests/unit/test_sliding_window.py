from dataclasses import replace

import numpy as np
import pytest
import torch

from autospine.core.plan import Configuration, NetworkSpec, Normalisation
from autospine.inference.sliding_window import (
    gaussian_weights,
    mirrorings,
    predict_outputs,
    window_starts,
    windows,
)
from autospine.inference.stages import with_previous
from autospine.io.scratch import Scratch

CPU = torch.device("cpu")


def configuration(patch, mirror_axes=()):
    d = len(patch)
    return Configuration(
        name="test",
        axes=(0, 1, 2),
        spacing=(1.0, 1.0, 1.0),
        patch=patch,
        batch_size=1,
        median_shape=(1.0, 1.0, 1.0),
        network=NetworkSpec("plain_unet", (4,), ((3,) * d,), ((1,) * d,), (1,), ()),
        crop="body",
        normalisation=(Normalisation("ct", -1000, 1000, 0, 1),),
        padding=(-3.0,),
        mirror_axes=mirror_axes,
        batch_dice=False,
    )


def intensity_and_its_negative(image):
    return torch.cat([image[:, :1], -image[:, :1]], dim=1)


@pytest.mark.parametrize("shape", [(9, 10, 11), (3, 20, 7), (8, 8, 8), (2, 2, 2)])
@pytest.mark.parametrize("patch", [(8, 8, 8), (4, 6)])
def test_a_voxelwise_network_gives_its_own_values_back(shape, patch):
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    logits = predict_outputs([intensity_and_its_negative], image, configuration(patch), CPU)
    assert logits.shape == (2, *shape)
    assert logits.dtype == np.float16
    np.testing.assert_allclose(logits[0], image[0], atol=2e-3)
    np.testing.assert_allclose(logits[1], -image[0], atol=2e-3)


def test_several_networks_are_averaged():
    image = np.ones((1, 4, 4, 4), dtype=np.float32)
    networks = [lambda x: x * 2, lambda x: x * 4]
    assert np.allclose(predict_outputs(networks, image, configuration((4, 4, 4)), CPU), 3)


def test_mirroring_averages_over_the_permitted_axes_only():
    ramp = torch.arange(4.0)

    def looks_right(image):
        return image * 0 + ramp

    image = np.zeros((1, 4, 4, 4), dtype=np.float32)
    seen = predict_outputs([looks_right], image, configuration((4, 4, 4), mirror_axes=(2,)), CPU)
    assert np.allclose(seen, 1.5)
    plain = predict_outputs([looks_right], image, configuration((4, 4, 4), (2,)), CPU, mirror=False)
    assert np.allclose(plain, ramp.numpy())


def test_mirrorings_are_all_subsets():
    assert mirrorings(()) == [()]
    assert mirrorings((0, 2)) == [(), (2,), (4,), (2, 4)]


def test_padding_is_the_configurations_air():
    seen = []

    def spy(image):
        seen.append(image)
        return image

    predict_outputs([spy], np.zeros((1, 2, 4, 4), dtype=np.float32), configuration((4, 4, 4)), CPU)
    assert (seen[0][0, 0, 0] == -3).all()
    assert (seen[0][0, 0, 1:3] == 0).all()


def test_a_case_is_predicted_alike_whether_padded_by_hand_or_not():
    image = np.random.default_rng(1).normal(size=(1, 3, 6, 6)).astype(np.float32)

    def blur(x):
        return torch.nn.functional.avg_pool3d(x, 3, 1, 1)

    by_hand = np.full((1, 6, 6, 6), -3, dtype=np.float32)
    by_hand[:, 1:4] = image
    small = predict_outputs([blur], image, configuration((6, 6, 6)), CPU)
    np.testing.assert_array_equal(
        small, predict_outputs([blur], by_hand, configuration((6, 6, 6)), CPU)[:, 1:4]
    )


def test_logits_too_large_for_half_precision_stay_finite():
    image = np.full((1, 4, 4, 4), 1e6, dtype=np.float32)
    assert np.isfinite(predict_outputs([lambda x: x], image, configuration((4, 4, 4)), CPU)).all()


def test_window_starts_follow_nnunets_rule():
    assert window_starts(10, 10, 0.5) == [0]
    assert window_starts(11, 10, 0.5) == [0, 1]
    assert window_starts(30, 10, 0.5) == [0, 5, 10, 15, 20]
    assert window_starts(110, 64, 0.5) == [0, 23, 46]


def test_windows_cover_everything():
    covered = np.zeros((5, 13, 9), dtype=int)
    for box in windows(covered.shape, (6, 4), 0.5):
        covered[box] += 1
    assert covered.min() >= 1


def test_gaussian_weights_peak_in_the_middle_and_vanish_nowhere():
    weight = gaussian_weights((16, 8))
    assert weight.max() == pytest.approx(10)
    assert np.unravel_index(weight.argmax(), weight.shape) == (8, 4)
    assert weight.min() > 0
    # A Gaussian of sigma patch / 8: four voxels from the centre of sixteen are two sigma.
    assert weight[12, 4] / weight[8, 4] == pytest.approx(np.exp(-2), rel=0.02)


def test_a_previous_stage_becomes_one_channel_a_class():
    image = np.zeros((1, 1, 1, 4), dtype=np.float32)
    stacked = with_previous(image, np.array([[[0, 1, 2, 1]]], dtype=np.int8), 3)
    np.testing.assert_array_equal(stacked[1:, 0, 0], [[0, 1, 0, 1], [0, 0, 1, 0]])


def test_vectors_are_mirrored_back():
    """A network whose vectors always point to the larger side of its own view says nothing on average."""

    def points_along(image):
        return torch.cat([torch.ones_like(image), *[torch.full_like(image, v) for v in (3.0, 4.0, 5.0)]], 1)

    image = np.zeros((1, 4, 4, 4), dtype=np.float32)
    config = replace(configuration((4, 4, 4), mirror_axes=(0, 2)), centres=True)
    outputs = predict_outputs([points_along], image, config, CPU)
    for channel, expected in enumerate((1.0, 0.0, 4.0, 0.0)):
        assert np.allclose(outputs[channel], expected)


def test_vectors_of_a_faithful_network_survive_mirroring():
    place = torch.arange(4.0)

    def points_to_the_bright_end(image):
        # Brightness grows along the last axis; in the mirror it falls, and so does the vector's sign.
        slope = torch.sign(image[..., -1:] - image[..., :1])
        zero = torch.zeros_like(image)
        return torch.cat([zero, zero, zero, (slope * 2).expand_as(image)], 1)

    image = np.broadcast_to(place.numpy(), (1, 4, 4, 4)).astype(np.float32)
    config = replace(configuration((4, 4, 4), mirror_axes=(2,)), centres=True)
    assert np.allclose(predict_outputs([points_to_the_bright_end], image, config, CPU)[3], 2.0)


def whole_sums(network, image, configuration):
    """All windows added up at once."""
    total = np.zeros((2, *image.shape[1:]), np.float32)
    weights = np.zeros(image.shape[1:], np.float32)
    weight = gaussian_weights(configuration.patch)
    for box in windows(image.shape[1:], configuration.patch, 0.5):
        window = image[(slice(None), *box)]
        outputs = network(torch.from_numpy(window.reshape(1, -1, *configuration.patch)))[0].numpy()
        place = (slice(None), *box)
        total[place] += (outputs * weight).reshape(total[place].shape)
        weights[box] += weight.reshape(weights[box].shape)
    return total / weights


def position_in_the_patch(patches):
    """Outputs that differ from window to window even where the image does not."""
    ramp = torch.arange(patches[0, 0].numel(), dtype=torch.float32).view(patches.shape[2:])
    return torch.stack([patches[0, 0] + ramp, patches[0, 0] - ramp])[None]


@pytest.mark.parametrize("patch", [(4, 6, 5), (6, 5)])
def test_row_by_row_is_the_same_as_all_at_once(patch):
    image = np.random.default_rng(1).normal(size=(1, 19, 17, 8)).astype(np.float32)
    settings = configuration(patch)
    made = predict_outputs([position_in_the_patch], image, settings, CPU)
    np.testing.assert_allclose(made, whole_sums(position_in_the_patch, image, settings), rtol=1e-3, atol=1e-3)


def test_windows_of_one_intensity_are_asked_about_once():
    image = np.full((1, 32, 16, 16), -2.0, np.float32)
    image[:, 28:, 3, 4] = 1.0
    asked = []

    def spy(patches):
        asked.append(patches)
        return position_in_the_patch(patches)

    settings = configuration((8, 8, 8))
    made = predict_outputs([spy], image, settings, CPU)
    np.testing.assert_allclose(made, whole_sums(position_in_the_patch, image, settings), rtol=1e-3, atol=1e-3)
    assert sum(bool((p == p.flatten()[0]).all()) for p in asked) == 1
    assert 2 <= len(asked) <= 9


def test_outputs_may_go_to_the_disk(tmp_path):
    image = np.random.default_rng(2).normal(size=(1, 11, 9, 8)).astype(np.float32)
    settings = configuration((4, 6, 5))
    stored = predict_outputs([position_in_the_patch], image, settings, CPU, scratch=Scratch(tmp_path))
    assert isinstance(stored.base, np.memmap)
    np.testing.assert_array_equal(stored, predict_outputs([position_in_the_patch], image, settings, CPU))
