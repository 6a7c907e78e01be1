import numpy as np
import pytest
import torch

from autospine.targets import VECTOR_UNIT, centre_targets

SPACING = (2.0, 3.0, 4.0)
PATCH = (8, 6, 10)


@pytest.fixture
def scene():
    """Two samples, the first with the classes 1 and 2, the second with none and a voxel nobody knows."""
    labels = torch.zeros((2, *PATCH), dtype=torch.int8)
    labels[0, 2:4] = 1
    labels[0, 5:7] = 2
    labels[1, 0, 0, 0] = -1
    points = torch.full((2, 3, 3), torch.nan)
    points[0, 1] = torch.tensor([-1.0, 0.5, 0.0])
    points[0, 2] = torch.tensor([2.0, 0.5, 30.0])  # beyond the patch
    return labels, points


def places():
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(PATCH, SPACING, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def test_a_voxels_vector_leads_to_the_centre_of_its_own_vertebra(scene):
    labels, points = scene
    vectors = centre_targets(labels, points, SPACING)[0, 1:].numpy() * VECTOR_UNIT
    for value in (1, 2):
        inside = labels[0].numpy() == value
        reached = (places() + vectors)[:, inside]
        expected = points[0, value].numpy() * SPACING
        np.testing.assert_allclose(reached, np.broadcast_to(expected[:, None], reached.shape), atol=1e-4)


def test_nothing_is_asked_of_background_and_of_vertebrae_without_a_centre(scene):
    labels, points = scene
    points[0, 2] = torch.nan
    vectors = centre_targets(labels, points, SPACING)[:, 1:]
    known = vectors.isfinite().all(1)
    assert torch.equal(known, labels == 1)


def test_the_heat_is_a_gaussian_around_each_centre(scene):
    labels, points = scene
    heat = centre_targets(labels, points, SPACING)[0, 0].numpy()
    centres = points[0, 1:].numpy() * SPACING
    squared = [((places() - c[:, None, None, None]) ** 2).sum(0) for c in centres]
    np.testing.assert_allclose(heat, np.exp(-np.minimum(*squared) / (2 * 6.0**2)), atol=1e-6)


def test_the_heat_is_wide_enough_for_coarse_voxels():
    labels, points = torch.zeros((1, 5, 5, 5), dtype=torch.int8), torch.zeros((1, 2, 3))
    heat = centre_targets(labels, points, (10.0, 10.0, 10.0))[0, 0]
    assert heat[2, 2, 2] == 1
    assert heat[2, 2, 3] == pytest.approx(np.exp(-(10.0**2) / (2 * 12.0**2)))


def test_no_heat_is_asked_for_where_nothing_is_known(scene):
    labels, points = scene
    heat = centre_targets(labels, points, SPACING)[1, 0]
    assert heat[0, 0, 0].isnan()
    assert heat.nan_to_num().abs().sum() == 0
