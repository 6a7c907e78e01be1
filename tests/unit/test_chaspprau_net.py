from __future__ import annotations

import pytest
import torch

from autospine import networks
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.chaspprau_net import DilatedBlock, GatedJoin, Pyramid

OPTIONS = [
    pytest.param({}, id="default"),
    pytest.param({"pyramid": "serial"}, id="serial"),
    pytest.param({"first_pyramid": 0}, id="all"),
    pytest.param({"rates": (1, 3)}, id="rates"),
    pytest.param({"attention_gates": False}, id="ungated"),
]


def spec(features, dimensions, strides=None, kernels=None, **options):
    stages = len(features)
    return NetworkSpec(
        "chaspprau_net",
        features,
        kernels or ((3,) * dimensions,) * stages,
        strides or ((1,) * dimensions,) + ((2,) * dimensions,) * (stages - 1),
        (1,) * stages,
        (1,) * (stages - 1),
        options,
    )


def small(dimensions=3, **settings):
    return spec((4, 8, 8), dimensions, **settings)


def pyramids(network):
    """Number of pyramids of each encoder stage, finest first."""
    return [sum(isinstance(m, Pyramid) for m in stage) for stage in network.encoder]


def drawn(module, seed=0):
    """The module with every parameter drawn at random, so that nothing begins as an identity."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module


# No publication states a number; these guard the layers.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 25_949_836),
        ({"pyramid": "serial"}, 28_878_860),
        ({"first_pyramid": 0}, 25_993_836),
        ({"attention_gates": False}, 25_862_312),
    ],
)
def test_number_of_parameters(options, expected):
    with torch.device("meta"):
        network = networks.build(spec((32, 64, 128, 256, 512), 3, **options), 1, 2)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


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
    network = networks.build(small(kernels=kernels, strides=strides, first_pyramid=0), 1, 2)
    assert network(torch.randn(1, 1, 3, 16, 13)).shape == (1, 2, 3, 16, 13)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_parameter_is_trained_by_all_stages(dimensions, options):
    network = drawn(networks.build(small(dimensions, **options), 1, 3))
    image = torch.randn(2, 1, *(16, 16, 16)[:dimensions])
    sum(stage.square().sum() for stage in network.forward_stages(image)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    # Normalisation cancels the bias of the convolution before it; nothing else is without effect.
    silent = [name for name, parameter in network.named_parameters() if parameter.grad.abs().max() < 1e-5]
    assert all(name.endswith("conv.bias") for name in silent)


@pytest.mark.parametrize(
    ("rate", "size", "rates"),
    [
        (8, (17, 40), (8, 8)),
        (8, (16, 5), (7, 2)),
        (8, (4, 4, 4), (1, 1, 1)),
        (4, (2, 1, 9), (1, 1, 4)),
    ],
)
def test_rates_are_capped_where_maps_are_small(rate, size, rates):
    block = drawn(DilatedBlock(3, (3,) * len(size), rate))
    x = torch.randn(2, 3, *size)
    conv = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}[len(size)]
    expected = conv(x, block.conv.weight, block.conv.bias, padding=rates, dilation=rates)
    expected = torch.nn.functional.leaky_relu(block.norm(expected), 0.01)
    torch.testing.assert_close(block(x), expected)


def test_a_cascaded_branch_sees_the_one_before():
    pyramid = drawn(Pyramid(8, (3, 3), (1, 2, 4), cascaded=True))
    x = torch.randn(1, 8, 16, 16)
    narrow = pyramid.reduce(x)
    first = pyramid.branches[0](narrow)
    second = pyramid.branches[1](narrow + first)
    third = pyramid.branches[2](narrow + second)
    average = torch.nn.functional.leaky_relu(pyramid.pooled(x.mean((2, 3), keepdim=True)), 0.01)
    found = torch.cat((first, second, third, average.expand_as(first)), dim=1)
    torch.testing.assert_close(pyramid(x), torch.nn.functional.leaky_relu(x + pyramid.fuse(found), 0.01))


def test_parallel_branches_all_see_the_input():
    pyramid = drawn(Pyramid(8, (3, 3), (1, 2, 4), cascaded=False))
    seen = []
    for branch in pyramid.branches:
        branch.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pyramid(torch.randn(1, 8, 16, 16))
    assert len(seen) == 3
    assert all(torch.equal(x, seen[0]) for x in seen)


def test_the_average_changes_what_a_normalisation_behind_it_sees():
    pyramid = drawn(Pyramid(8, (3, 3), (1, 2), cascaded=True))
    x = torch.randn(1, 8, 12, 12)
    norm = torch.nn.InstanceNorm2d(8)
    before = norm(pyramid(x))
    torch.nn.init.constant_(pyramid.pooled.bias, 5.0)
    assert (norm(pyramid(x)) - before).abs().max() > 0.1


def test_pyramids_begin_as_identities():
    network = networks.build(small(2), 1, 3)
    pyramid = network.encoder[-1][-1]
    x = torch.rand(1, 8, 6, 6)
    torch.testing.assert_close(pyramid(x), x, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 0, 1, 1]),
        ({"first_pyramid": 0}, [1, 1, 1, 1]),
        ({"first_pyramid": 3}, [0, 0, 0, 1]),
        ({"first_pyramid": 9}, [0, 0, 0, 1]),
        ({"pyramid": "serial"}, [0, 0, 2, 2]),
    ],
)
def test_pyramids_stand_where_they_are_asked_for(options, expected):
    assert pyramids(networks.build(spec((4, 4, 8, 8), 2, **options), 1, 2)) == expected


def test_gates_can_be_left_out():
    kinds = [
        {isinstance(join, GatedJoin) for join in networks.build(small(attention_gates=on), 1, 2).joins}
        for on in (True, False)
    ]
    assert kinds == [{True}, {False}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": ()}, "rates"),
        ({"rates": (1, 0)}, "rates"),
        ({"first_pyramid": -1}, "first.pyramid"),
        ({"pyramid": "parallel"}, "pyramid"),
        ({"aspp": "serial"}, "aspp"),
        ({"strides": ((1, 1, 1),)}, "3 stages"),
    ],
)
def test_what_does_not_exist_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        networks.build(small(**changes), 1, 2)


def test_autocast_trains():
    network = networks.build(small(), 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.randn(1, 1, 8, 8, 8))
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_it_compiles_as_one_graph():
    network = drawn(networks.build(small(2), 1, 2))
    image = torch.randn(1, 1, 9, 16)
    compiled = torch.compile(network.forward_stages, fullgraph=True, backend="eager")
    for ours, theirs in zip(compiled(image), network.forward_stages(image), strict=True):
        torch.testing.assert_close(ours, theirs)


def picture():
    """A noisy ball and a noisy box, and their labels."""
    torch.manual_seed(0)
    z, y, x = torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij")
    labels = ((z - 5) ** 2 + (y - 5) ** 2 + (x - 6) ** 2 < 16).long()
    labels[9:15, 8:14, 9:15] = 2
    return (labels[None, None] / 2 + 0.1 * torch.randn(1, 1, 16, 16, 16)), labels[None]


@pytest.mark.parametrize("pyramid", ["hierarchical", "serial"])
def test_it_learns_a_picture(pyramid):
    image, labels = picture()
    network = networks.build(spec((8, 16, 16), 3, pyramid=pyramid), 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(image), labels).backward()
        optimiser.step()
    found = network.eval()(image).argmax(1)
    for value in (1, 2):
        truth, guess = labels == value, found == value
        assert 2 * (truth & guess).sum() / (truth.sum() + guess.sum()) > 0.9


def test_saved_weights_give_the_same_outputs(tmp_path):
    image = torch.randn(1, 1, 8, 8, 8)
    network = networks.build(small(), 1, 3)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = networks.build(small(), 1, 3)
    assert not torch.equal(other(image), network(image))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(other(image), network(image), rtol=0, atol=0)
