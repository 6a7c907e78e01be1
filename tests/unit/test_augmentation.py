from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from batchgenerators.augmentations import color_augmentations, resample_augmentations
from scipy import ndimage

from autospine.augmentation import apply, draw_margins, draw_parameters, intensity
from autospine.augmentation.affine import affine_matrices, largest_margins, rotation_limits
from autospine.core.plan import Augmentation, Configuration, NetworkSpec, Normalisation, Schedule

NOTHING = Augmentation(
    **{field.name: 0.0 for field in fields(Augmentation) if field.name.endswith("_probability")}
)
ALWAYS = Augmentation(
    **{field.name: 1.0 for field in fields(Augmentation) if field.name.endswith("_probability")}
)


def configuration(augmentation=NOTHING, patch=(16, 12, 12), **changes):
    dimensions = len(patch)
    network = NetworkSpec(
        "plain_unet", (4, 8), ((3,) * dimensions,) * 2, ((1,) * dimensions, (2,) * dimensions), (2, 2), (2,)
    )
    normalisation = Normalisation("ct", -1000, 1000, 0, 1)
    default = Configuration(
        name="x",
        axes=(0, 1, 2),
        spacing=(1.0, 1.0, 1.0),
        patch=patch,
        batch_size=2,
        median_shape=(64.0, 64.0, 64.0),
        network=network,
        crop="body",
        normalisation=(normalisation,),
        padding=(-1.5,),
        mirror_axes=(),
        batch_dice=False,
        schedule=Schedule(augmentation=augmentation),
    )
    return replace(default, **changes)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unchanged(config, batch_size=1):
    return draw_parameters(replace(config, schedule=Schedule(augmentation=NOTHING)), batch_size, generator())


def moved_by(config, degrees, scale=1.0):
    """Parameters of one sample that turns by given angles and is scaled."""
    angles = np.radians(np.array([degrees], dtype=np.float32))
    matrix = affine_matrices(config, angles, np.array([scale], dtype=np.float32))
    return replace(unchanged(config), moved=torch.tensor([True]), matrix=torch.from_numpy(matrix))


def sampling_grid(matrix, patch, size):
    """Positions (b, *patch, d) for torch's own sampler, which counts axes from the last."""
    scale = torch.tensor(patch) / torch.tensor(size).unsqueeze(1)
    theta = torch.nn.functional.pad((matrix * scale).flip(1, 2), (0, 1))
    return torch.nn.functional.affine_grid(theta, [len(matrix), 1, *patch], align_corners=False)


def with_margins(config, margins):
    return [n + 2 * margin for n, margin in zip(config.patch, margins, strict=True)]


def largest_patch(config):
    return with_margins(config, largest_margins(config))


