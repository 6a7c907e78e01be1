from __future__ import annotations

import weakref

import pytest
import torch

from autospine import networks
from autospine.core.errors import UnknownPluginError, UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import InstanceNorm, ResidualBlock
from autospine.networks.unet import plain_unet, residual_unet

RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)


def spec(name, features, kernels, strides):
    stages = len(features)
    if name == "plain_unet":
        return NetworkSpec(name, features, kernels, strides, (2,) * stages, (2,) * (stages - 1))
    return NetworkSpec(name, features, kernels, strides, RESIDUAL_BLOCKS[:stages], (1,) * (stages - 1))


def uniform(name, stages, dimensions):
    """nnU-Net's features, with kernel 3 and stride 2 on every axis."""
    features = tuple(min(32 * 2**i, 320 if dimensions == 3 else 512) for i in range(stages))
    strides = ((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1)
    return spec(name, features, ((3,) * dimensions,) * stages, strides)


def anisotropic(name, features=(32, 64, 128, 256, 320, 320)):
    kernels = ((1, 3, 3),) * 2 + ((3, 3, 3),) * 4
    strides = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))
    return spec(name, features, kernels[: len(features)], strides[: len(features)])


def small(name, dimensions=3):
    strides = ((1,) * dimensions, (2,) * dimensions, (2,) * dimensions)
    return spec(name, (4, 8, 8), ((3,) * dimensions,) * 3, strides)


# Counted in dynamic-network-architectures 0.4.4, as nnunetv2 2.8.1 builds it, with the same plans.
PARAMETERS = [
    pytest.param(uniform("plain_unet", 8, 2), 1, 27, 46_375_133, id="plain-2d"),
    pytest.param(uniform("plain_unet", 6, 3), 1, 27, 31_215_719, id="plain-3d"),
    pytest.param(anisotropic("plain_unet"), 1, 6, 30_342_174, id="plain-3d-anisotropic"),
    pytest.param(uniform("residual_unet", 8, 2), 1, 3, 140_019_061, id="residual-2d"),
    pytest.param(uniform("residual_unet", 6, 3), 1, 27, 102_369_895, id="residual-3d"),
    pytest.param(anisotropic("residual_unet"), 27, 27, 101_299_559, id="residual-3d-cascade"),
]


