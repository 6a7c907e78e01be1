"""Points follow the images they lie in through rotation, scaling and mirroring."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.augmentation import apply, draw_margins, draw_parameters, move_points
from autospine.core.plan import Augmentation, Configuration, NetworkSpec, Normalisation, Schedule

MOVING = Augmentation(
    rotation_probability=1.0,
    scale_probability=1.0,
    scale=(0.8, 1.25),
    noise_probability=0.0,
    blur_probability=0.0,
    brightness_probability=0.0,
    contrast_probability=0.0,
    low_resolution_probability=0.0,
    inverted_gamma_probability=0.0,
    gamma_probability=0.0,
    mirror_probability=0.5,
)


def configuration(patch, spacing):
    network = NetworkSpec("plain_unet", (4,), ((3, 3, 3),), ((1, 1, 1),), (1,), ())
    return Configuration(
        name="x",
        axes=(0, 1, 2),
        spacing=spacing,
        patch=patch,
        batch_size=1,
        median_shape=(64.0, 64.0, 64.0),
        network=network,
        crop="body",
        normalisation=(Normalisation("ct", -1000, 1000, 0, 1),),
        padding=(0.0,),
        mirror_axes=(0, 1, 2),
        batch_dice=False,
        schedule=Schedule(augmentation=MOVING),
    )


def blob(shape, offset, spacing):
    """A smooth ball of 6 mm around a point given as an offset in voxels from the middle."""
    axes = [(np.arange(n) - (n - 1) / 2 - o) * s for n, o, s in zip(shape, offset, spacing, strict=True)]
    squared = sum(a**2 for a in np.meshgrid(*axes, indexing="ij"))
    return np.exp(-squared / (2 * 6.0**2)).astype(np.float32)


def centre_of_mass(image):
    weights = image / image.sum()
    axes = [np.arange(n) - (n - 1) / 2 for n in image.shape]
    return np.array([(weights * a).sum() for a in np.meshgrid(*axes, indexing="ij")])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    patch=st.tuples(*[st.integers(32, 40)] * 3),
    spacing=st.tuples(*[st.floats(1.5, 3.0)] * 3),
    offset=st.tuples(*[st.floats(-4.0, 4.0)] * 3),
)
def test_a_point_stays_on_what_it_marks(seed, patch, spacing, offset):
    config = configuration(patch, spacing)
    margins = draw_margins(config, 1, torch.Generator().manual_seed(seed))[0]
    size = tuple(n + 2 * margin for n, margin in zip(patch, margins, strict=True))
    image = torch.from_numpy(blob(size, offset, spacing))[None, None]
    labels = torch.zeros((1, *size), dtype=torch.int8)
    parameters = draw_parameters(config, 1, torch.Generator().manual_seed(seed))
    moved, _, _ = apply(parameters, image, labels)
    points = torch.tensor([[offset, [torch.nan] * 3]], dtype=torch.float32)
    found = move_points(parameters, points)
    error = (centre_of_mass(moved[0, 0].numpy()) - found[0, 0].numpy()) * spacing
    assert np.abs(error).max() < 0.5
    assert found[0, 1].isnan().all()
