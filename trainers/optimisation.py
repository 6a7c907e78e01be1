"""The optimiser, how it applies gradients, and the course of its learning rate."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, AdamW, Optimizer

from autospine.core.plan import Schedule

#: As a factor of the loss scale this changes nothing, but torch wants it to be less than one.
_NO_CHANGE: Final = math.nextafter(1.0, 0.0)
_NEVER: Final = 2**31 - 1
#: So much less than a whole epoch still is one.
_ROUNDING: Final = 1e-9


def make_optimiser(network: nn.Module, schedule: Schedule, *, fused: bool | None = None) -> Optimizer:
    """The schedule's optimiser over all of a network's parameters.

    Args:
        network: On the device where it is trained.
        schedule: Names the optimiser and its numbers.
        fused: Whether one kernel does it all; None leaves that to a GPU.
    """
    if fused is None:
        fused = any(parameter.is_cuda for parameter in network.parameters())
    rate, decay = schedule.learning_rate, schedule.weight_decay
    if schedule.optimiser == "adamw":
        return AdamW(network.parameters(), lr=rate, weight_decay=decay, fused=fused or None)
    optimiser = SGD(
        network.parameters(),
        lr=rate,
        momentum=schedule.momentum,
        nesterov=schedule.nesterov,
        weight_decay=decay,
        fused=fused or None,
    )
    fill_momentum(optimiser)
    return optimiser


def fill_momentum(optimiser: Optimizer) -> None:
    """Let every momentum of a fused SGD that does not exist yet be zero, which is what it starts from.

    Torch itself would allocate it with the first step and leave it unwritten when that step is left out; and
    it refuses parameters with a momentum beside others without, as layers have that learn later.
    """
    for group in optimiser.param_groups:
        if isinstance(optimiser, SGD) and group["fused"] and group["momentum"]:
            for parameter in group["params"]:
                if optimiser.state[parameter].get("momentum_buffer") is None:
                    optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def make_scaler(device: torch.device, precision: torch.dtype, *, watching: bool | None = None) -> GradScaler:
    """The loss scaling.

    With a scale of one it only watches: together with a fused optimiser it leaves out a step whose gradients
    are not finite without the host having to look at them.

    Args:
        device: Where the gradients are.
        precision: Of the forward pass; float16 needs scaling.
        watching: Whether there is one for gradients that need none; None leaves that to a GPU.
    """
    if precision == torch.float16:
        return GradScaler(device.type)
    return GradScaler(
        device.type,
        init_scale=1.0,
        backoff_factor=_NO_CHANGE,
        growth_interval=_NEVER,
        enabled=device.type == "cuda" if watching is None else watching,
    )


def apply_gradients(network: nn.Module, optimiser: Optimizer, scaler: GradScaler, clip: float) -> Tensor:
    """One update from the gradients of a scaled loss; it is left out when they are not finite.

    Args:
        network: Holds the gradients.
        optimiser: Over its parameters.
        scaler: By which the loss was scaled.
        clip: Largest L2 norm of the gradients.

    Returns:
        Whether they were finite: a boolean that nobody has waited for, if it is on a GPU.
    """
    scaler.unscale_(optimiser)
    finite = torch.isfinite(nn.utils.clip_grad_norm_(network.parameters(), clip))
    if scaler.is_enabled():
        scaler.step(optimiser)
        scaler.update()
    elif finite:
        optimiser.step()
    return finite


def learning_rate(schedule: Schedule, progress: float, step: int) -> float:
    """Learning rate of a step: ``rate * (1 - progress) ** power`` after a linear rise over the warm-up steps.

    Args:
        schedule: With ``decay_every`` ``"epoch"`` the progress counts in whole epochs of its number of them.
        progress: Share of the whole training, 0 to 1, that is done before the step.
        step: Counted from 0 over the whole training.
    """
    if schedule.decay_every == "epoch":
        progress = math.floor(progress * schedule.epochs + _ROUNDING) / schedule.epochs
    rate = schedule.learning_rate * math.pow(max(0.0, 1 - progress), schedule.decay_power)
    if step < schedule.warmup_steps:
        rate *= (step + 1) / schedule.warmup_steps
    return rate


def centre_weight(schedule: Schedule, progress: float) -> float:
    """Weight of the terms for the bodies' centres.

    It rises with the square of the progress. Where bodies lie is learnt easily, by every voxel; what they
    are called is not, and a trunk that learns both at once from the start learns the names late or never.

    Args:
        schedule: Holds the weight at the end.
        progress: Share of the whole training, 0 to 1, that is done with this step.
    """
    return schedule.centre_weight * progress**2


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