@pytest.mark.parametrize(("spec", "channels", "classes", "expected"), PARAMETERS)
def test_number_of_parameters_is_that_of_nnunet(spec, channels, classes, expected):
    with torch.device("meta"):
        network = networks.build(spec, channels, classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("name", ["plain_unet", "residual_unet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_stages_are_finest_first_and_the_first_is_the_output(name, dimensions):
    network = networks.build(small(name, dimensions), 2, 5).eval()
    image = torch.randn(2, 2, *(16, 8, 12)[:dimensions])
    stages = network.forward_stages(image)
    assert [tuple(stage.shape) for stage in stages] == [
        (2, 5, *(16, 8, 12)[:dimensions]),
        (2, 5, *(8, 4, 6)[:dimensions]),
    ]
    torch.testing.assert_close(network(image), stages[0], rtol=0, atol=0)


def test_inference_leaves_the_coarse_heads_alone():
    network = plain_unet(small("plain_unet"), 1, 3)
    network(torch.randn(1, 1, 8, 8, 8)).sum().backward()
    assert network.heads[0].weight.grad is None
    assert network.heads[-1].weight.grad is not None


@pytest.mark.parametrize("name", ["plain_unet", "residual_unet"])
def test_every_parameter_is_trained_by_all_stages(name):
    torch.manual_seed(0)
    network = networks.build(small(name), 1, 3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    sum(stage.square().sum() for stage in network.forward_stages(torch.randn(2, 1, 8, 8, 8))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    # Normalisation cancels the bias of the convolution before it; nothing else is without effect.
    silent = [name for name, parameter in network.named_parameters() if parameter.grad.abs().max() < 1e-6]
    assert all(name.endswith("conv.bias") for name in silent)


def test_anisotropic_strides_keep_the_shape():
    network = networks.build(anisotropic("residual_unet", (4, 4, 4, 4)), 1, 2)
    assert network(torch.randn(1, 1, 4, 16, 24)).shape == (1, 2, 4, 16, 24)


@pytest.mark.parametrize("name", ["plain_unet", "residual_unet"])
@pytest.mark.parametrize("size", [(9, 16), (7, 3), (9, 6, 8), (3, 5, 7), (1, 1, 1), (4, 4, 4)])
def test_images_may_have_any_size(name, size):
    network = networks.build(small(name, len(size)), 1, 3)
    stages = network.forward_stages(torch.randn(1, 1, *size))
    assert [tuple(stage.shape) for stage in stages] == [(1, 3, *size), (1, 3, *(-(-n // 2) for n in size))]


def test_an_odd_image_is_seen_as_if_its_last_voxels_went_on():
    network = networks.build(small("plain_unet", 2), 1, 3)
    image = torch.randn(1, 1, 10, 13)
    whole = torch.cat((image, image[:, :, -1:], image[:, :, -1:]), dim=2)
    whole = torch.cat((whole, *[whole[..., -1:]] * 3), dim=3)
    torch.testing.assert_close(network(image), network(whole)[:, :, :10, :13], rtol=0, atol=0)


def test_an_image_that_fits_is_not_cropped():
    outputs = networks.build(small("plain_unet", 2), 1, 3)(torch.randn(1, 1, 8, 16))
    assert "Convolution" in outputs.grad_fn.name()


def test_skips_are_let_go_of_before_the_stage_that_used_them_runs():
    network = plain_unet(small("plain_unet", 2), 1, 3)
    skips, alive = [], []
    for stage in network.encoder[:-1]:
        stage.register_forward_hook(lambda _module, _inputs, output: skips.append(weakref.ref(output)))
    for stage in network.decoder:
        stage.register_forward_pre_hook(
            lambda _module, _inputs: alive.append([skip() is not None for skip in skips])
        )
    with torch.no_grad():
        network(torch.randn(1, 1, 8, 8))
    assert alive == [[True, False], [False, False]]


def test_weights_keep_their_names():
    parts = {}
    for name in ("plain_unet", "residual_unet"):
        keys = networks.build(small(name), 1, 3).state_dict()
        parts[name] = sorted({key.rpartition(".")[0] for key in keys})
    conv_and_norm = ("conv", "norm")
    decoder = [f"decoder.{i}.{j}.{part}" for i in (0, 1) for j in (0, 1) for part in conv_and_norm]
    rest = [f"{part}.{i}" for part in ("heads", "upsamplings") for i in (0, 1)]
    encoder = [f"encoder.{i}.{j}.{part}" for i in (0, 1, 2) for j in (0, 1) for part in conv_and_norm]
    assert parts["plain_unet"] == sorted(decoder + encoder + rest)
    # One block in the decoder; a stem before the first residual block; a projection where features grow.
    decoder = [f"decoder.{i}.0.{part}" for i in (0, 1) for part in conv_and_norm]
    blocks = ["0.1", *(f"1.{j}" for j in range(3)), *(f"2.{j}" for j in range(4))]
    encoder = [
        f"encoder.{b}.{c}.{part}" for b in blocks for c in ("first", "second") for part in conv_and_norm
    ]
    around = [f"encoder.{where}.{part}" for where in ("0.0", "1.0.skip.1") for part in conv_and_norm]
    assert parts["residual_unet"] == sorted(decoder + encoder + around + rest)


@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (2, 6, 3, 4, 5)])
def test_instance_norm_equals_pytorchs(shape):
    norm = InstanceNorm(6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(shape) * 3 + 2
    expected = torch.nn.functional.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=1e-5)
    torch.testing.assert_close(norm(x), expected)


def test_instance_norm_stays_in_the_precision_of_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert InstanceNorm(4)(torch.randn(1, 4, 8, 8).bfloat16()).dtype == torch.bfloat16


def test_residual_blocks_begin_as_identities():
    network = residual_unet(small("residual_unet"), 1, 2)
    block = network.encoder[1][1]
    assert isinstance(block, ResidualBlock)
    x = torch.rand(1, 8, 4, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_weights_follow_he():
    network = plain_unet(spec("plain_unet", (32, 64), ((3,) * 3,) * 2, ((1,) * 3, (2,) * 3)), 1, 2)
    conv = network.encoder[1][1].conv
    expected = (2 / (1 + 0.01**2) / (64 * 27)) ** 0.5
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert conv.bias.abs().max() == 0


def test_autocast_trains():
    network = residual_unet(small("residual_unet"), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(1, 1, 8, 8, 8))
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (4,)}, "two stages"),
        ({"kernels": ((3, 3, 3),)}, "3 stages"),
        ({"decoder_blocks": (1, 1, 1)}, "3 stages"),
        ({"strides": ((1, 1), (2, 2), (2, 2))}, "axes"),
        ({"kernels": ((3, 3, 3), (2, 3, 3), (3, 3, 3))}, "odd"),
        ({"strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2))}, "stride one"),
        ({"features": (4, 0, 8)}, "at least one"),
        ({"encoder_blocks": (2, 0, 2)}, "at least one"),
    ],
)
def test_contradictory_specifications_are_refused(changes, message):
    wrong = NetworkSpec(**(vars(small("plain_unet")) | changes))
    with pytest.raises(UsageError, match=message):
        networks.build(wrong, 1, 2)


def test_unknown_network_is_refused():
    with pytest.raises(UnknownPluginError, match="plain_unet"):
        networks.build(small("plain_nnet"), 1, 2)
