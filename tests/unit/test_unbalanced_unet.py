from __future__ import annotations

import pytest
import torch

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.attention import ChannelAttention
from autospine.networks.blocks import ConvBlock, ResidualBlock
from autospine.networks.unbalanced_unet import paired_stage

OPTIONS = [
    pytest.param({}, id="default"),
    pytest.param({"residual": False}, id="plain"),
    pytest.param({"decoder_width": 1.0}, id="wide"),
    pytest.param({"attention": "cbam"}, id="cbam"),
    pytest.param({"attention": "se"}, id="se"),
]


def spec(features, dimensions, encoder=3, decoder=1, strides=None, kernels=None, **options):
    stages = len(features)
    return NetworkSpec(
        "unbalanced_unet",
        features,
        kernels or ((3,) * dimensions,) * stages,
        strides or ((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        (encoder,) * stages,
        (decoder,) * (stages - 1),
        options,
    )


def small(dimensions=3, **settings):
    return spec((4, 8, 8), dimensions, **settings)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


# Millions, stated for 26 classes and stacks of plain convolutions, which is residual=False; additions
# between convolutions have no weights, so that residual=True has as many.
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("encoder", "decoder", "width", "millions"),
    [(2, 2, 1.0, 31.2), (3, 1, 1.0, 34.0), (4, 1, 1.0, 41.8), (2, 1, 1.0, 26.1), (3, 1, 0.5, 26.4)],
)
def test_number_of_parameters(encoder, decoder, width, millions, residual):
    features = (32, 64, 128, 256, 320, 320)
    shape = spec(features, 3, encoder, decoder, decoder_width=width, residual=residual)
    with torch.device("meta"):
        network = networks.build(shape, 1, 26)
    assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.07)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(16, 8), (9, 15), (3, 2), (8, 8, 12), (7, 9, 5), (1, 1, 1)])
def test_stages_are_finest_first_and_the_first_is_the_output(size, options):
    network = networks.build(small(len(size), **options), 2, 5).eval()
    image = torch.randn(1, 2, *size)
    stages = network.forward_stages(image)
    assert [tuple(stage.shape) for stage in stages] == [(1, 5, *size), (1, 5, *(-(-n // 2) for n in size))]
    torch.testing.assert_close(network(image), stages[0], rtol=0, atol=0)


def test_anisotropic_strides_keep_the_shape():
    kernels, strides = ((1, 3, 3),) * 2 + ((3, 3, 3),), ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    network = networks.build(small(kernels=kernels, strides=strides, attention="cbam"), 1, 2)
    assert network(torch.randn(1, 1, 3, 8, 13)).shape == (1, 2, 3, 8, 13)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_is_trained_by_all_stages(dimensions, options):
    torch.manual_seed(0)
    network = networks.build(small(dimensions, **options), 1, 3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for module in network.modules():
        if isinstance(module, ChannelAttention):
            torch.nn.init.ones_(module.squeeze.bias)  # so that not all of its few rectifiers are closed
    image = torch.randn(2, 1, *(16, 16, 8)[:dimensions])
    sum(stage.square().sum() for stage in network.forward_stages(image)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    # Normalisation cancels the bias of the convolution before it; nothing else is without effect.
    silent = [name for name, parameter in network.named_parameters() if parameter.grad.abs().max() < 1e-6]
    assert all(name.endswith("conv.bias") for name in silent)


@pytest.mark.parametrize(
    ("convolutions", "blocks"),
    [
        (1, [ConvBlock]),
        (2, [ConvBlock, ConvBlock]),
        (3, [ConvBlock, ResidualBlock]),
        (4, [ConvBlock, ConvBlock, ResidualBlock]),
        (5, [ConvBlock, ResidualBlock, ResidualBlock]),
    ],
)
def test_additions_are_around_pairs_of_convolutions(convolutions, blocks):
    stage = paired_stage(2, 4, (3, 3), convolutions, (2, 2))
    assert [type(block) for block in stage] == blocks
    assert stage(torch.randn(1, 2, 8, 8)).shape == (1, 4, 4, 4)


def test_decoder_has_its_share_of_the_features_and_at_least_one():
    network = networks.build(small(2, decoder_width=0.5), 1, 3)
    assert [head.in_channels for head in network.heads] == [4, 2]
    network = networks.build(small(2, decoder_width=0.01), 1, 3)
    assert [head.in_channels for head in network.heads] == [1, 1]


def test_the_decoder_may_be_the_heavier_half():
    network = networks.build(small(2, encoder=1, decoder=3), 1, 3)
    assert [len(stage) for stage in network.encoder] == [1, 1, 1]
    assert [len(stage) for stage in network.decoder] == [3, 3]


def test_attention_weighs_every_skip_and_is_off_unless_asked_for():
    network = networks.build(small(attention="se"), 1, 3)
    assert [join.attention.mode for join in network.joins] == ["se", "se"]
    assert not any(isinstance(m, ChannelAttention) for m in networks.build(small(), 1, 3).modules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_width": 0.0}, "width 0"),
        ({"attention": "gate"}, "attention"),
        ({"width": 0.5}, "width"),
        ({"strides": ((1, 1, 1),)}, "3 stages"),
    ],
)
def test_what_does_not_exist_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        networks.build(small(**changes), 1, 2)


def test_autocast_trains():
    network = networks.build(small(attention="cbam"), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(1, 1, 8, 8, 8))
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def picture():
    """A noisy disc and a noisy square, and their labels."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    labels = ((y - 9) ** 2 + (x - 10) ** 2 < 36).long()
    labels[18:28, 16:28] = 2
    return (labels[None, None] / 2 + 0.1 * torch.randn(1, 1, 32, 32)), labels[None]


def test_it_learns_a_picture():
    image, labels = picture()
    network = networks.build(spec((8, 16, 16), 2, attention="cbam"), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image), labels).backward()
        optimiser.step()
    found = network.eval()(image).argmax(1)
    for value in (1, 2):
        truth, guess = labels == value, found == value
        assert 2 * (truth & guess).sum() / (truth.sum() + guess.sum()) > 0.9


def test_saved_weights_give_the_same_outputs(tmp_path):
    image = torch.randn(1, 1, 8, 8, 8)
    network = networks.build(small(attention="cbam"), 1, 3)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = networks.build(small(attention="cbam"), 1, 3)
    assert not torch.equal(other(image), network(image))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(other(image), network(image), rtol=0, atol=0)
