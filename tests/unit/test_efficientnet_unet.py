from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from autospine import networks
from autospine.core.efficientnet_scaling import block_groups, stage_blocks, stage_features, stem_features
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.attention import ChannelAttention
from autospine.networks.efficientnet import (
    DepthwiseConv,
    EfficientNetEncoder,
    InvertedResidual,
    SqueezeExcitation,
)
from autospine.networks.efficientnet_unet import efficientnet_unet

DECODER = (256, 128, 64, 32, 16)
OPTIONS = [
    pytest.param((64, 64), {}, id="default"),
    pytest.param((64, 64), {"attention": "none"}, id="unattended"),
    pytest.param((50, 40), {"attention": "se"}, id="se"),
    pytest.param((64, 33), {"norm": "instance"}, id="instance"),
    pytest.param((64, 64), {"variant": "b1"}, id="b1"),
    pytest.param((64, 32, 32), {}, id="3d"),
    pytest.param((30, 32, 32), {"attention": "se", "norm": "instance"}, id="3d-instance"),
]


def spec(dimensions=2, variant="b0", decoder=DECODER, strides=None, kernels=None, **options):
    return NetworkSpec(
        "efficientnet_unet",
        (decoder[-1], *stage_features(variant)),
        kernels or ((3,) * dimensions,) * 6,
        strides or ((1,) * dimensions,) + ((2,) * dimensions,) * 5,
        (0, *stage_blocks(variant)),
        (2,) * 5,
        {"variant": variant, "decoder": decoder} | options,
    )


def small(dimensions=2, **settings):
    return spec(dimensions, decoder=(16, 12, 8, 8, 4), **settings)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_b0_and_b7_are_the_published_ones():
    assert (stem_features("b0"), stage_features("b0")) == (32, (16, 24, 40, 112, 320))
    assert (stem_features("b7"), stage_features("b7")) == (64, (32, 48, 80, 224, 640))
    assert [group.repeats for group in block_groups("b0")] == [1, 2, 2, 3, 3, 4, 1]
    assert [group.repeats for group in block_groups("b7")] == [4, 7, 7, 10, 10, 13, 4]
    assert stage_blocks("b7") == (4, 7, 7, 20, 17)


# Counted in MONAI 1.6.1, EfficientNetBNFeatures, stem and blocks, one channel.
@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("b0", 3_594_812),
        ("b1", 6_100_448),
        ("b2", 7_201_986),
        ("b3", 10_102_616),
        ("b4", 16_741_352),
        ("b5", 27_287_248),
        ("b6", 39_402_984),
        ("b7", 62_142_288),
    ],
)
def test_encoder_has_as_many_parameters_as_monais(variant, expected):
    with torch.device("meta"):
        encoder = EfficientNetEncoder(spec(variant=variant), 1, variant, "batch")
    assert parameters(encoder) == expected