def cut(values, size):
    """The middle of the last axes."""
    lead = values.ndim - len(size)
    starts = [(n - m) // 2 for n, m in zip(values.shape[lead:], size, strict=True)]
    return values[(..., *(slice(a, a + m) for a, m in zip(starts, size, strict=True)))]


def a_batch(shape, b=2, channels=1, classes=5):
    torch.manual_seed(3)
    image = torch.randn(b, channels, *shape)
    coarse = torch.rand(b, classes, *(max(2, n // 5) for n in shape))
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    labels = torch.nn.functional.interpolate(coarse, shape, mode=mode).argmax(1).to(torch.int8)
    return image, labels


@pytest.mark.parametrize("patch", [(16, 12, 12), (16, 12)])
def test_without_any_transform_the_middle_comes_out_exactly(patch):
    config = configuration(patch=patch)
    image, labels = a_batch([size + 6 for size in patch])
    before = image.clone(), labels.clone()
    new_image, new_labels, previous = apply(unchanged(config, 2), image, labels)
    middle = tuple(slice(3, 3 + size) for size in patch)
    assert torch.equal(new_image, image[(..., *middle)])
    assert torch.equal(new_labels, labels[(..., *middle)])
    assert previous is None
    new_image.zero_()
    new_labels.zero_()
    assert torch.equal(image, before[0])
    assert torch.equal(labels, before[1])


def test_half_precision_comes_out_as_float32():
    image, labels = a_batch((16, 12, 12))
    new_image, *_ = apply(unchanged(configuration(), 2), image.half(), labels)
    assert new_image.dtype == torch.float32
    assert torch.equal(new_image, image.half().float())


def test_unmoved_samples_are_exact_beside_a_moved_one():
    config = configuration(replace(NOTHING, rotation_probability=0.5))
    parameters = draw_parameters(config, 4, generator(1))
    assert 0 < parameters.moved.sum() < 4
    image, labels = a_batch(largest_patch(config), b=4)
    expected = apply(unchanged(config, 4), image, labels)
    new_image, new_labels, _ = apply(parameters, image, labels)
    same = ~parameters.moved
    assert torch.equal(new_image[same], expected[0][same])
    assert torch.equal(new_labels[same], expected[1][same])
    assert not torch.equal(new_image, expected[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quarter_turns_are_rot90(axis):
    config = configuration(patch=(12, 12, 12))
    image, labels = a_batch((12, 12, 12), b=1)
    degrees = [90.0 if a == axis else 0.0 for a in range(3)]
    new_image, new_labels, _ = apply(moved_by(config, degrees), image, labels)
    plane = [(1, 2), (2, 0), (0, 1)][axis]
    for new, old, first in ((new_image, image, 2), (new_labels, labels, 1)):
        expected = torch.rot90(old, -1, [first + a for a in plane])
        torch.testing.assert_close(new, expected, rtol=0, atol=1e-4)


def test_quarter_turn_in_two_dimensions():
    config = configuration(patch=(10, 10), spacing=(None, 0.5, 0.5))
    image, labels = a_batch((10, 10), b=1)
    new_image, new_labels, _ = apply(moved_by(config, [90.0]), image, labels)
    torch.testing.assert_close(new_image, torch.rot90(image, -1, (2, 3)), rtol=0, atol=1e-5)
    assert torch.equal(new_labels, torch.rot90(labels, -1, (1, 2)))


def test_rotation_acts_in_millimetres():
    config = configuration(patch=(8, 16, 16), spacing=(2.0, 1.0, 1.0))
    _, labels = a_batch((8, 16, 16), b=1)
    # In mm the patch is a cube, so a quarter turn about axis 1 or 2 maps it onto itself.
    for degrees in ([0.0, 90.0, 0.0], [0.0, 0.0, 90.0]):
        matrix = moved_by(config, degrees).matrix[0]
        corner = torch.tensor([4.0, 8.0, 8.0])
        torch.testing.assert_close((matrix @ corner).abs(), corner)
    turned = apply(moved_by(config, [0.0, 0.0, 180.0]), labels.unsqueeze(1).float(), labels)[1]
    assert torch.equal(turned, labels.flip(1, 2))


def test_scaling_above_one_shrinks_and_pads_with_air_and_background():
    config = configuration(patch=(16, 16, 16), padding=(-3.0,))
    labels = torch.ones(1, 16, 16, 16, dtype=torch.int8)
    image, new_labels, _ = apply(moved_by(config, [0.0] * 3, 2.0), torch.ones(1, 1, 16, 16, 16), labels)
    inside = torch.zeros(16, 16, 16, dtype=torch.bool)
    inside[4:12, 4:12, 4:12] = True
    assert torch.equal(new_labels[0] == 1, inside)
    torch.testing.assert_close(image[0, 0][inside], torch.ones(8**3))
    torch.testing.assert_close(image[0, 0][~inside], torch.full((16**3 - 8**3,), -3.0))


def test_labels_take_the_largest_linear_indicator():
    config = configuration(patch=(16, 14, 12))
    parameters = moved_by(config, [17.0, -25.0, 8.0], 1.1)
    image, labels = a_batch((18, 18, 18), b=1, classes=6)
    labels[0, :4] = -1
    expected_scores = []
    grid = sampling_grid(parameters.matrix, config.patch, labels.shape[1:])
    for value in (-1, 0, 1, 2, 3, 4, 5):
        outside = float(value == 0)
        indicator = (labels == value).float().unsqueeze(1) - outside
        sampled = torch.nn.functional.grid_sample(indicator, grid, align_corners=False)
        expected_scores.append(sampled.squeeze(1) + outside)
    expected = torch.stack(expected_scores).argmax(0).to(torch.int8) - 1
    _, new_labels, _ = apply(parameters, image, labels)
    assert (new_labels != expected).float().mean() < 1e-3
    assert new_labels.unique().tolist() == expected.unique().tolist()


@pytest.mark.parametrize("patch", [(16, 14, 12), (18, 14)])
def test_images_are_sampled_as_torch_does(patch):
    config = configuration(patch=patch, padding=(-3.0, 2.0))
    degrees = [17.0, -25.0, 8.0] if len(patch) == 3 else [-12.0]
    parameters = replace(moved_by(config, degrees, 1.2), padding=(-3.0, 2.0))
    image, labels = a_batch((18,) * len(patch), b=1, channels=2)
    padding = torch.tensor([-3.0, 2.0]).view(-1, *[1] * len(patch))
    grid = sampling_grid(parameters.matrix, patch, image.shape[2:])
    expected = torch.nn.functional.grid_sample(image - padding, grid, align_corners=False) + padding
    torch.testing.assert_close(apply(parameters, image, labels)[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("patch", "spacing"),
    [((24, 12, 10), (1.0, 1.0, 1.0)), ((4, 16, 16), (3.0, 1.0, 1.0)), ((20, 16), (1.0,) * 3)],
)
def test_what_lies_beyond_the_margins_does_not_matter(patch, spacing):
    config = configuration(Augmentation(), patch=patch, spacing=spacing, mirror_axes=(0, 1))
    image, labels = a_batch(largest_patch(config), b=16)
    met = set()
    for seed in range(4):
        margins = draw_margins(config, 16, generator(seed))
        parameters = draw_parameters(config, 16, generator(seed))
        sizes = [with_margins(config, m) for m in margins]
        fitted = ([cut(values, size) for values, size in zip(v, sizes, strict=True)] for v in (image, labels))
        expected, found = apply(parameters, image, labels), apply(parameters, *fitted)
        torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-3)
        assert (found[1] != expected[1]).float().mean() < 1e-3
        assert all(not any(m) for m, moved in zip(margins, parameters.moved, strict=True) if not moved)
        met.update(margins)
    assert len(met) > 1
    assert all(m <= most for margins in met for m, most in zip(margins, largest_margins(config), strict=True))


def test_image_and_labels_move_together():
    config = configuration(patch=(24, 24, 24))
    labels = torch.zeros(1, 30, 30, 30, dtype=torch.int8)
    labels[0, 6:14, 10:20, 16:24] = 1
    image, new_labels, _ = apply(moved_by(config, [20.0, 10.0, -30.0], 0.9), labels[:, None].float(), labels)
    overlap = ((image[0, 0] > 0.5) == (new_labels[0] == 1)).float().mean()
    assert overlap > 0.999
    assert new_labels.sum() > 300


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_mirroring_reverses_image_labels_and_previous_alike(axes):
    config = configuration(replace(NOTHING, mirror_probability=1.0), mirror_axes=axes)
    image, labels = a_batch((16, 12, 12))
    parameters = draw_parameters(config, 2, generator(), classes=5)
    new_image, new_labels, previous = apply(parameters, image, labels, labels)
    assert torch.equal(new_image, image.flip([a + 2 for a in axes]))
    assert torch.equal(new_labels, labels.flip([a + 1 for a in axes]))
    assert torch.equal(previous.argmax(1) + previous.amax(1), new_labels)


def test_the_same_seed_gives_the_same_batch_and_another_another():
    config = configuration(ALWAYS, mirror_axes=(0, 1, 2))
    image, labels = a_batch((22, 18, 18))
    first, second, other = (
        apply(draw_parameters(config, 2, generator(seed), classes=5), image, labels, labels)
        for seed in (0, 0, 1)
    )
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize("patch", [(16, 12, 12), (4, 16, 16), (24, 16)])
def test_everything_at_once_stays_finite(patch):
    normalisation = (Normalisation("ct", -1000, 1000, 0, 1),) * 2
    config = configuration(
        ALWAYS, patch=patch, normalisation=normalisation, padding=(-1.0, 0.0), mirror_axes=(0, 1)
    )
    for seed in range(5):
        image, labels = a_batch(largest_patch(config), b=3, channels=2)
        image[0] = -1.0  # nothing but air
        image[1, 0] *= 1e4
        new_image, new_labels, _ = apply(draw_parameters(config, 3, generator(seed)), image, labels)
        assert new_image.shape == (3, 2, *patch)
        assert new_labels.shape == (3, *patch)
        assert torch.isfinite(new_image).all()


def test_draws_have_the_planned_probabilities_and_ranges():
    plan = Augmentation()
    n = 6000
    p = draw_parameters(configuration(plan, mirror_axes=(0, 2)), n, generator())
    share = 1 - (1 - plan.rotation_probability) * (1 - plan.scale_probability)
    drawn = {
        "moved": (p.moved, share),
        "noise": (p.noise > 0, plan.noise_probability),
        "blur": (p.blur[:, 0, 0] > 0, plan.blur_probability * plan.per_channel_probability),
        "brightness": (p.brightness != 1, plan.brightness_probability),
        "contrast": (p.contrast != 1, plan.contrast_probability),
        "zoom": (p.zoom[:, 0, 0] != 1, plan.low_resolution_probability * plan.per_channel_probability),
        "inverted_gamma": (p.inverted_gamma != 1, plan.inverted_gamma_probability),
        "gamma": (p.gamma != 1, plan.gamma_probability),
        "mirror": (p.mirror[:, 0], 0.5),
    }
    for name, (happened, expected) in drawn.items():
        assert happened.float().mean().item() == pytest.approx(expected, abs=0.025), name
    assert not p.mirror[:, 1].any()
    for values, (low, high) in (
        (p.brightness, plan.brightness),
        (p.contrast, plan.contrast),
        (p.gamma, plan.gamma),
        (p.zoom, plan.low_resolution),
        (p.blur[p.blur > 0], plan.blur),
        (p.noise, plan.noise),
        (torch.linalg.det(p.matrix) ** (1 / 3), plan.scale),
    ):
        assert low - 1e-4 <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high + 1e-4
    changed = p.gamma[p.gamma != 1]
    assert (changed < 1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_rotations_stay_within_the_planned_angles():
    config = configuration(replace(NOTHING, rotation_probability=1.0, rotation=20.0))
    matrices = draw_parameters(config, 2000, generator()).matrix
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand(2000, 3, 3), rtol=0, atol=1e-5)
    # R = Rz Ry Rx holds the angle about axis 1 alone in its lower left corner.
    angle = (-matrices[:, 2, 0]).asin().rad2deg().abs()
    assert 19 < angle.max() <= 20.001


@pytest.mark.parametrize(
    ("patch", "in_plane", "expected"),
    [
        ((64, 64, 64), 180.0, (30.0, 30.0, 30.0)),
        ((16, 64, 64), 180.0, (180.0, 0.0, 0.0)),
        ((16, 64, 64), 10.0, (10.0, 0.0, 0.0)),
        ((64, 64), 180.0, (180.0,)),
        ((128, 64), 180.0, (15.0,)),
        ((128, 64), 5.0, (5.0,)),
    ],
)
def test_rotation_limits(patch, in_plane, expected):
    config = configuration(Augmentation(rotation_in_plane=in_plane), patch=patch)
    assert rotation_limits(config) == expected


def test_thin_patches_are_transformed_slice_by_slice():
    config = configuration(replace(ALWAYS, noise_probability=0.0), patch=(4, 16, 16))
    parameters = draw_parameters(config, 50, generator())
    torch.testing.assert_close(parameters.matrix[:, 0], torch.tensor([1.0, 0, 0]).expand(50, 3))
    assert (parameters.matrix[:, 1:, 0] == 0).all()
    assert (parameters.zoom[..., 0] == 1).all()
    assert (parameters.zoom[..., 1] < 1).any()


@pytest.mark.parametrize(
    ("augmentation", "patch", "spacing", "expected"),
    [
        # nnU-Net loads 205 voxels for a rotation by 30 degrees; an equal margin on both sides makes it 204.
        (Augmentation(), (128, 128, 128), (1.0, 1.0, 1.0), (38, 38, 38)),
        (NOTHING, (128, 128, 128), (1.0, 1.0, 1.0), (0, 0, 0)),
        (replace(NOTHING, scale_probability=0.2), (64, 32, 32), (2.0, 1.0, 1.0), (5, 2, 2)),
        (Augmentation(), (16, 64, 64), (3.0, 1.0, 1.0), (0, 5, 5)),
        (Augmentation(), (64, 64), (None, 1.0, 1.0), (5, 5)),
    ],
)
def test_largest_margins(augmentation, patch, spacing, expected):
    assert largest_margins(configuration(augmentation, patch=patch, spacing=spacing)) == expected


@pytest.mark.parametrize("sigma", [(0.5, 0.8, 1.0), (1.3, 0.5, 0.7)])
def test_blur_equals_scipys(sigma):
    image = torch.randn(2, 9, 10, 11)
    expected = image[1].numpy()
    for axis, width in enumerate(sigma):
        radius = max(1, round(3 * width))
        expected = ndimage.gaussian_filter1d(expected, width, axis, mode="nearest", radius=radius)
    untouched = image[0].clone()
    intensity.blur(image, torch.tensor([(0, 0, 0), sigma]))
    np.testing.assert_allclose(image[1].numpy(), expected, atol=1e-5)
    assert torch.equal(image[0], untouched)


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_contrast_equals_batchgenerators(factor):
    image = torch.randn(1, 8, 8, 8) * 2 + 1
    expected = color_augmentations.augment_contrast(image.numpy().copy(), lambda: factor)
    intensity.change_contrast(image, torch.tensor([factor]))
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_brightness_equals_batchgenerators(factor):
    image = torch.randn(1, 8, 8, 8)
    expected = color_augmentations.augment_brightness_multiplicative(image.numpy().copy(), (factor, factor))
    intensity.change_brightness(image, torch.tensor([factor]))
    np.testing.assert_allclose(image.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("exponent", [1.0001, 1.5])
def test_gamma_equals_batchgenerators(exponent, inverted):
    image = torch.randn(1, 8, 8, 8) * 3 - 1
    expected = color_augmentations.augment_gamma(
        image.numpy().copy(), (exponent, exponent), invert_image=inverted, per_channel=True, retain_stats=True
    )
    intensity.change_gamma(image, torch.tensor([exponent]), inverted=inverted)
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-4)


def test_gamma_keeps_mean_and_deviation():
    image = torch.rand(1, 10, 10, 10) ** 2
    mean, std = image.mean().item(), image.std().item()
    intensity.change_gamma(image, torch.tensor([0.7]))
    assert (image.mean().item(), image.std().item()) == pytest.approx((mean, std), rel=1e-4)


def test_low_resolution_resembles_batchgenerators():
    ramp = torch.linspace(0, 1, 24).view(1, 24, 1, 1).expand(1, 24, 8, 8).clone()
    expected = resample_augmentations.augment_linear_downsampling_scipy(
        ramp.numpy().copy(), zoom_range=(0.5, 0.5), per_channel=True, order_downsample=0, order_upsample=1
    )
    untouched = ramp.clone()
    intensity.lower_resolution(ramp, torch.tensor([[0.5, 1.0, 1.0]]))
    assert not torch.equal(ramp, untouched)
    np.testing.assert_allclose(ramp.numpy(), expected, atol=0.05)


def test_noise_has_the_drawn_deviation_and_touches_no_other_sample():
    image = torch.zeros(2, 1, 20, 20, 20)
    intensity.add_noise(image, torch.tensor([0.0, 0.08]), torch.tensor([1, 2]))
    assert image[0].abs().max() == 0
    assert image[1].std().item() == pytest.approx(0.08, rel=0.05)
    assert image[1].mean().item() == pytest.approx(0, abs=0.005)


def test_a_batch_that_was_not_drawn_for_is_refused():
    image, labels = a_batch((16, 12, 12))
    with pytest.raises(ValueError, match="drawn for"):
        apply(unchanged(configuration(), 3), image, labels)
    with pytest.raises(ValueError, match="drawn for"):
        apply(unchanged(configuration(), 2), image, labels, labels)
    with pytest.raises(ValueError, match="smaller"):
        apply(unchanged(configuration(), 2), image[..., :8], labels[..., :8])


def test_autocast_does_not_blur_positions():
    config = configuration(patch=(12, 12, 12))
    image, labels = a_batch((16, 16, 16), b=1)
    parameters = moved_by(config, [10.0, 20.0, -15.0])
    expected = apply(parameters, image, labels)
    with torch.autocast("cpu", torch.bfloat16):
        result = apply(parameters, image, labels)
    assert torch.equal(result[0], expected[0])
    assert torch.equal(result[1], expected[1])
