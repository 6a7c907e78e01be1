from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from autospine import networks
from autospine.core.errors import TrainingError, UsageError
from autospine.core.plan import NetworkSpec, Pretraining
from autospine.networks.patch_mlp import activations, hidden_layers
from autospine.registry import find
from autospine.trainers.boltzmann import Machine, contrastive_step
from autospine.trainers.boltzmann import pretrain as pretrain_machines
from autospine.trainers.sparse_autoencoder import divergence, objective
from autospine.trainers.sparse_autoencoder import pretrain as pretrain_autoencoders

EDGE = 6
METHODS = ("sparse_autoencoder", "contrastive_divergence")
SETTINGS = {
    "sparse_autoencoder": Pretraining(
        "sparse_autoencoder", epochs=6, steps=50, batch_size=64, learning_rate=0.03, sparsity_weight=0.3
    ),
    "contrastive_divergence": Pretraining(
        "contrastive_divergence",
        epochs=8,
        steps=50,
        batch_size=64,
        learning_rate=0.05,
        gaussian_rate=0.01,
        weight_decay=2e-4,
    ),
}


def perceptron(features=(24, 12), dimensions=2):
    torch.manual_seed(0)
    ones = ((1,) * dimensions,) * len(features)
    strides = ((2,) * dimensions, *ones[1:])
    spec = NetworkSpec(
        "patch_mlp", features, ones, strides, (1,) * len(features), (), {"patch": EDGE, "stride": 2}
    )
    return networks.build(spec, 1, 2)


