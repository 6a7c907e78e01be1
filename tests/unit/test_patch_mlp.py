from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.losses import downsample
from autospine.networks.patch_mlp import activations, hidden_layers
from autospine.networks.unet import plain_unet


def spec(features, dimensions, patch, stride):
    ones = ((1,) * dimensions,) * len(features)
    strides = ((stride,) * dimensions, *ones[1:])
    blocks = (1,) * len(features)
    options = {"patch": patch, "stride": stride}
    return NetworkSpec("patch_mlp", features, ones, strides, blocks, blocks[1:], options)


def small(dimensions=2, outputs=3, channels=1):
    torch.manual_seed(0)
    return networks.build(spec((16, 8), dimensions, 8, 4), channels, outputs)


def explicit(network, image, patch, stride):
    """Outputs of one patch after the other, cut out of the image with its border repeated around it."""
    dimensions, before = image.ndim - 2, (patch - stride) // 2
    after = [before + -n % stride for n in image.shape[2:]]
    framed = F.pad(image, [n for length in reversed(after) for n in (before, length)], mode="replicate")
    patches = framed
    for axis in range(2, 2 + dimensions):
        patches = patches.unfold(axis, patch, stride)
    counts = patches.shape[2 : 2 + dimensions]
    channels_last = patches.movedim(1, 1 + dimensions)  # (b, *counts, c, *patch)
    x = channels_last.reshape(len(image) * counts.numel(), -1)
    for layer in network.layers:
        x = torch.sigmoid(x @ layer.weight.flatten(1).T + layer.bias)
    x = x @ network.head.weight.flatten(1).T + network.head.bias
    return x.reshape(len(image), *counts, -1).movedim(-1, 1)


