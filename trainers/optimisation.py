"""The optimiser and the course of its learning rate."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from autospine.core.plan import Schedule


def make_optimiser(network: nn.Module, schedule: Schedule) -> Optimizer:
    """The schedule's optimiser over all of a network's parameters."""
    if schedule.optimiser == "adamw":
        return AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    return SGD(
        network.parameters(),
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        nesterov=schedule.nesterov,
        weight_decay=schedule.weight_decay,
    )


def learning_rate(schedule: Schedule, step: int) -> float:
    """Learning rate of a step, counted from 0 over the whole training.

    ``rate * (1 - progress) ** power`` with the progress in finished epochs or steps, after a linear
    rise over the warm-up steps.
    """
    done, total = step, schedule.epochs * schedule.steps
    if schedule.decay_every == "epoch":
        done, total = step // schedule.steps, schedule.epochs
    rate = schedule.learning_rate * math.pow(1 - done / total, schedule.decay_power)
    if step < schedule.warmup_steps:
        rate *= (step + 1) / schedule.warmup_steps
    return rate


def centre_weight(schedule: Schedule, step: int) -> float:
    """Weight of the terms for the bodies' centres at a step, counted from 0 over the whole training.

    It rises with the square of the progress. Where bodies lie is learnt easily, by every voxel; what they
    are called is not, and a trunk that learns both at once from the start learns the names late or never.
    """
    progress = (step + 1) / (schedule.epochs * schedule.steps)
    return schedule.centre_weight * progress**2


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
