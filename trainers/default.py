"""The trainer: one fold of one configuration, from its last finished epoch to out-of-fold predictions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autospine import losses
from autospine.core.errors import TrainingError, UsageError
from autospine.core.plan import Schedule
from autospine.core.run import FoldTask
from autospine.io.documents import content_hash
from autospine.io.files import make_folder
from autospine.networks import build
from autospine.precision import autocast, choose_precision
from autospine.registry import find
from autospine.weights import load_tensors, save_tensors, set_weights

from .checkpoint import EpochRecord, TrainingState, load_checkpoint, require_task, save_checkpoint
from .dice import class_counts, pooled_dice
from .optimisation import centre_weight, learning_rate, make_optimiser, set_learning_rate
from .patches import Example, training_examples, unlabelled_patches, validation_examples
from .progress import epoch_line, write_log, write_plot
from .unfreezing import thaw
from .validation import predict_validation_cases

OnStep = Callable[[str], None]
_PLOT_EVERY_SECONDS = 60.0


@dataclass
class Learner:
    """What changes during a training."""

    task: FoldTask
    device: torch.device
    precision: torch.dtype
    network: nn.Module
    step_network: nn.Module
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    loss: losses.DeepSupervisionLoss
    state: TrainingState

    @property
    def schedule(self) -> Schedule:
        """The configuration's schedule."""
        return self.task.configuration.schedule

    @property
    def name(self) -> str:
        """For logs: configuration and fold."""
        return f"{self.task.configuration.name} fold {self.task.fold}"


def train(
    task: FoldTask, on_step: OnStep | None = None, say: Callable[[str], None] | None = None
) -> nn.Module:
    """Train a fold, or go on with it, and predict its validation cases.

    Finished work is not repeated: a complete training only returns its network, an interrupted one goes
    on after its last finished epoch.

    Args:
        task: What to train.
        on_step: Called after every training step with a short status.
        say: Called with one line an epoch.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        UsageError: The folder holds the training of another task.
        TrainingError: A loader worker died, or the training diverged.
        StorageError: The disk refuses.
    """
    make_folder(task.output)
    weights = task.output / "model.safetensors"
    with _determinism(task.configuration.schedule):
        learner = _prepare(task)
        if weights.is_file():
            tensors, header = load_tensors(weights)
            require_task(header.get("task", ""), learner.state.task, weights)
            set_weights(learner.network, tensors, weights)
        else:
            _pretrain(learner, say or (lambda _: None))
            _run_epochs(learner, on_step or (lambda _: None), say or (lambda _: None))
            save_tensors(weights, learner.network.state_dict(), {"task": learner.state.task})
        learner.network.eval()
        predict_validation_cases(task, learner.network, learner.precision)
    return learner.network


def _prepare(task: FoldTask) -> Learner:
    device = torch.device(task.device)
    configuration, schedule = task.configuration, task.configuration.schedule
    torch.manual_seed(schedule.seed + task.fold)
    inputs, outputs = task.plan.input_channels(configuration), task.plan.output_channels(configuration)
    network = build(configuration.network, inputs, outputs).to(device)
    precision = choose_precision(schedule.precision, device)
    learner = Learner(
        task=task,
        device=device,
        precision=precision,
        network=network,
        step_network=_compiled(network, schedule, device),
        optimiser=make_optimiser(network, schedule),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        loss=losses.build(configuration),
        state=TrainingState(_task_hash(task)),
    )
    _resume(learner)
    return learner


def _pretrain(learner: Learner, say: Callable[[str], None]) -> None:
    """What the schedule wants to come before the training; a checkpoint says that it has been done."""
    settings, path = learner.schedule.pretraining, _checkpoint(learner.task)
    if settings.method == "none" or path.is_file():
        return
    patch = getattr(learner.network, "patch", None)
    if not isinstance(patch, int):
        raise UsageError(
            f"A {type(learner.network).__name__} does not say on what patches it is to be pre-trained.",
            remedy="Set the schedule's pretraining.method to none.",
        )
    say(f"{learner.name} pre-training by {settings.method}")
    with unlabelled_patches(learner.task, patch, learner.device) as patches:
        find("pretrainers", settings.method)(learner.network, patches, settings, say)
    save_checkpoint(path, learner.network, learner.optimiser, learner.state)


def _resume(learner: Learner) -> None:
    path = _checkpoint(learner.task)
    if not path.is_file():
        return
    state = load_checkpoint(path, learner.network, learner.optimiser, learner.state.task)
    if state.scaler:
        learner.scaler.load_state_dict(dict(state.scaler))
    learner.state = state


def _run_epochs(learner: Learner, on_step: OnStep, say: Callable[[str], None]) -> None:
    schedule, output = learner.schedule, learner.task.output
    first = learner.state.next_epoch
    plotted = 0.0
    with (
        training_examples(learner.task, first * schedule.steps, learner.device) as training,
        validation_examples(learner.task, first * schedule.validation_steps, learner.device) as validation,
    ):
        for epoch in range(first, schedule.epochs):
            record = _run_epoch(learner, epoch, training, validation, on_step)
            history = (*learner.state.history, record)
            learner.state = replace(learner.state, history=history, scaler=learner.scaler.state_dict())
            save_checkpoint(_checkpoint(learner.task), learner.network, learner.optimiser, learner.state)
            write_log(output / "log.jsonl", history)
            say(epoch_line(learner.name, record, history[first:], schedule.epochs))
            if time.monotonic() - plotted > _PLOT_EVERY_SECONDS or epoch + 1 == schedule.epochs:
                write_plot(output / "progress.png", learner.name, history)
                plotted = time.monotonic()


