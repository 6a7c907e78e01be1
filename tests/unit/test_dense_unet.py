from __future__ import annotations

import pytest
import torch

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.network_options import DenseOptions
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import InstanceNorm
from autospine.networks.dense_unet import DenseNetBlock, KolarikBlock

OPTIONS = [
    pytest.param({}, id="kolarik"),
    pytest.param({"dense": "densenet", "layers": 2, "growth": 3}, id="densenet"),
    pytest.param({"dense": "densenet", "layers": 1, "growth": 8, "transition": 1.0}, id="densenet-whole"),
]


def spec(features, dimensions, strides=None, kernels=None, **options):
    stages = len(features)
    return NetworkSpec(
        "dense_unet",
        features,
        kernels or ((3,) * dimensions,) * stages,
        strides or ((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        (2,) * stages,
        (2,) * (stages - 1),
        options,
    )


def small(dimensions=3, **settings):
    return spec((4, 8, 8), dimensions, **settings)


def without_norms(network):
    norms = [module for module in network.modules() if isinstance(module, InstanceNorm)]
    return sum(p.numel() for p in network.parameters()) - sum(2 * norm.channels for norm in norms)


@pytest.mark.parametrize(("dimensions", "millions"), [(2, 15.5), (3, 44.8)])
def test_number_of_parameters_is_that_of_kolarik(dimensions, millions):
    with torch.device("meta"):
        network = networks.build(spec((32, 64, 128, 256, 512), dimensions), 1, 1)
    assert without_norms(network) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(16, 8), (9, 15), (1, 1), (8, 8, 12), (7, 9, 5), (4, 3, 2)])
def test_output_has_the_size_of_the_image(size, options):
    network = networks.build(small(len(size), **options), 2, 5)
    assert network(torch.randn(1, 2, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize("options", OPTIONS)
def test_anisotropic_strides_keep_the_shape(options):
    kernels, strides = ((1, 3, 3),) * 2 + ((3, 3, 3),), ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    network = networks.build(small(kernels=kernels, strides=strides, **options), 1, 2)
    assert network(torch.randn(1, 1, 3, 8, 13)).shape == (1, 2, 3, 8, 13)


def test_the_only_stage_is_the_output():
    network = networks.build(small(2), 1, 3)
    image = torch.randn(2, 1, 8, 8)
    (stage,) = network.forward_stages(image)
    torch.testing.assert_close(stage, network(image), rtol=0, atol=0)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_is_trained(dimensions, options):
    torch.manual_seed(0)
    network = networks.build(small(dimensions, **options), 1, 3)
    network(torch.randn(2, 1, *(16, 16, 8)[:dimensions])).square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    # Normalisation cancels the bias of the convolution before it; nothing else is without effect.
    silent = [name for name, parameter in network.named_parameters() if parameter.grad.abs().max() < 1e-6]
    assert all(name.endswith(".bias") for name in silent)
    assert "head.bias" not in silent


def test_kolarik_blocks_keep_the_input_beside_the_last_convolution():
    block = KolarikBlock(2, 4, (3, 3), layers=2)
    x = torch.randn(1, 2, 6, 6)
    skip, whole = block(x)
    first, second = block.layers
    expected = second(torch.cat((x, first(x)), dim=1))
    torch.testing.assert_close(skip, expected)
    torch.testing.assert_close(whole, torch.cat((x, expected), dim=1))


def test_only_the_deepest_skip_connection_takes_the_whole_output():
    network = networks.build(spec((4, 8, 16, 32), 2), 1, 2)
    # 1 + 4 + 8 channels enter the third stage, and stand beside its own 16.
    assert [block.skip_channels for block in network.encoder] == [4, 8, 13 + 16, 32]
    deepest = network.encoder[2]
    skip, whole = deepest(torch.randn(1, 13, 4, 4))
    assert skip is whole


def test_densenet_blocks_grow_and_are_thinned():
    block = DenseNetBlock(6, (3, 3), DenseOptions("densenet", layers=3, growth=4, transition=0.5))
    x = torch.randn(1, 6, 6, 6)
    grown, kept = block(x)
    assert grown.shape[1] == 6 + 3 * 4
    assert kept.shape[1] == 9
    torch.testing.assert_close(grown[:, :6], x)


def test_the_last_of_three_layers_sees_the_first():
    torch.manual_seed(0)
    block = DenseNetBlock(2, (3, 3), DenseOptions("densenet", layers=3, growth=2))
    x = torch.randn(1, 2, 6, 6)
    grown, _ = block(x)
    torch.testing.assert_close(block.layers[2](grown[:, :6]), grown[:, 6:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 3}, "no option 'blocks'"),
        ({"dense": "sparse"}, "'sparse'"),
        ({"dense": "densenet", "layers": 0}, "0 layers"),
        ({"dense": "densenet", "growth": 0}, "0 features"),
        ({"dense": "densenet", "transition": 1.5}, r"keeps 1\.5"),
        ({"dense": "densenet", "transition": 0.0}, r"keeps 0\.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        networks.build(small(**options), 1, 2)


def test_contradictory_specifications_are_refused():
    with pytest.raises(UsageError, match="3 stages"):
        networks.build(small(kernels=((3, 3, 3),)), 1, 2)


@pytest.mark.parametrize("options", OPTIONS)
def test_autocast_trains(options):
    network = networks.build(small(**options), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(1, 1, 16, 16, 16))
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("options", OPTIONS)
def test_it_learns_a_picture(options):
    torch.manual_seed(0)
    labels = torch.zeros(1, 24, 24, dtype=torch.long)
    labels[:, 3:11, 4:14], labels[:, 13:21, 8:20] = 1, 2
    # Both squares are equally bright: only their surroundings, darker above the one, tell them apart.
    image = (labels > 0).float() + 0.3 * torch.randn(1, 24, 24)
    image[:, :3] -= 2
    network = networks.build(spec((8, 16, 16), 2, **options), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image[None]), labels).backward()
        optimiser.step()
    found = network(image[None]).argmax(1)
    for value in (1, 2):
        both = ((found == value) & (labels == value)).sum()
        assert 2 * both / ((found == value).sum() + (labels == value).sum()) > 0.9


@pytest.mark.parametrize("options", OPTIONS)
def test_saved_weights_give_the_same_output(options, tmp_path):
    network, other = (networks.build(small(2, **options), 1, 2) for _ in range(2))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    image = torch.randn(1, 1, 8, 8)
    assert not torch.equal(network(image), other(image))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(network(image), other(image), rtol=0, atol=0)