def monais_surplus(variant, dimensions):
    """What its FlexibleUNet has beside the encoder: the unused classifier, decoder and head."""
    coarsest, *skips = reversed(stage_features(variant))
    classes, inside = 1000, 4 * coarsest
    total = coarsest * inside + 2 * inside + inside * classes + classes
    inputs, kernel = coarsest, 3**dimensions
    for features, skip in zip(DECODER, (*skips, 0), strict=True):
        if skip:  # halved by a 1x1 convolution before the skip connection
            total += inputs * (inputs // 2) + inputs // 2
            inputs = inputs // 2 + skip
        total += (inputs + features) * features * kernel + 4 * features
        inputs = features
    return total + inputs * 2 * kernel + 2


def own_surplus(variant, dimensions):
    """What this network has beside the encoder: decoder and head."""
    inputs, *skips = reversed(stage_features(variant))
    total = 0
    for features, skip in zip(DECODER, (*skips, 0), strict=True):
        total += (inputs + skip + features) * features * 3**dimensions + 4 * features
        inputs = features
    return total + inputs * 2 + 2


# Counted in MONAI 1.6.1, FlexibleUNet, one channel, two outputs.
@pytest.mark.parametrize(
    ("variant", "dimensions", "expected"),
    [("b7", 2, 68_963_642), ("b7", 3, 78_669_818), ("b0", 2, 7_059_846), ("b0", 3, 11_091_846)],
)
def test_parameters_are_monais_but_for_the_classifier_and_the_decoder(variant, dimensions, expected):
    with torch.device("meta"):
        network = networks.build(spec(dimensions, variant, attention="none"), 1, 2)
    own, monais = own_surplus(variant, dimensions), monais_surplus(variant, dimensions)
    assert parameters(network) - own + monais == expected


def test_kernels_follow_the_table_but_not_along_axes_where_the_plan_has_one():
    network = networks.build(small(3, kernels=((1, 3, 3),) * 4 + ((3, 3, 3),) * 2), 1, 2)
    kernels = [
        [block.convolve[0].conv.kernel_size for block in stage if isinstance(block, InvertedResidual)]
        for stage in network.encoder.stages
    ]
    assert network.encoder.stem[0].kernel_size == (1, 3, 3)
    assert kernels == [
        [(1, 3, 3)],
        [(1, 3, 3)] * 2,
        [(1, 5, 5)] * 2,
        [(3, 3, 3)] * 3 + [(5, 5, 5)] * 3,
        [(5, 5, 5)] * 4 + [(3, 3, 3)],
    ]
    assert [stage[0].kernel_size for stage in network.decoder] == [(3, 3, 3)] + [(1, 3, 3)] * 4


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("size", [(64, 32), (33, 50), (5, 70), (1, 1), (32, 32, 64), (17, 33, 9)])
def test_output_has_the_size_of_the_image_and_is_the_only_stage(size, norm):
    network = networks.build(small(len(size), norm=norm), 2, 5).eval()
    image = torch.randn(1, 2, *size)
    with torch.no_grad():
        stages = network.forward_stages(image)
        assert [tuple(stage.shape) for stage in stages] == [(1, 5, *size)]
        torch.testing.assert_close(network(image), stages[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("strides", "divisors"),
    [
        (((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)), (4, 32, 32)),
        (((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1)), (4, 4, 4)),
    ],
)
def test_strides_may_be_one_along_any_axis(strides, divisors):
    network = networks.build(small(3, strides=strides), 1, 2).eval()
    size = (6, 40, 33)
    with torch.no_grad():
        features = network.encoder(torch.randn(1, 1, *(2 * d for d in divisors)))
        assert features[-1].shape[2:] == (2, 2, 2)
        assert network(torch.randn(1, 1, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(("size", "options"), OPTIONS)
def test_finite_gradients_reach_every_parameter(size, options):
    torch.manual_seed(0)
    network = networks.build(small(len(size), **options), 1, 3)
    for module in network.modules():
        if isinstance(module, ChannelAttention):
            torch.nn.init.ones_(module.squeeze.bias)  # so that not all of its few rectifiers are closed
    network(torch.randn(2, 1, *size)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert [name for name, gradient in gradients.items() if gradient.abs().max() == 0] == []


def test_attention_weighs_the_four_skips():
    network = networks.build(small(attention="se"), 1, 3)
    attentions = [module for module in network.modules() if isinstance(module, ChannelAttention)]
    assert [a.mode for a in attentions] == ["se"] * 4
    assert [a.excite.out_channels for a in attentions] == [112, 40, 24, 16]
    assert not any(
        isinstance(m, ChannelAttention) for m in networks.build(small(attention="none"), 1, 3).modules()
    )


def test_channels_are_squeezed_to_a_quarter_of_the_blocks_input():
    block = InvertedResidual(24, 40, 6, (3, 3), (2, 2), "batch")
    assert [block.weigh.weights[i].out_channels for i in (0, 2)] == [6, 144]


def test_squeeze_and_excitation_scales_whole_channels():
    weigh = SqueezeExcitation(4, 2, 2)
    image = torch.rand(2, 4, 5, 5) + 0.1
    scales = weigh(image) / image
    torch.testing.assert_close(scales, scales[:, :, :1, :1].expand_as(scales))
    assert ((scales > 0) & (scales < 1)).all()


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 2)])
def test_depthwise_convolution_keeps_channels_apart_and_its_precision(stride):
    conv = DepthwiseConv(3, (3, 5), stride)
    image = torch.randn(1, 3, 8, 8)
    result = conv(image)
    for channel in range(3):
        weight = conv.conv.weight[channel : channel + 1]
        alone = F.conv2d(image[:, channel : channel + 1], weight, stride=stride, padding=(1, 2))
        torch.testing.assert_close(result[:, channel : channel + 1], alone)
    with torch.autocast("cpu", torch.bfloat16):
        half = conv(image.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), result, rtol=0.05, atol=0.05)


def test_the_input_is_added_where_a_block_keeps_its_shape():
    block = InvertedResidual(8, 8, 6, (3, 3), (1, 1), "batch").eval()
    torch.nn.init.zeros_(block.narrow[1].weight)
    image = torch.randn(1, 8, 6, 6)
    torch.testing.assert_close(block(image), image)
    changing = InvertedResidual(8, 8, 6, (3, 3), (2, 1), "batch").eval()
    torch.nn.init.zeros_(changing.narrow[1].weight)
    assert changing(image).abs().max() == 0


def test_a_single_value_cannot_be_batch_normalised():
    network = networks.build(small(), 1, 2)
    image = torch.randn(1, 1, 32, 32)
    with pytest.raises(UsageError, match="single value"):
        network(image)
    assert network.eval()(image).shape == (1, 2, 32, 32)
    assert network.train()(image.expand(2, 1, 32, 32)).shape == (2, 2, 32, 32)


def test_instance_normalisation_never_sees_a_single_value():
    network = networks.build(small(norm="instance"), 1, 2)
    assert network(torch.randn(1, 1, 20, 32)).shape == (1, 2, 20, 32)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_autocast_trains(norm):
    network = networks.build(small(norm=norm), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(2, 1, 64, 64))
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (4, 16, 24, 40, 112, 321)}, "features of b0"),
        ({"features": (8, 16, 24, 40, 112, 320)}, "features of b0"),
        ({"encoder_blocks": (0, 1, 2, 2, 6, 6)}, "encoder blocks of b0"),
        ({"decoder_blocks": (2, 2, 2)}, "6 stages"),
        ({"kernels": ((3, 3),) * 5}, "6 stages"),
        ({"kernels": ((4, 3),) * 6}, "odd"),
        ({"strides": ((1, 1, 1),) * 6}, "axes"),
        ({"strides": ((2, 2),) * 6}, "stride one"),
        ({"options": {"variant": "b8"}}, "b8"),
        ({"options": {"norm": "group"}}, "group"),
        ({"options": {"attention": "gate"}}, "gate"),
        ({"options": {"depth": 3}}, "no option"),
        ({"options": {"variant": "b0", "decoder": (16, 4)}}, "5 decoder stages"),
    ],
)
def test_contradictory_specifications_are_refused(changes, message):
    wrong = NetworkSpec(**(vars(small()) | changes))
    with pytest.raises(UsageError, match=message):
        networks.build(wrong, 1, 2)


def test_an_efficientnet_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="b9"):
        stage_features("b9")


def picture():
    """Two pictures of a bright square and a brighter disc, and their labels."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    for sample, (row, column) in enumerate([(20, 22), (40, 36)]):
        labels[sample, row - 12 : row + 4, column - 12 : column + 4] = 1
        labels[sample][(rows - row - 14) ** 2 + (columns - column - 12) ** 2 < 64] = 2
    return labels[:, None] + 0.3 * torch.randn(2, 1, 64, 64), labels


def test_it_learns_a_picture():
    torch.manual_seed(1)
    image, labels = picture()
    network = networks.build(spec(decoder=(64, 32, 32, 16, 16)), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        F.cross_entropy(network(image), labels).backward()
        optimiser.step()
    with torch.no_grad():
        found = network.eval()(image).argmax(1)
    for label in (1, 2):
        a, b = found == label, labels == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


def test_saved_weights_give_equal_outputs():
    image = torch.randn(2, 1, 64, 64)
    network = efficientnet_unet(small(), 1, 3)
    network(image)  # moves the running statistics
    other = efficientnet_unet(small(), 1, 3)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(image), network.eval()(image), rtol=0, atol=0)
