from __future__ import annotations

import pytest
import torch

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.vnet import VStage

ENCODER, DECODER = (1, 2, 3, 3, 3), (3, 3, 2, 1)


def spec(features, dimensions, strides=None, kernels=None, **options):
    stages = len(features)
    return NetworkSpec(
        "vnet",
        features,
        kernels or ((5,) * dimensions,) * stages,
        strides or ((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        ENCODER[:stages],
        DECODER[len(DECODER) - stages + 1 :],
        options,
    )


def small(dimensions=3, **settings):
    return spec((2, 4, 8), dimensions, **settings)


@pytest.mark.parametrize(("width", "millions"), [(8, 16.3), (16, 65.2)])
def test_number_of_parameters_is_that_of_altini(width, millions):
    with torch.device("meta"):
        network = networks.build(spec(tuple(width * 2**i for i in range(5)), 3), 1, 2)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_layers_are_those_of_altini():
    with torch.device("meta"):
        network = networks.build(spec((8, 16, 32, 64, 128), 3), 1, 2)
    kernels = [m for m in network.modules() if isinstance(m, torch.nn.Conv3d) and m.kernel_size == (5, 5, 5)]
    widths = [conv.out_channels for conv in kernels]
    assert widths[:12] == [8] + 2 * [16] + 3 * [32] + 3 * [64] + 3 * [128]
    assert widths[12:] == 3 * [128] + 3 * [64] + 2 * [32] + [16]
    assert [up[0].out_channels for up in network.upsamplings] == [64, 32, 16, 8]


@pytest.mark.parametrize("size", [(16, 8), (9, 15), (1, 1), (8, 8, 12), (7, 9, 5), (4, 3, 2)])
def test_output_has_the_size_of_the_image(size):
    network = networks.build(small(len(size)), 2, 5)
    assert network(torch.randn(1, 2, *size)).shape == (1, 5, *size)


def test_anisotropic_strides_keep_the_shape():
    kernels, strides = ((1, 5, 5),) * 2 + ((5, 5, 5),), ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    network = networks.build(small(kernels=kernels, strides=strides), 1, 2)
    assert network(torch.randn(1, 1, 3, 8, 13)).shape == (1, 2, 3, 8, 13)
    assert network.encoder[1][0].kernel_size == (1, 2, 2)


def test_the_only_stage_is_the_output():
    network = networks.build(small(2), 1, 3)
    image = torch.randn(2, 1, 8, 8)
    (stage,) = network.forward_stages(image)
    torch.testing.assert_close(stage, network(image), rtol=0, atol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_is_trained(dimensions):
    torch.manual_seed(0)
    network = networks.build(small(dimensions), 1, 3)
    network(torch.randn(2, 1, *(16, 16, 8)[:dimensions])).square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    # Normalisation cancels the bias of the convolution before it; nothing else is without effect.
    silent = [name for name, parameter in network.named_parameters() if parameter.grad.abs().max() < 1e-5]
    assert all(name.endswith(("conv.bias", ".0.bias")) for name in silent)


@pytest.mark.parametrize(
    ("channels", "added"), [(1, [0, 0, 0, 0]), (2, [0, 1, 0, 1]), (3, [0, 1, 2, 0]), (6, [0, 1, 2, 3])]
)
def test_an_image_is_added_to_every_feature_whatever_its_channels(channels, added):
    stage = VStage(channels, 4, (3, 3), blocks=2)
    last = stage.convs[-1].norm
    torch.nn.init.zeros_(last.weight)
    image = torch.rand(1, channels, 6, 6)
    torch.testing.assert_close(stage(image), image[:, added])


def test_a_stage_can_take_away_from_its_input():
    stage = VStage(4, 4, (3, 3), blocks=1)
    torch.nn.init.zeros_(stage.convs[-1].norm.weight)
    torch.nn.init.constant_(stage.convs[-1].norm.bias, -1.0)
    assert (stage(torch.rand(1, 4, 6, 6)) == 0).all()


def test_options_are_refused():
    with pytest.raises(UsageError, match="no option 'elu'"):
        networks.build(small(elu=True), 1, 2)


def test_contradictory_specifications_are_refused():
    with pytest.raises(UsageError, match="3 stages"):
        networks.build(small(kernels=((5, 5, 5),)), 1, 2)


@pytest.mark.parametrize("thickness", [3, 4, 8])
def test_gradients_in_bfloat16_are_those_in_float32(thickness):
    torch.manual_seed(0)
    stage, x = VStage(16, 16, (5, 5, 5), blocks=1), torch.randn(1, 16, thickness, 4, 4)
    target = torch.randn_like(x)

    def gradient(precision):
        stage.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            y = stage(x.to(precision))
        stale = [torch.full((2**n,), torch.nan) for n in range(4, 21) for _ in range(2)]
        del stale  # memory that nobody writes to again is not a number from now on
        (y * target).sum().backward()
        return stage.convs[0].conv.weight.grad.clone()

    exact = gradient(torch.float32)
    assert (gradient(torch.bfloat16) - exact).norm() < 0.1 * exact.norm()


def test_autocast_trains():
    network = networks.build(small(), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(1, 1, 16, 16, 16))
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_it_learns_a_volume():
    torch.manual_seed(0)
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    labels[:, 3:12, 4:12, 5:14] = 1
    image = labels.float() + 0.5 * torch.randn(1, 16, 16, 16)
    network = networks.build(spec((4, 8), 3), 1, 2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image[None]), labels).backward()
        optimiser.step()
    found = network(image[None]).argmax(1)
    both = ((found == 1) & (labels == 1)).sum()
    assert 2 * both / (found.sum() + labels.sum()) > 0.9


def test_saved_weights_give_the_same_output(tmp_path):
    network, other = (networks.build(small(2), 1, 2) for _ in range(2))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    image = torch.randn(1, 1, 8, 8)
    assert not torch.equal(network(image), other(image))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(network(image), other(image), rtol=0, atol=0)
