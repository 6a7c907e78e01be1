from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.segnet import joint_logits, max_pool, max_unpool, segnet

VGG16 = (64, 128, 256, 512, 512, 512)
OPTIONS = [
    pytest.param({}, id="default"),
    pytest.param({"heads": "level"}, id="level"),
    pytest.param({"norm": "instance"}, id="instance"),
]


def spec(dimensions=2, features=(4, 6, 8, 8, 8, 8), strides=None, kernels=None, **options):
    return NetworkSpec(
        "segnet",
        features,
        kernels or ((3,) * dimensions,) * 6,
        strides or ((1,) * dimensions,) + ((2,) * dimensions,) * 5,
        (2, 2, 3, 3, 3, 0),
        (3, 3, 3, 2, 2),
        options,
    )


@pytest.mark.parametrize("heads", ["level", "region_and_level"])
def test_number_of_parameters_is_that_of_the_paper(heads):
    with torch.device("meta"):
        network = networks.build(spec(features=VGG16, heads=heads), 1, 6)
    # 29.45 million: 14.71 in the convolutions of either half, and the biases and normalisations.
    assert sum(parameter.numel() for parameter in network.parameters()) == 29_445_318


def test_decoder_mirrors_the_encoder():
    with torch.device("meta"):
        network = networks.build(spec(features=VGG16), 1, 6)

    def widths(stages):
        return [
            [layer.out_channels for layer in stage if isinstance(layer, torch.nn.Conv2d)] for stage in stages
        ]

    assert widths(network.encoder) == [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
    assert widths(network.decoder) == [[512] * 3, [512, 512, 256], [256, 256, 128], [128, 64], [64]]
    assert (network.head.out_channels, network.head.kernel_size) == (6, (3, 3))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(64, 32), (33, 50), (5, 70), (1, 1), (32, 32, 64), (17, 33, 9)])
def test_output_has_the_size_of_the_image_and_is_the_only_stage(size, options):
    network = networks.build(spec(len(size), **options), 2, 5).eval()
    image = torch.randn(1, 2, *size)
    with torch.no_grad():
        stages = network.forward_stages(image)
        assert [tuple(stage.shape) for stage in stages] == [(1, 5, *size)]
        torch.testing.assert_close(network(image), stages[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    "strides",
    [
        ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
        ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
        ((1, 1, 1), (3, 2, 2), (1, 2, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2)),
    ],
)
@pytest.mark.parametrize("options", OPTIONS)
def test_strides_may_be_one_along_any_axis(strides, options):
    network = networks.build(spec(3, strides=strides, kernels=((1, 3, 3),) * 6, **options), 1, 3)
    assert network(torch.randn(2, 1, 7, 30, 33)).shape == (2, 3, 7, 30, 33)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [(64, 64), (32, 40, 32)])
def test_finite_gradients_reach_every_parameter(size, options):
    torch.manual_seed(0)
    network = networks.build(spec(len(size), **options), 1, 4)
    labels = torch.randint(0, 4, (2, *size))
    F.cross_entropy(network(torch.randn(2, 1, *size)), labels).backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    # Normalisation cancels the bias of the convolution before it; nothing else is without effect.
    silent = [name for name, gradient in gradients.items() if gradient.abs().max() < 1e-7]
    convolutions = [name for name, module in network.named_modules() if hasattr(module, "kernel_size")]
    assert set(silent) <= {f"{name}.bias" for name in convolutions}
    assert "head.bias" not in silent