def _run_epoch(
    learner: Learner,
    epoch: int,
    training: Iterator[Example],
    validation: Iterator[Example],
    on_step: OnStep,
) -> EpochRecord:
    schedule, started = learner.schedule, time.monotonic()
    step_losses, skipped, rate = [], 0, 0.0
    learner.network.train()
    thaw(learner.network, epoch / schedule.epochs, schedule.unfreezing)
    for step in range(schedule.steps):
        done = epoch * schedule.steps + step
        rate = learning_rate(schedule, done)
        set_learning_rate(learner.optimiser, rate)
        weighted = replace(learner.loss, extra_weight=centre_weight(schedule, done))
        loss, applied = _training_step(learner, next(training), weighted)
        step_losses.append(loss)
        skipped += not applied
        on_step(f"epoch {epoch + 1}/{schedule.epochs}")
    if skipped == schedule.steps:
        raise TrainingError(
            f"The training diverged: in epoch {epoch + 1} no step had finite gradients.",
            where=learner.task.output,
            remedy="Lower --schedule.learning-rate or try --schedule.precision fp32, in another run folder.",
        )
    validation_loss, dice = _validate(learner, validation)
    last = learner.state.history[-1].smoothed_dice if learner.state.history else dice
    return EpochRecord(
        epoch=epoch,
        learning_rate=rate,
        training_loss=float(torch.stack(step_losses).nanmean()),
        validation_loss=validation_loss,
        dice=dice,
        smoothed_dice=0.9 * last + 0.1 * dice,
        skipped_steps=skipped,
        seconds=time.monotonic() - started,
    )


def _training_step(
    learner: Learner, example: Example, loss_function: losses.DeepSupervisionLoss
) -> tuple[Tensor, bool]:
    """One update; returns the loss and whether the gradients were finite and so applied."""
    learner.optimiser.zero_grad(set_to_none=True)
    with autocast(learner.device, learner.precision):
        stages = _stages(learner, example.image)
        loss = loss_function(stages, example.labels, example.extra)
    learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    learner.scaler.unscale_(learner.optimiser)
    norm = nn.utils.clip_grad_norm_(learner.network.parameters(), learner.schedule.gradient_clip)
    finite = bool(torch.isfinite(norm))
    if learner.scaler.is_enabled():
        learner.scaler.step(learner.optimiser)  # leaves the step out itself when a gradient is not finite
        learner.scaler.update()
    elif finite:
        learner.optimiser.step()
    return loss.detach(), finite


def _stages(learner: Learner, image: Tensor) -> list[Tensor]:
    stages: list[Tensor] = learner.step_network(image)
    return stages


@torch.no_grad()
def _validate(learner: Learner, validation: Iterator[Example]) -> tuple[float | None, float]:
    """Mean loss, and the mean Dice of the classes pooled over the validation patches."""
    if learner.schedule.validation_steps == 0:
        return None, 0.0
    learner.network.eval()
    found, counts = [], []
    classes = learner.task.plan.target_classes(learner.task.configuration)
    for _ in range(learner.schedule.validation_steps):
        example = next(validation)
        with autocast(learner.device, learner.precision):
            stages = _stages(learner, example.image)
            found.append(learner.loss(stages, example.labels, example.extra))
        labels = losses.downsample(example.labels, stages[0].shape[2:])  # some networks are coarser
        counts.append(class_counts(stages[0][:, :classes], labels))
    loss = float(torch.stack(found).nanmean())
    return loss if math.isfinite(loss) else None, pooled_dice(torch.stack(counts).sum(0))


class _AllStages(nn.Module):
    """A network seen through ``forward_stages``, so that it can be compiled as a whole."""

    def __init__(self, network: nn.Module, deep: bool) -> None:
        super().__init__()
        self.network = network
        self.deep = deep

    def forward(self, image: Tensor) -> list[Tensor]:
        if not self.deep:
            return [self.network(image)]
        stages: list[Tensor] = self.network.forward_stages(image)  # type: ignore[operator]
        return stages


def _compiled(network: nn.Module, schedule: Schedule, device: torch.device) -> nn.Module:
    wrapped = _AllStages(network, schedule.deep_supervision)
    if schedule.compile == "off" or (schedule.compile == "auto" and device.type != "cuda"):
        return wrapped
    compiled: nn.Module = torch.compile(wrapped)  # type: ignore[assignment]
    return compiled


def _checkpoint(task: FoldTask) -> Path:
    return task.output / "checkpoint" / "latest.safetensors"


def _task_hash(task: FoldTask) -> str:
    """Changes when anything does that the trained weights depend on; the folder they stand in may move."""
    what = task.configuration, task.plan.classes, task.plan.ignore_border
    return content_hash(what, task.fold, task.training, task.validation)


@contextmanager
def _determinism(schedule: Schedule) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(schedule.deterministic or before[0])
    # Patches always have the same size, so the fastest convolution is worth looking for once.
    torch.backends.cudnn.benchmark = not schedule.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
