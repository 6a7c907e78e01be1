"""Pre-training of a perceptron over patches as a deep belief network, by contrastive divergence.

Each layer is a restricted Boltzmann machine that learns the distribution of what the layers before make of
patches (Hinton, Neural Computation 14:1771, 2002; Hinton, Osindero and Teh, Neural Computation 18:1527,
2006).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.core.plan import Pretraining
from autospine.networks.patch_mlp import activations, hidden_layers

from .sparse_autoencoder import require_finite, require_unit_range

#: Batches set aside to know the patches' mean and deviation, and to judge a layer on.
_PROBES: Final = 20
#: Epochs with the low momentum, and that momentum: in the beginning gradients are large and change.
_EARLY_EPOCHS: Final = 5
_EARLY_MOMENTUM: Final = 0.5
#: Deviation of the initial weights.
_INITIAL: Final = 0.01
#: A pixel that deviates less than this is constant.
_CONSTANT: Final = 1e-3


@dataclass(frozen=True)
class Machine:
    """A restricted Boltzmann machine; learning changes its tensors in place.

    Args:
        weight: Shape (hidden, visible).
        hidden: Biases of the hidden units, which are binary.
        visible: Biases of the visible units.
        gaussian: Whether visible units are Gaussian with deviation one rather than binary.
    """

    weight: Tensor
    hidden: Tensor
    visible: Tensor
    gaussian: bool = False

    def units(self, visible: Tensor) -> Tensor:
        """Probabilities (b, hidden) of the hidden units, given visible ones (b, visible)."""
        return F.linear(visible, self.weight, self.hidden).sigmoid()

    def reconstruction(self, hidden: Tensor) -> Tensor:
        """Means (b, visible) of the visible units, given hidden ones (b, hidden)."""
        means = F.linear(hidden, self.weight.T, self.visible)
        return means if self.gaussian else means.sigmoid()

    def free_energy(self, visible: Tensor) -> Tensor:
        """Minus the logarithm of the unnormalised probability of visible units (b, visible), shape (b,)."""
        hidden = F.softplus(F.linear(visible, self.weight, self.hidden)).sum(1)
        if self.gaussian:
            return (visible - self.visible).square().sum(1) / 2 - hidden
        return -(visible @ self.visible) - hidden

    def error(self, visible: Tensor) -> Tensor:
        """Mean squared error of the reconstruction from the hidden units' probabilities."""
        return (self.reconstruction(self.units(visible)) - visible).square().mean()


@torch.no_grad()
def pretrain(
    network: nn.Module, patches: Iterator[Tensor], settings: Pretraining, say: Callable[[str], None]
) -> None:
    """Train the hidden layers in place, one after the other, on the features of those before.

    Gaussian visible units see patches whose every pixel has mean 0 and deviation 1; the layer's weights are
    then rewritten for patches as they are. Everything random comes from torch's own generator.

    Args:
        network: A network of dense layers over patches.
        patches: Endless batches (b, channels, p, …, p) on the network's device; scaled to [0, 1] for a first
            layer with binary visible units.
        settings: Epochs, rates and momentum.
        say: Called with one line a layer.

    Raises:
        UsageError: The network has no layers to pre-train, or intensities lie outside [0, 1] where they must
            be probabilities.
        TrainingError: The error is no longer finite.
    """
    layers = hidden_layers(network)
    probe = torch.cat([next(patches) for _ in range(_PROBES)]).float()
    if settings.visible == "bernoulli":
        require_unit_range(probe)
    with torch.autocast(probe.device.type, enabled=False):
        for depth, layer in enumerate(layers):
            gaussian = depth == 0 and settings.visible == "gaussian"
            seen = activations(layers[:depth], probe)
            mean, deviation = _standard(seen) if gaussian else (seen.new_zeros(1), seen.new_ones(1))
            inputs = ((activations(layers[:depth], batch.float()) - mean) / deviation for batch in patches)
            machine = _machine(layer, gaussian)
            name = f"pre-training layer {depth + 1}/{len(layers)}"
            say(f"{name}: {_learn(machine, inputs, (seen - mean) / deviation, settings, name)}")
            weight = machine.weight / deviation
            cast(Tensor, layer.weight).copy_(weight.view_as(cast(Tensor, layer.weight)))
            cast(Tensor, layer.bias).copy_(machine.hidden - (weight * mean).sum(1))


def contrastive_step(
    machine: Machine, velocity: Tensor, visible: Tensor, *, rate: float, momentum: float, decay: float
) -> Tensor:
    """Change a machine by one step of contrastive divergence, CD-1.

    ``dW = rate (p(h0)' v0 - p(h1)' v1) / B - decay W + momentum dW_before``, ``da = rate mean(v0 - v1)`` and
    ``db = rate mean(p(h0) - p(h1))``. Only the hidden units that the reconstruction v1 starts from are drawn;
    everywhere else there are probabilities.

    Args:
        machine: The machine.
        velocity: Its weights' last change dW_before, which becomes this one.
        visible: The data v0, shape (B, visible).
        rate: Of learning.
        momentum: Share of the last change that goes on.
        decay: Share of the weights that is taken off.

    Returns:
        The mean squared error of the reconstruction.
    """
    units = machine.units(visible)
    # Unlike torch.bernoulli this outlives values that are not finite, which are to be reported.
    drawn = (torch.rand_like(units) < units).to(units.dtype)
    imagined = machine.reconstruction(drawn)
    after = machine.units(imagined)
    slope = (units.T @ visible - after.T @ imagined) / len(visible)
    velocity.mul_(momentum).add_(slope, alpha=rate).sub_(machine.weight, alpha=decay)
    machine.weight.add_(velocity)
    machine.visible.add_((visible - imagined).mean(0), alpha=rate)
    machine.hidden.add_((units - after).mean(0), alpha=rate)
    return (visible - imagined).square().mean()


def _learn(
    machine: Machine, inputs: Iterator[Tensor], probe: Tensor, settings: Pretraining, name: str
) -> str:
    """Train a machine and say how that went."""
    rate = settings.gaussian_rate if machine.gaussian else settings.learning_rate
    velocity = torch.zeros_like(machine.weight)
    before = float(machine.error(probe))
    latest: deque[Tensor] = deque(maxlen=_PROBES)
    for epoch in range(settings.epochs):
        momentum = _EARLY_MOMENTUM if epoch < _EARLY_EPOCHS else settings.momentum
        errors = []
        for _ in range(settings.steps):
            latest.append(next(inputs))
            errors.append(
                contrastive_step(
                    machine, velocity, latest[-1], rate=rate, momentum=momentum, decay=settings.weight_decay
                )
            )
        require_finite(errors, name, epoch, "gaussian-rate" if machine.gaussian else "learning-rate")
    # Patches that the machine was not trained on are as probable as those that it was, unless it overfits.
    gap = machine.free_energy(probe).mean() - machine.free_energy(torch.cat(list(latest))).mean()
    after = float(machine.error(probe))
    return f"reconstruction error {before:.4g} -> {after:.4g}, free energy of new patches {float(gap):+.3g}"


def _machine(layer: nn.Module, gaussian: bool) -> Machine:
    weight = torch.randn_like(cast(Tensor, layer.weight).flatten(1)) * _INITIAL
    units, inputs = weight.shape
    return Machine(weight, weight.new_zeros(units), weight.new_zeros(inputs), gaussian)


def _standard(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each input; one that is constant stays as small as it is."""
    deviation = inputs.std(0)
    return inputs.mean(0), torch.where(deviation < _CONSTANT, 1.0, deviation)
