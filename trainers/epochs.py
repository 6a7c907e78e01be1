"""One epoch: its steps, and what the network then makes of patches that it has not seen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from autospine import losses
from autospine.precision import autocast

from .checkpoint import EpochRecord
from .dice import class_counts, pooled_dice
from .learner import Learner
from .optimisation import apply_gradients, centre_weight, learning_rate, set_learning_rate
from .pace import Pace
from .patches import Example
from .prefetching import Prefetcher
from .unfreezing import thaw

OnStep = Callable[[str], None]


class DivergenceError(Exception):
    """The loss of a step was not finite, or that of none was to be used."""


def run_epoch(
    learner: Learner, pace: Pace, training: Prefetcher, validation: Prefetcher, on_step: OnStep
) -> EpochRecord:
    """Train for an epoch, or until the training is over, and validate.

    Raises:
        DivergenceError: The epoch was in vain; network and optimiser are to be restored.
    """
    schedule, started, epoch = learner.schedule, time.monotonic(), learner.state.next_epoch
    found: list[Tensor] = []
    applied: list[Tensor] = []
    rate = 0.0
    learner.network.train()
    for step in range(epoch * schedule.steps, (epoch + 1) * schedule.steps):
        progress = pace.progress(step)
        if progress >= 1 and found:
            break
        if not found:
            thaw(learner.network, progress, schedule.unfreezing)
        rate = learning_rate(schedule, progress, step) * learner.state.rate_factor
        set_learning_rate(learner.optimiser, rate)
        weighted = replace(learner.loss, extra_weight=centre_weight(schedule, pace.progress(step + 1)))
        loss, finite = training_step(learner, next(training), weighted)
        training.prepare()
        found.append(loss)
        applied.append(finite)
        on_step(f"epoch {pace.counted(epoch)}")
    # Only here, once an epoch, does the host ask the GPU how its steps went.
    step_losses, skipped = torch.stack(found), len(applied) - int(torch.stack(applied).sum())
    _require_convergence(step_losses, skipped)
    validation_loss, dice = _validate(learner, validation)
    last = learner.state.history[-1].smoothed_dice if learner.state.history else dice
    return EpochRecord(
        epoch=epoch,
        learning_rate=rate,
        training_loss=float(step_losses.mean()),
        validation_loss=validation_loss,
        dice=dice,
        smoothed_dice=0.9 * last + 0.1 * dice,
        skipped_steps=skipped,
        seconds=time.monotonic() - started,
        waiting=training.waited() + validation.waited(),
        steps=len(found),
        progress=pace.progress((epoch + 1) * schedule.steps),
    )


def _require_convergence(step_losses: Tensor, skipped: int) -> None:
    broken = int((~torch.isfinite(step_losses)).sum())
    if broken:
        raise DivergenceError(f"the loss was not finite in {broken} of {len(step_losses)} steps")
    if skipped == len(step_losses):
        raise DivergenceError("no step had finite gradients")


def training_step(
    learner: Learner, example: Example, loss_function: losses.DeepSupervisionLoss
) -> tuple[Tensor, Tensor]:
    """One update; returns the loss and whether the gradients were finite and so applied."""

    def backward() -> Tensor:
        learner.optimiser.zero_grad(set_to_none=True)
        with autocast(learner.device, learner.precision):
            loss = loss_function(learner.step_network(example.image), example.labels, example.extra)
        learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    loss = learner.step_network.with_or_without_compiler(backward, learner.told)
    clip = learner.schedule.gradient_clip
    return loss, apply_gradients(learner.network, learner.optimiser, learner.scaler, clip)


@torch.no_grad()
def _validate(learner: Learner, validation: Prefetcher) -> tuple[float | None, float]:
    """Mean loss, and the mean Dice of the classes pooled over the validation patches."""
    if learner.schedule.validation_steps == 0:
        return None, 0.0
    learner.network.eval()
    found, counts = [], []
    classes = learner.task.plan.target_classes(learner.task.configuration)
    for _ in range(learner.schedule.validation_steps):
        loss, count = _validation_step(learner, next(validation), classes)
        validation.prepare()
        found.append(loss)
        counts.append(count)
    mean = float(torch.stack(found).nanmean())
    return mean if math.isfinite(mean) else None, pooled_dice(torch.stack(counts).sum(0))


def _validation_step(learner: Learner, example: Example, classes: int) -> tuple[Tensor, Tensor]:
    """The loss and the counts of `class_counts`."""
    with autocast(learner.device, learner.precision):
        network = learner.step_network
        stages = network.with_or_without_compiler(lambda: network(example.image), learner.told)
        loss = learner.loss(stages, example.labels, example.extra)
    labels = losses.downsample(example.labels, stages[0].shape[2:])  # some networks are coarser
    return loss, class_counts(stages[0][:, :classes], labels)