@pytest.mark.parametrize(
    ("features", "outputs", "expected"), [((512, 256), 1, 656_385), ((512, 256, 128), 2, 689_282)]
)
def test_number_of_parameters(features, outputs, expected):
    with torch.device("meta"):
        network = networks.build(spec(features, 2, 32, 4), 1, outputs)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize(
    ("patch", "stride", "size"),
    [
        (8, 4, (16, 24)),
        (8, 8, (16, 8)),
        (6, 4, (13, 9)),
        (8, 2, (5, 12)),
        (7, 3, (10, 11)),
        (5, 1, (6, 7)),
        (32, 4, (40, 36)),
        (4, 2, (6, 4, 8)),
        (6, 4, (7, 9, 5)),
        (5, 3, (4, 6, 7)),
    ],
)
def test_convolutions_equal_a_perceptron_on_every_patch(patch, stride, size):
    torch.manual_seed(0)
    network = networks.build(spec((12, 6), len(size), patch, stride), 2, 3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = torch.rand(2, 2, *size)
    (stage,) = network.forward_stages(image)
    assert stage.shape == (2, 3, *(-(-n // stride) for n in size))
    torch.testing.assert_close(stage, explicit(network, image, patch, stride), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (9, 3), (4, 4)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_outputs_lie_where_their_patches_have_their_middle(patch, stride, dimensions):
    """A ramp comes out as the ramp that it is, away from the border."""
    network = networks.build(spec((4,), dimensions, patch, stride), 1, 1)
    with torch.no_grad():
        network.layers[0].weight.fill_(1e-3 / patch**dimensions)
        network.head.weight.zero_()
        network.head.weight[0, 0] = 4e3
        network.head.bias.fill_(-2e3)
    ramp = torch.arange(36.0).expand(1, 1, *(36,) * dimensions).contiguous()
    inner = (..., slice(8, 28))
    torch.testing.assert_close(network(ramp)[inner], ramp[inner], rtol=0, atol=2e-3)


@pytest.mark.parametrize("size", [(16, 8), (9, 15), (1, 1), (8, 12, 8), (7, 9, 5), (4, 3, 2)])
def test_output_has_the_size_of_the_image(size):
    network = small(len(size), outputs=5, channels=2)
    assert network(torch.randn(1, 2, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_is_trained_on_the_grid_of_patches(dimensions):
    network = small(dimensions)
    (stage,) = network.forward_stages(torch.randn(2, 1, *(8, 12, 16)[:dimensions]))
    stage.square().sum().backward()
    for parameter in network.parameters():
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_autocast_trains(dimensions):
    network, image = small(dimensions), torch.rand(1, 1, *(16,) * dimensions)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(image)
    outputs.float().square().sum().backward()
    assert outputs.dtype == torch.bfloat16
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    torch.testing.assert_close(outputs.float(), network(image), rtol=0.05, atol=0.02)


def test_frozen_layers_do_not_keep_the_head_from_learning():
    network = small()
    network.layers.requires_grad_(False)
    network(torch.rand(1, 1, 8, 8)).sum().backward()
    assert network.head.weight.grad.abs().max() > 0
    assert network.layers[0].weight.grad is None


def test_hidden_layers_see_flattened_patches():
    network = small(3, channels=2)
    layers, patches = hidden_layers(network), torch.rand(5, 2, 8, 8, 8)
    assert [tuple(layer.weight.flatten(1).shape) for layer in layers] == [(16, 2 * 8**3), (8, 16)]
    torch.testing.assert_close(activations([], patches), patches.flatten(1), rtol=0, atol=0)
    expected = F.conv3d(patches, layers[0].weight, layers[0].bias).sigmoid().flatten(1)
    torch.testing.assert_close(activations(layers[:1], patches), expected)
    assert activations(layers, patches).shape == (5, 8)


def test_other_networks_have_no_hidden_layers():
    unet = NetworkSpec("plain_unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), (1, 1), (1,))
    with pytest.raises(UsageError, match=r"pretraining\.method"):
        hidden_layers(plain_unet(unet, 1, 2))


def test_weights_follow_glorot():
    torch.manual_seed(0)
    network = networks.build(spec((128, 64), 2, 16, 4), 1, 50)
    for layer, gain in (*((layer, 4) for layer in network.layers), (network.head, 1)):
        units, inputs = layer.weight.flatten(1).shape
        expected = gain * (2 / (units + inputs)) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert layer.bias.abs().max() == 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_picture_is_learnt(dimensions):
    generator = torch.Generator().manual_seed(0)
    size = (48, 48, 20)[:dimensions]
    axes = torch.meshgrid(*(torch.arange(n) - n / 2 for n in size), indexing="ij")
    labels = ((axes[0] + 10) ** 2 + axes[1] ** 2 < 100).long()
    labels[(axes[0] - 11).abs().maximum(axes[1].abs()) < 9] = 2
    image = torch.tensor([0.1, 0.9, 0.5])[labels] + 0.05 * torch.randn(size, generator=generator)
    torch.manual_seed(0)
    network = networks.build(spec((64, 32), dimensions, 8, 2), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(80):
        (stage,) = network.forward_stages(image[None, None])
        loss = F.cross_entropy(stage, downsample(labels[None], stage.shape[2:]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = network(image[None, None]).argmax(1)[0]
    for value in (1, 2):
        here, there = found == value, labels == value
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.9


def test_weights_survive_saving():
    network, copy = small(), networks.build(spec((16, 8), 2, 8, 4), 1, 3)
    copy.load_state_dict(network.state_dict())
    image = torch.rand(1, 1, 12, 9)
    torch.testing.assert_close(copy(image), network(image), rtol=0, atol=0)


def test_the_first_kernel_may_be_the_patch():
    network = networks.build(replace(spec((16, 8), 2, 8, 4), kernels=((8, 8), (1, 1))), 1, 3)
    assert network.layers[0].weight.shape == (16, 1, 8, 8)
    assert network.patch == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ()}, "at least one"),
        ({"features": (4,)}, "1 layers need"),
        ({"strides": ((4, 4),)}, "2 layers need"),
        ({"strides": ((4, 4, 4), (1, 1, 1))}, "axes"),
        ({"strides": ((2, 2), (1, 1))}, "product"),
        ({"strides": ((4, 2), (1, 1))}, "product"),
        ({"kernels": ((8, 8), (3, 3))}, "kernel"),
        ({"kernels": ((3, 3), (1, 1))}, "kernel"),
        ({"options": {"patch": 7, "stride": 4}}, "both"),
        ({"options": {"patch": 2, "stride": 4}}, "between"),
        ({"options": {"patch": 8, "stride": 0}}, "between"),
        ({"options": {"size": 8}}, "no option"),
    ],
)
def test_contradictory_specifications_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        networks.build(replace(spec((16, 8), 2, 8, 4), **changes), 1, 2)