def bars(count=64, noise=0.0, dimensions=2, seed=1):
    """Endless pictures in which each row is dark or bright, and so is each column."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows, columns = (torch.rand(2, count, EDGE, generator=generator) < 0.25).float()
        picture = rows[:, :, None].maximum(columns[:, None, :])
        picture = picture.reshape(count, 1, EDGE, EDGE, *(1,) * (dimensions - 2))
        picture = picture.expand(count, 1, *(EDGE,) * dimensions)
        yield picture + noise * torch.randn(picture.shape, generator=generator)


def pretrain(network, method, patches=None, say=lambda _: None, **changes):
    torch.manual_seed(0)
    find("pretrainers", method)(network, patches or bars(), replace(SETTINGS[method], **changes), say)


def errors(line):
    before, after = line.split("error ")[1].split(",")[0].split(" -> ")
    return float(before), float(after)


def reconstruction_error(layers, patches):
    """What the best linear decoder leaves of the patches' variance."""
    units = activations(layers, patches).detach()
    known = torch.cat([units, torch.ones(len(units), 1)], dim=1)
    wanted = patches.flatten(1)
    decoder = torch.linalg.lstsq(known, wanted).solution
    return float((known @ decoder - wanted).square().mean() / wanted.var(0).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_each_layer_learns_to_reconstruct(method, dimensions):
    lines = []
    pretrain(perceptron(dimensions=dimensions), method, bars(dimensions=dimensions), lines.append)
    assert [line.split(":")[0] for line in lines] == [f"pre-training layer {n}/2" for n in (1, 2)]
    for line in lines:
        before, after = errors(line)
        assert after < 0.5 * before


@pytest.mark.parametrize("method", METHODS)
def test_units_keep_what_patches_show(method):
    patches = next(bars(2000, seed=2))
    network = perceptron((12,))
    chance = reconstruction_error(hidden_layers(network), patches)
    pretrain(network, method, epochs=20)
    assert reconstruction_error(hidden_layers(network), patches) < 0.5 * chance


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_weights(method):
    first, second = perceptron(), perceptron()
    for network in (first, second):
        pretrain(network, method, epochs=1)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_only_hidden_layers_change_and_stay_as_trainable_as_they_were(method):
    network, before = perceptron(), perceptron()
    network.layers[0].requires_grad_(False)
    pretrain(network, method, epochs=1)
    torch.testing.assert_close(network.head.weight, before.head.weight, rtol=0, atol=0)
    for layer, old in zip(network.layers, before.layers, strict=True):
        assert (layer.weight - old.weight).abs().max() > 1e-3
    assert [layer.weight.requires_grad for layer in network.layers] == [False, True]
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_is_trained_on_the_features_of_those_before(method):
    """The first layer does not mind what comes after it, and the second sees the first one's units."""
    deep, shallow = perceptron((24, 12)), perceptron((24,))
    shallow.load_state_dict({**shallow.state_dict(), **_first_layer(deep)})
    pretrain(deep, method, epochs=1)
    pretrain(shallow, method, epochs=1)
    torch.testing.assert_close(deep.layers[0].weight, shallow.layers[0].weight, rtol=0, atol=0)


def _first_layer(network):
    return {name: value for name, value in network.state_dict().items() if name.startswith("layers.0.")}


@pytest.mark.parametrize("method", METHODS)
def test_autocast_around_it_changes_nothing(method):
    plain, cast = perceptron(), perceptron()
    pretrain(plain, method, epochs=1)
    with torch.autocast("cpu", torch.bfloat16):
        pretrain(cast, method, epochs=1)
    torch.testing.assert_close(cast.layers[1].weight, plain.layers[1].weight, rtol=0, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_networks_without_dense_layers_are_refused(method):
    spec = NetworkSpec("plain_unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), (1, 1), (1,))
    with pytest.raises(UsageError, match=r"UNet.*pretraining\.method"):
        pretrain(networks.build(spec, 1, 2), method)


@pytest.mark.parametrize(
    ("method", "rate"),
    [("sparse_autoencoder", "learning-rate"), ("contrastive_divergence", "gaussian-rate")],
)
def test_an_error_that_is_not_finite_ends_it(method, rate):
    patches = itertools.chain(
        itertools.islice(bars(), 30), itertools.repeat(torch.full((4, 1, 6, 6), torch.nan))
    )
    with pytest.raises(TrainingError, match=rf"layer 1/2.*epoch 1.*{rate}"):
        pretrain(perceptron(), method, patches)


def test_a_rate_that_is_too_high_ends_it():
    with pytest.raises(TrainingError, match="not finite"):
        pretrain(perceptron(), "contrastive_divergence", gaussian_rate=1e6)


@pytest.mark.parametrize(
    ("method", "changes"), [("sparse_autoencoder", {}), ("contrastive_divergence", {"visible": "bernoulli"})]
)
def test_intensities_must_be_probabilities_where_they_are_reconstructed_as_such(method, changes):
    with pytest.raises(UsageError, match="between 0 and 1"):
        pretrain(perceptron(), method, (3 * picture - 1 for picture in bars()), epochs=1, **changes)
    pretrain(perceptron(), method, (1.2 * picture - 0.1 for picture in bars()), epochs=1, **changes)


def test_units_of_autoencoders_are_as_active_as_wanted():
    network = perceptron()
    pretrain(network, "sparse_autoencoder", sparsity=0.1, sparsity_weight=30.0, epochs=10)
    units = activations(hidden_layers(network)[:1], next(bars(2000, seed=2)))
    assert (units.mean(0) - 0.1).abs().max() < 0.03


def test_the_objective_of_autoencoders_is_the_published_one():
    encoder, decoder = nn.Linear(2, 1).double(), nn.Linear(1, 2).double()
    w, b, v, c = [0.3, -0.2], 0.1, [0.7, -0.4], [0.2, 0.5]
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([w]))
        encoder.bias.fill_(b)
        decoder.weight.copy_(torch.tensor(v)[:, None])
        decoder.bias.copy_(torch.tensor(c))
    patches = [[0.0, 1.0], [0.5, 0.25], [1.0, 1.0]]

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    codes = [sigmoid(w[0] * x + w[1] * y + b) for x, y in patches]
    error = sum(
        (sigmoid(v[i] * z + c[i]) - patch[i]) ** 2 / 2
        for patch, z in zip(patches, codes, strict=True)
        for i in (0, 1)
    )
    mean, rho = sum(codes) / 3, 0.05
    kl = rho * math.log(rho / mean) + (1 - rho) * math.log((1 - rho) / (1 - mean))
    expected = error / 3 + 0.01 / 2 * sum(x * x for x in (*w, *v)) + 2.0 * kl
    settings = Pretraining(sparsity=rho, sparsity_weight=2.0, weight_decay=0.01)
    found = objective(encoder, decoder, torch.tensor(patches, dtype=torch.float64), settings)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_the_divergence_is_zero_where_it_should_be_and_finite_everywhere():
    found = divergence(0.05, torch.tensor([0.05, 0.0, 1.0]))
    assert found[0].abs() < 1e-6
    assert torch.isfinite(found).all()
    assert found[2] > found[1] > 0.1


@pytest.mark.parametrize("gaussian", [False, True])
def test_a_step_of_contrastive_divergence_follows_the_equations(gaussian):
    generator = torch.Generator().manual_seed(3)
    w, b, a, before = (torch.randn(n, generator=generator).double() for n in ((2, 3), (2,), (3,), (2, 3)))
    data = torch.rand(4, 3, generator=generator).double()
    rate, momentum, decay = 0.1, 0.6, 0.01

    def sigmoid(x):
        return 1 / (1 + (-x).exp())

    first = torch.stack([sigmoid(b + w @ v) for v in data])
    torch.manual_seed(7)
    drawn = (torch.rand_like(first) < first).double()
    means = torch.stack([a + w.T @ h for h in drawn])
    imagined = means if gaussian else sigmoid(means)
    second = torch.stack([sigmoid(b + w @ v) for v in imagined])
    change = momentum * before - decay * w
    for v0, h0, v1, h1 in zip(data, first, imagined, second, strict=True):
        change += rate * (torch.outer(h0, v0) - torch.outer(h1, v1)) / 4

    machine, velocity = Machine(w.clone(), b.clone(), a.clone(), gaussian), before.clone()
    torch.manual_seed(7)
    error = contrastive_step(machine, velocity, data, rate=rate, momentum=momentum, decay=decay)
    torch.testing.assert_close(velocity, change)
    torch.testing.assert_close(machine.weight, w + change)
    torch.testing.assert_close(machine.visible, a + rate * (data - imagined).mean(0))
    torch.testing.assert_close(machine.hidden, b + rate * (first - second).mean(0))
    torch.testing.assert_close(error, (data - imagined).square().mean())


@pytest.mark.parametrize("gaussian", [False, True])
def test_the_free_energy_sums_the_hidden_units_out(gaussian):
    generator = torch.Generator().manual_seed(4)
    machine = Machine(*(torch.randn(n, generator=generator).double() for n in ((3, 2), (3,), (2,))), gaussian)
    visible = torch.rand(5, 2, generator=generator).double()
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    own = (visible - machine.visible).square().sum(1) / 2 if gaussian else -(visible @ machine.visible)
    energy = own[:, None] - (states @ machine.hidden)[None] - visible @ machine.weight.T @ states.T
    torch.testing.assert_close(machine.free_energy(visible), -torch.logsumexp(-energy, dim=1))


def test_machines_learn_which_pictures_there_are():
    """Bars become more probable than the same pixels in disorder."""
    torch.manual_seed(0)
    patches = next(bars(2000, seed=2)).flatten(1)
    disorder = torch.stack([patch[torch.randperm(patch.numel())] for patch in patches])
    machine = Machine(0.01 * torch.randn(24, EDGE**2), torch.zeros(24), torch.zeros(EDGE**2))
    velocity = torch.zeros_like(machine.weight)

    def preference():
        return float((machine.free_energy(disorder) - machine.free_energy(patches)).mean())

    assert abs(preference()) < 0.5
    for picture in itertools.islice(bars(), 400):
        contrastive_step(machine, velocity, picture.flatten(1), rate=0.1, momentum=0.9, decay=2e-4)
    assert preference() > 10


def test_gaussian_units_do_not_mind_the_unit_of_intensity():
    one, other = perceptron((8,)), perceptron((8,))
    noisy = bars(noise=0.1)
    pretrain(one, "contrastive_divergence", bars(noise=0.1), epochs=1)
    pretrain(other, "contrastive_divergence", (1000 * patch - 200 for patch in bars(noise=0.1)), epochs=1)
    patches = next(noisy)
    torch.testing.assert_close(
        activations(hidden_layers(one), patches),
        activations(hidden_layers(other), 1000 * patches - 200),
        rtol=1e-3,
        atol=1e-3,
    )


def test_constant_pixels_do_no_harm():
    network = perceptron((8,))
    framed = (F.pad(patch[..., 1:-1, 1:-1], (1, 1, 1, 1), value=0.5) for patch in bars())
    pretrain(network, "contrastive_divergence", framed, epochs=1)
    assert network.layers[0].weight.abs().max() < 10


def test_momentum_is_low_for_five_epochs(monkeypatch):
    seen = []

    def spy(machine, velocity, visible, **rates):
        seen.append(rates["momentum"])
        return contrastive_step(machine, velocity, visible, **rates)

    monkeypatch.setattr("autospine.trainers.boltzmann.contrastive_step", spy)
    pretrain(perceptron((8,)), "contrastive_divergence", epochs=7, steps=1, momentum=0.8)
    assert seen == [0.5] * 5 + [0.8] * 2


def test_the_registry_knows_both():
    assert find("pretrainers", "sparse_autoencoder") is pretrain_autoencoders
    assert find("pretrainers", "contrastive_divergence") is pretrain_machines