@pytest.mark.parametrize(
    ("size", "stride"), [((8, 6), (2, 2)), ((8, 6), (1, 2)), ((4, 8, 6), (2, 2, 2)), ((3, 4, 6), (1, 2, 3))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maxima_are_put_back_where_they_were(size, stride, dtype):
    image = torch.randn(2, 3, *size).to(dtype).requires_grad_()
    maxima, indices = max_pool(image, stride)
    back = max_unpool(maxima, indices, size)
    unpool = F.max_unpool3d if len(size) == 3 else F.max_unpool2d
    torch.testing.assert_close(
        back, unpool(maxima, indices, stride, stride, output_size=size), rtol=0, atol=0
    )
    kept = back != 0
    torch.testing.assert_close(back[kept], image[kept], rtol=0, atol=0)
    assert kept.sum() == maxima.numel()
    back.sum().backward()
    torch.testing.assert_close(image.grad, kept.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_runs_where_algorithms_must_be_deterministic(dimensions):
    network = networks.build(spec(dimensions), 1, 3)
    image = torch.randn(2, 1, *(32, 32, 32)[:dimensions])
    torch.use_deterministic_algorithms(True)
    try:
        network(image).square().sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert network.encoder[0][0].weight.grad.abs().sum() > 0


def test_joint_cross_entropy_is_the_sum_of_both_heads():
    torch.manual_seed(0)
    heads = 3 * torch.randn(2, 6, 8, 8, dtype=torch.float32)
    labels = torch.randint(0, 6, (2, 8, 8))
    vertebra = labels > 0
    region = F.binary_cross_entropy_with_logits(heads[:, 0], vertebra.float(), reduction="none")
    level = F.cross_entropy(heads[:, 1:], (labels - 1).clamp(min=0), reduction="none") * vertebra
    joint = F.cross_entropy(joint_logits(heads), labels, reduction="none")
    torch.testing.assert_close(joint, region + level)


def test_joint_logits_are_log_probabilities():
    joint = joint_logits(5 * torch.randn(1, 4, 5, 6, 7))
    torch.testing.assert_close(joint.exp().sum(1), torch.ones(1, 5, 6, 7))
    torch.testing.assert_close(joint.softmax(1), joint.exp())


def test_a_level_is_given_only_where_the_region_head_sees_a_vertebra():
    torch.manual_seed(0)
    heads = 2 * torch.randn(4, 6, 32, 32)
    found = joint_logits(heads).argmax(1)
    vertebra = heads[:, 0].sigmoid()
    level = found > 0
    assert level.any()
    assert (vertebra[level] > 0.5).all()
    assert (found[level] == heads[:, 1:].argmax(1)[level] + 1).all()
    # The reverse holds only from n / (n + 1) on.
    assert (vertebra[~level] > 0.5).any()
    assert (vertebra[~level] <= 5 / 6).all()


def test_the_region_head_is_an_option():
    image = torch.randn(2, 1, 32, 32)
    level, both = segnet(spec(heads="level"), 1, 4), segnet(spec(heads="region_and_level"), 1, 4)
    both.load_state_dict(level.state_dict())
    torch.testing.assert_close(both(image), joint_logits(level(image)))


def test_a_single_value_cannot_be_batch_normalised():
    network = networks.build(spec(strides=((1, 1), *[(2, 2)] * 4, (1, 1))), 1, 3)
    image = torch.randn(1, 1, 16, 16)
    with pytest.raises(UsageError, match="single value"):
        network(image)
    assert network.eval()(image).shape == (1, 3, 16, 16)
    assert network.train()(image.expand(2, 1, 16, 16)).shape == (2, 3, 16, 16)


def test_the_last_pooled_map_may_be_a_single_value():
    assert networks.build(spec(), 1, 3)(torch.randn(1, 1, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(("heads", "dtype"), [("level", torch.bfloat16), ("region_and_level", torch.float32)])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_autocast_trains(dimensions, heads, dtype):
    network = networks.build(spec(dimensions, heads=heads), 1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(2, 1, *(32, 32, 32)[:dimensions]))
    logits.float().square().sum().backward()
    assert logits.dtype == dtype
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": (8,)}, "two stages"),
        ({"features": (4, 6, 8, 8, 8, 16)}, "pooled map"),
        ({"encoder_blocks": (2, 2, 3, 3, 3, 1)}, "pooled map"),
        ({"encoder_blocks": (2, 0, 3, 3, 3, 0)}, "at least one"),
        ({"decoder_blocks": (3, 3, 3, 2)}, "6 stages"),
        ({"strides": ((1, 1, 1),) * 6}, "axes"),
        ({"strides": ((2, 2),) * 6}, "stride one"),
        ({"kernels": ((3, 2),) * 6}, "odd"),
        ({"options": {"heads": "region"}}, "region"),
        ({"options": {"norm": "group"}}, "group"),
        ({"options": {"indices": True}}, "no option"),
    ],
)
def test_contradictory_specifications_are_refused(changes, message):
    wrong = NetworkSpec(**(vars(spec()) | changes))
    with pytest.raises(UsageError, match=message):
        networks.build(wrong, 1, 2)


def picture():
    """Two pictures of a bright square and a brighter disc, and their labels."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    for sample, (row, column) in enumerate([(20, 22), (40, 36)]):
        labels[sample, row - 12 : row + 4, column - 12 : column + 4] = 1
        labels[sample][(rows - row - 14) ** 2 + (columns - column - 12) ** 2 < 64] = 2
    return labels[:, None] + 0.3 * torch.randn(2, 1, 64, 64), labels


@pytest.mark.parametrize("options", OPTIONS)
def test_it_learns_a_picture(options):
    torch.manual_seed(0)
    image, labels = picture()
    network = networks.build(spec(features=(16, 16, 32, 32, 32, 32), **options), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(80):
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
    network = segnet(spec(), 1, 3)
    network(image)  # moves the running statistics
    other = segnet(spec(), 1, 3)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(image), network.eval()(image), rtol=0, atol=0)
