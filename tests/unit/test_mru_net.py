from __future__ import annotations

import pytest
import torch

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import InstanceNorm
from autospine.networks.mru_net import InvertedResidual, SliceAttention, SliceConv, SliceStage, VolumeNorm

OPTIONS = [
    pytest.param({}, id="default"),
    pytest.param({"squeeze": False}, id="no-squeeze"),
    pytest.param({"expansion": 1}, id="narrow"),
]


def spec(features, strides=None, kernels=None, blocks=None, **options):
    stages = len(features)
    return NetworkSpec(
        "mru_net",
        features,
        kernels or ((3, 3, 3),) * stages,
        strides or ((1, 1, 1),) + ((2, 2, 2),) * (stages - 1),
        blocks or (2,) * stages,
        (1,) * (stages - 1),
        options,
    )


def small(**settings):
    return spec((4, 6, 8), **settings)


ANISOTROPIC = {
    "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
}


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def of_inverted_residual(inputs, outputs, expansion, squeeze):
    """Weights and normalisations of MobileNetV2's block."""
    inside = expansion * inputs
    widen = (inputs + 2) * inside if expansion > 1 else 0
    weigh = (2 * inside + 1) * (inputs // 4) + inside if squeeze else 0
    return widen + (9 + 2) * inside + weigh + (inside + 2) * outputs


@pytest.mark.parametrize("squeeze", [True, False])
def test_encoders_are_three_mobile_networks(squeeze):
    with torch.device("meta"):
        network = networks.build(spec((16, 24, 32, 96, 320), blocks=(1, 2, 3, 4, 3), squeeze=squeeze), 2, 27)
    stem = (2 * 9 + 2) * 16
    blocks = [(16, 16, 1), (16, 24, 6), (24, 24, 6), (24, 32, 6), *2 * [(32, 32, 6)]]
    blocks += [(32, 96, 6), *3 * [(96, 96, 6)], (96, 320, 6), *2 * [(320, 320, 6)]]
    expected = stem + sum(of_inverted_residual(*block, squeeze) for block in blocks)
    stages = [module for module in network.modules() if isinstance(module, SliceStage)]
    assert sum(parameters(stage) for stage in stages) == 3 * expected


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(8, 8, 12), (7, 9, 5), (4, 3, 2), (1, 1, 1)])
def test_stages_are_finest_first_and_the_first_is_the_output(size, options):
    network = networks.build(small(**options), 2, 5).eval()
    image = torch.randn(2, 2, *size)
    stages = network.forward_stages(image)
    assert [tuple(stage.shape) for stage in stages] == [(2, 5, *size), (2, 5, *(-(-n // 2) for n in size))]
    torch.testing.assert_close(network(image), stages[0], rtol=0, atol=0)


def test_anisotropic_strides_keep_the_shape():
    network = networks.build(small(**ANISOTROPIC), 1, 2)
    stages = network.forward_stages(torch.randn(1, 1, 3, 8, 13))
    assert [tuple(stage.shape) for stage in stages] == [(1, 2, 3, 8, 13), (1, 2, 3, 4, 7)]


def test_the_three_maps_have_one_shape_in_every_stage():
    network = networks.build(small(**ANISOTROPIC), 1, 2)
    maps, shapes = torch.randn(2, 1, 4, 8, 16), []
    for stage in (network.encoder[0], network.encoder[1], network.encoder[2][0]):
        maps = stage(maps)
        shapes.append({tuple(x.shape) for x in maps})
    assert shapes == [{(2, 4, 4, 8, 16)}, {(2, 6, 4, 4, 8)}, {(2, 8, 2, 2, 4)}]


@pytest.mark.parametrize("axis", [1, 2])
def test_an_encoder_sees_a_turned_volume_as_the_axial_one_sees_it_upright(axis):
    torch.manual_seed(0)
    stage = networks.build(small(), 1, 2).encoder[1]
    axial, other = stage.views[0], stage.views[axis]
    other.load_state_dict(axial.state_dict())
    x = torch.randn(2, 4, 4, 6, 8)
    expected = axial(x).movedim(2, 2 + axis)
    torch.testing.assert_close(other(x.movedim(2, 2 + axis)), expected)


def test_slices_are_convolved_one_by_one():
    torch.manual_seed(0)
    conv, x = SliceConv(2, 3, (3, 3), (1, 2)), torch.randn(2, 2, 4, 6, 8)
    slices = [conv.conv(x[:, :, n]) for n in range(4)]
    torch.testing.assert_close(conv(x), torch.stack(slices, dim=2))


def test_neighbouring_slices_are_averaged():
    stage = SliceStage(1, 2, torch.nn.Sequential())
    x = torch.randn(1, 2, 3, 4, 5)
    torch.testing.assert_close(stage(x), (x[:, :, :, ::2] + x[:, :, :, 1::2]) / 2)


def test_normalisation_is_over_the_volume():
    torch.manual_seed(0)
    norm, reference = VolumeNorm(3), InstanceNorm(3)
    for parameter, same in zip(norm.parameters(), reference.parameters(), strict=True):
        torch.nn.init.normal_(parameter)
        same.data.copy_(parameter.data)
    x = 3 * torch.randn(2, 3, 4, 5, 6) + 2
    torch.testing.assert_close(norm(x), reference(x))
    bright = x.clone()
    bright[:, :, 1] += 10
    torch.nn.init.ones_(norm.weight)
    means = norm(bright).mean((3, 4))
    assert (means[:, :, 1:2] > means[:, :, [0, 2, 3]] + 1).all()


def test_channels_are_weighed_slice_by_slice():
    torch.manual_seed(0)
    attention, x = SliceAttention(4, 2), torch.rand(1, 4, 3, 5, 5)
    other = x.clone()
    other[:, :, 1] += 1
    ratio = attention(other) / other - attention(x) / x
    assert ratio[:, :, [0, 2]].abs().max() < 1e-5
    assert ratio[:, :, 1].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("outputs", "stride", "adds"), [(4, (1, 1), True), (4, (1, 2), False), (6, (1, 1), False)]
)
def test_the_input_is_added_where_the_shape_is_kept(outputs, stride, adds):
    block = InvertedResidual(4, outputs, (3, 3), stride, 6, squeeze=True)
    torch.nn.init.zeros_(block.layers[-1].weight)
    x = torch.randn(1, 4, 2, 6, 6)
    y = block(x)
    assert torch.equal(y, x) if adds else (y == 0).all()


@pytest.mark.parametrize("options", OPTIONS)
def test_every_parameter_is_trained_by_all_stages(options):
    torch.manual_seed(0)
    network = networks.build(small(**options), 1, 3)
    image = torch.randn(2, 1, 16, 8, 8)
    sum(stage.square().sum() for stage in network.forward_stages(image)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    # Normalisation cancels what was added to all voxels before it; nothing else is without effect.
    silent = [name for name, parameter in network.named_parameters() if parameter.grad.abs().max() < 1e-6]
    assert all(name.endswith(".bias") and not name.startswith("heads") for name in silent)


def test_inference_leaves_the_coarse_heads_alone():
    network = networks.build(small(), 1, 3)
    network(torch.randn(1, 1, 8, 8, 8)).sum().backward()
    assert network.heads[0].weight.grad is None
    assert network.heads[-1].weight.grad is not None


def test_two_dimensions_are_refused():
    flat = spec((4, 6), kernels=((3, 3),) * 2, strides=((1, 1), (2, 2)))
    with pytest.raises(UsageError, match="three sides"):
        networks.build(flat, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 2}, "no option 'views'"),
        ({"squeeze": 1}, "squeeze is 1"),
        ({"expansion": 0}, "0 times as wide"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        networks.build(small(**options), 1, 2)


def test_contradictory_specifications_are_refused():
    with pytest.raises(UsageError, match="3 stages"):
        networks.build(small(kernels=((3, 3, 3),)), 1, 2)


def test_autocast_trains():
    network = networks.build(small(), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        stages = network.forward_stages(torch.randn(2, 1, 16, 16, 16))
    sum(stage.float().square().sum() for stage in stages).backward()
    assert {stage.dtype for stage in stages} == {torch.bfloat16}
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_strided_depthwise_convolutions_are_in_float32_on_a_cpu():
    torch.manual_seed(0)
    conv, x = SliceConv(4, 4, (3, 3), (2, 2), depthwise=True), torch.randn(1, 4, 2, 6, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    torch.testing.assert_close(y, conv(x.float()).bfloat16(), rtol=0, atol=0)


def test_it_learns_a_volume():
    torch.manual_seed(0)
    labels = torch.zeros(1, 16, 16, 16, dtype=torch.long)
    labels[:, 2:7, 4:12, 5:14], labels[:, 9:14, 4:12, 5:14] = 1, 2
    # Both blocks are equally bright: only their place above and below each other tells them apart.
    image = (labels > 0).float() + 0.3 * torch.randn(1, 16, 16, 16)
    image[:, :2] -= 2
    network = networks.build(spec((8, 12, 16)), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image[None]), labels).backward()
        optimiser.step()
    found = network(image[None]).argmax(1)
    for value in (1, 2):
        both = ((found == value) & (labels == value)).sum()
        assert 2 * both / ((found == value).sum() + (labels == value).sum()) > 0.9


def test_saved_weights_give_the_same_output(tmp_path):
    network, other = (networks.build(small(), 1, 2) for _ in range(2))
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    image = torch.randn(1, 1, 8, 8, 8)
    assert not torch.equal(network(image), other(image))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(network(image), other(image), rtol=0, atol=0)
