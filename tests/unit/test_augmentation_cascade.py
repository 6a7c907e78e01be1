from __future__ import annotations

import pytest
import torch
from scipy import ndimage
from skimage.morphology import ball, disk

from autospine.augmentation import cascade, one_hot
from autospine.augmentation.parameters import CascadeParameters


def parameters(classes, operation=-1, radius=1, removal=-1.0, removal_size=0.15):
    """Parameters for one sample: the same damage to every class, in their order."""
    shape = (1, classes - 1)
    return CascadeParameters(
        order=torch.arange(1, classes).view(shape),
        operation=torch.full(shape, operation),
        radius=torch.full(shape, radius),
        removal=torch.full(shape, removal),
        removal_size=removal_size,
    )


def test_one_hot_leaves_the_background_out():
    classes = torch.tensor([[[0, 1], [3, 2]]], dtype=torch.int8)
    expected = torch.nn.functional.one_hot(classes.long(), 4).movedim(-1, 1)[:, 1:].float()
    assert torch.equal(one_hot(classes, 4), expected)


@pytest.mark.parametrize("radius", [1, 2, 5, 8])
@pytest.mark.parametrize("shape", [(14, 12, 13), (20, 6)])
def test_dilation_and_erosion_are_by_balls(shape, radius):
    torch.manual_seed(radius)
    mask = torch.rand(shape) < 0.02
    element = ball(radius) if len(shape) == 3 else disk(radius)
    expected = ndimage.binary_dilation(mask.numpy(), element)
    assert torch.equal(cascade.dilate(mask, radius), torch.from_numpy(expected))
    expected = ndimage.binary_erosion(~mask.numpy(), element, border_value=1)
    assert torch.equal(cascade.erode(~mask, radius), torch.from_numpy(expected))


def dilation(mask, element):
    return ndimage.binary_dilation(mask, element)


def erosion(mask, element):
    return ndimage.binary_erosion(mask, element, border_value=1)


def opening(mask, element):
    return dilation(erosion(mask, element), element)


def closing(mask, element):
    return erosion(dilation(mask, element), element)


@pytest.mark.parametrize(("operation", "expected"), [(0, dilation), (1, erosion), (2, opening), (3, closing)])
def test_operations(operation, expected):
    mask = torch.zeros(16, 16, 16, dtype=torch.bool)
    mask[5:11, 5:11, 5:9] = True
    mask[7, 7, 12] = True
    result = cascade.transform(parameters(2, operation, radius=2), mask[None].to(torch.int8))
    assert torch.equal(result[0, 0].bool(), torch.from_numpy(expected(mask.numpy(), ball(2))))


def test_what_a_class_gains_others_lose():
    classes = torch.zeros(1, 8, 8, 8, dtype=torch.int8)
    classes[..., :4] = 1
    classes[..., 4:] = 2
    only_first = parameters(3, operation=0, radius=2)
    only_first.operation[0, 1] = -1
    result = cascade.transform(only_first, classes)
    assert result[0, 0].sum() == 8 * 8 * 6
    assert result[0, 1].sum() == 8 * 8 * 2
    assert result.sum(1).max() == 1


def test_removal_takes_one_small_component_and_spares_the_large():
    classes = torch.zeros(1, 12, 12, 12, dtype=torch.int8)
    classes[0, :6] = 1
    classes[0, 8, 2:4, 2:4] = 1
    classes[0, 10, 8, 8] = 1
    before = one_hot(classes, 2).sum().item()
    lost = [
        before - cascade.transform(parameters(2, removal=choice), classes.clone()).sum().item()
        for choice in (0.0, 0.49, 0.51, 0.99)
    ]
    assert lost == [4, 4, 1, 1]
    everything = cascade.transform(parameters(2, removal=0.5, removal_size=0.0005), classes.clone())
    assert everything.sum() == before
