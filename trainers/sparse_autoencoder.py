"""Pre-training of a perceptron over patches: each layer learns to be a sparse autoencoder's code.

The objective is the usual one of sparse autoencoders (Ng, "Sparse autoencoder", CS294A lecture notes):
reconstruction, weight decay, and a penalty that keeps units silent on most patches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, cast

import torch
from torch import Tensor, nn

from autospine.core.errors import TrainingError, UsageError
from autospine.core.plan import Pretraining
from autospine.networks.patch_mlp import activations, hidden_layers

#: Batches set aside to judge a layer on, before and after.
_PROBES: Final = 4
#: Interpolation overshoots the range that intensities were clipped to, but not by more than this.
_OVERSHOOT: Final = 0.25
#: Keeps the logarithms of mean activations finite.
_SMALLEST: Final = 1e-6


@torch.enable_grad()
def pretrain(
    network: nn.Module, patches: Iterator[Tensor], settings: Pretraining, say: Callable[[str], None]
) -> None:
    """Train the hidden layers in place, one after the other, on the features of those before.

    Each layer gets a decoder, which is dropped in the end. Everything random comes from torch's own
    generator.

    Args:
        network: A network of dense layers over patches.
        patches: Endless batches (b, channels, p, …, p) on the network's device, scaled to [0, 1].
        settings: Epochs, rates and weights.
        say: Called with one line a layer.

    Raises:
        UsageError: The network has no layers to pre-train, or intensities lie outside [0, 1].
        TrainingError: The error is no longer finite.
    """
    layers = hidden_layers(network)
    probe = torch.cat([next(patches) for _ in range(_PROBES)]).float()
    require_unit_range(probe)
    with torch.autocast(probe.device.type, enabled=False):
        for depth, layer in enumerate(layers):
            name = f"pre-training layer {depth + 1}/{len(layers)}"
            # Features before this layer are inputs: nothing is learnt through them.
            inputs = (activations(layers[:depth], batch.float()).detach() for batch in patches)
            encoder, decoder = _autoencoder(layer)
            seen = activations(layers[:depth], probe).detach()
            before = _error(encoder, decoder, seen)
            _train(encoder, decoder, inputs, settings, name)
            with torch.no_grad():
                cast(Tensor, layer.weight).copy_(encoder.weight.view_as(cast(Tensor, layer.weight)))
                cast(Tensor, layer.bias).copy_(encoder.bias)
                activity = float(encoder(seen).sigmoid().mean())
            after = _error(encoder, decoder, seen)
            say(f"{name}: reconstruction error {before:.4g} -> {after:.4g}, mean activation {activity:.3f}")


def objective(encoder: nn.Linear, decoder: nn.Linear, inputs: Tensor, settings: Pretraining) -> Tensor:
    """``1/N sum 1/2 |x' - x|² + decay/2 (|W1|² + |W2|²) + weight * sum KL(rho || mean activation)``.

    Args:
        encoder: From inputs to units, before the sigmoid.
        decoder: From units to inputs, before the sigmoid.
        inputs: Shape (N, inputs), between 0 and 1.
        settings: Weight decay, the wanted mean activation rho, and the weight of its divergence.
    """
    units = encoder(inputs).sigmoid()
    error = (decoder(units).sigmoid() - inputs).square().sum(1).mean() / 2
    size = encoder.weight.square().sum() + decoder.weight.square().sum()
    sparsity = divergence(settings.sparsity, units.mean(0)).sum()
    total: Tensor = error + settings.weight_decay / 2 * size + settings.sparsity_weight * sparsity
    return total


def divergence(wanted: float, found: Tensor) -> Tensor:
    """Kullback-Leibler divergence of Bernoulli variables with these means from one with the wanted mean.

    ``rho log(rho / found) + (1 - rho) log((1 - rho) / (1 - found))``, with ``found`` kept off 0 and 1.
    """
    found = found.clamp(_SMALLEST, 1 - _SMALLEST)
    return wanted * (math.log(wanted) - found.log()) + (1 - wanted) * (
        math.log1p(-wanted) - (1 - found).log()
    )


def require_unit_range(patches: Tensor) -> None:
    """Refuse intensities that sigmoid units cannot reconstruct.

    Raises:
        UsageError: Some lie well outside [0, 1].
    """
    low, high = float(patches.min()), float(patches.max())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise UsageError(
            f"This pre-training takes intensities between 0 and 1; these reach from {low:.3g} to {high:.3g}.",
            remedy="Let the normalisation's mean be its lower bound, and its std the upper less the lower.",
        )


def require_finite(errors: list[Tensor], name: str, epoch: int, rate: str) -> None:
    """Refuse to go on after an epoch, counted from 0, with errors that are not finite.

    Raises:
        TrainingError: Some are not.
    """
    if not bool(torch.stack(errors).isfinite().all()):
        raise TrainingError(
            f"The error of {name} is not finite in epoch {epoch + 1}.",
            remedy=f"Lower --schedule.pretraining.{rate}.",
        )


def _autoencoder(layer: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """A copy of the layer, so that it need not be trainable itself, and a decoder for it."""
    weight, bias = cast(Tensor, layer.weight).detach().flatten(1), cast(Tensor, layer.bias).detach()
    units, inputs = weight.shape
    encoder = nn.Linear(inputs, units, device=weight.device)
    decoder = nn.Linear(units, inputs, device=weight.device)
    nn.init.xavier_uniform_(decoder.weight)
    nn.init.zeros_(decoder.bias)
    with torch.no_grad():
        encoder.weight.copy_(weight)
        encoder.bias.copy_(bias)
    return encoder, decoder


def _train(
    encoder: nn.Linear, decoder: nn.Linear, inputs: Iterator[Tensor], settings: Pretraining, name: str
) -> None:
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], settings.learning_rate)
    for epoch in range(settings.epochs):
        losses = []
        for _ in range(settings.steps):
            optimiser.zero_grad(set_to_none=True)
            loss = objective(encoder, decoder, next(inputs), settings)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.detach())
        require_finite(losses, name, epoch, "learning-rate")


@torch.no_grad()
def _error(encoder: nn.Linear, decoder: nn.Linear, inputs: Tensor) -> float:
    """Mean squared error of the reconstruction."""
    return float((decoder(encoder(inputs).sigmoid()).sigmoid() - inputs).square().mean())
