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
from autospine.precision import autocast, choose_precision, tensor_cores
from autospine.registry import find
from autospine.weights import load_tensors, save_tensors, set_weights

from .checkpoint import EpochRecord, TrainingState, load_checkpoint, require_task, save_checkpoint
from .compiling import StepNetwork
from .dice import class_counts, pooled_dice
from .optimisation import (
    apply_gradients,
    centre_weight,
    learning_rate,
    make_optimiser,
    make_scaler,
    set_learning_rate,
)
from .patches import Example, training_examples, unlabelled_patches, validation_examples
from .prefetching import Prefetcher
from .progress import epoch_line, write_log, write_plot
from .unfreezing import thaw
from .validation import predict_validation_cases

OnStep = Callable[[str], None]
Say = Callable[[str], None]
_PLOT_EVERY_SECONDS = 60.0


@dataclass
class Learner:
    """What changes during a training."""

    task: FoldTask
    device: torch.device
    precision: torch.dtype
    network: nn.Module
    step_network: StepNetwork
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    loss: losses.DeepSupervisionLoss
    state: TrainingState
    say: Say

    @property
    def schedule(self) -> Schedule:
        """The configuration's schedule."""
        return self.task.configuration.schedule

    @property
    def name(self) -> str:
        """For logs: configuration and fold."""
        return f"{self.task.configuration.name} fold {self.task.fold}"

    def told(self, text: str) -> None:
        """Say something about this training."""
        self.say(f"{self.name} {text}")


def train(task: FoldTask, on_step: OnStep | None = None, say: Say | None = None) -> nn.Module:
    """Train a fold, or go on with it, and predict its validation cases.

    Finished work is not repeated: a complete training only returns its network, an interrupted one goes
    on after its last finished epoch.

    Args:
        task: What to train.
        on_step: Called after every training step with a short status.
        say: Called with one line an epoch, and when something could not be done as wanted.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        UsageError: The folder holds the training of another task.
        TrainingError: A loader worker died, the training diverged, or the GPU's memory does not suffice.
        StorageError: The disk refuses.
    """
    make_folder(task.output)
    weights = task.output / "model.safetensors"
    device = torch.device(task.device)
    with _determinism(task.configuration.schedule):
        learner = prepare(task, say or (lambda _: None))
        if weights.is_file():
            tensors, header = load_tensors(weights)
            require_task(header.get("task", ""), learner.state.task, weights)
            set_weights(learner.network, tensors, weights)
        else:
            with tensor_cores(device), _enough_memory(task, device):
                _pretrain(learner)
                _run_epochs(learner, on_step or (lambda _: None))
            save_tensors(weights, learner.network.state_dict(), {"task": learner.state.task})
        learner.network.eval()
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the prediction asks the driver how much is free
        predict_validation_cases(task, learner.network, learner.precision)
    return learner.network


def prepare(task: FoldTask, say: Say = print) -> Learner:
    """Network, optimiser and loss of a task, as its last checkpoint left them.

    Raises:
        UsageError: The folder holds the training of another task.
    """
    device = torch.device(task.device)
    configuration, schedule = task.configuration, task.configuration.schedule
    torch.manual_seed(schedule.seed + task.fold)
    inputs, outputs = task.plan.input_channels(configuration), task.plan.output_channels(configuration)
    # Not channels_last_3d: instance and group normalisation would copy to and fro, and the backward pass
    # loses more than the convolutions win.
    network = build(configuration.network, inputs, outputs).to(device)
    precision = choose_precision(schedule.precision, device)
    learner = Learner(
        task=task,
        device=device,
        precision=precision,
        network=network,
        step_network=StepNetwork(network, schedule, device),
        optimiser=make_optimiser(network, schedule),
        scaler=make_scaler(device, precision),
        loss=losses.build(configuration),
        state=TrainingState(_task_hash(task)),
        say=say,
    )
    _resume(learner)
    return learner


def _pretrain(learner: Learner) -> None:
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
    learner.told(f"pre-training by {settings.method}")
    with unlabelled_patches(learner.task, patch, learner.device) as patches:
        find("pretrainers", settings.method)(learner.network, patches, settings, learner.say)
    save_checkpoint(path, learner.network, learner.optimiser, learner.state)


def _resume(learner: Learner) -> None:
    path = _checkpoint(learner.task)
    if not path.is_file():
        return
    state = load_checkpoint(path, learner.network, learner.optimiser, learner.state.task)
    if state.scaler:
        learner.scaler.load_state_dict(dict(state.scaler))
    learner.state = state


def _run_epochs(learner: Learner, on_step: OnStep) -> None:
    schedule, output, device = learner.schedule, learner.task.output, learner.device
    first = learner.state.next_epoch
    plotted = 0.0
    with (
        training_examples(learner.task, first * schedule.steps, device) as made,
        validation_examples(learner.task, first * schedule.validation_steps, device) as held_out,
    ):
        training, validation = Prefetcher.on(device, made), Prefetcher.on(device, held_out)
        for epoch in range(first, schedule.epochs):
            record = _run_epoch(learner, epoch, training, validation, on_step)
            history = (*learner.state.history, record)
            learner.state = replace(learner.state, history=history, scaler=learner.scaler.state_dict())
            save_checkpoint(_checkpoint(learner.task), learner.network, learner.optimiser, learner.state)
            write_log(output / "log.jsonl", history)
            learner.say(epoch_line(learner.name, record, history[first:], schedule.epochs))
            if time.monotonic() - plotted > _PLOT_EVERY_SECONDS or epoch + 1 == schedule.epochs:
                write_plot(output / "progress.png", learner.name, history)
                plotted = time.monotonic()


def _run_epoch(
    learner: Learner, epoch: int, training: Prefetcher, validation: Prefetcher, on_step: OnStep
) -> EpochRecord:
    schedule, started = learner.schedule, time.monotonic()
    step_losses, applied, rate = [], [], 0.0
    learner.network.train()
    thaw(learner.network, epoch / schedule.epochs, schedule.unfreezing)
    for step in range(schedule.steps):
        done = epoch * schedule.steps + step
        rate = learning_rate(schedule, done)
        set_learning_rate(learner.optimiser, rate)
        weighted = replace(learner.loss, extra_weight=centre_weight(schedule, done))
        loss, finite = training_step(learner, next(training), weighted)
        training.prepare()
        step_losses.append(loss)
        applied.append(finite)
        on_step(f"epoch {epoch + 1}/{schedule.epochs}")
    # Only here, once an epoch, does the host ask the GPU how its steps went.
    skipped = schedule.steps - int(torch.stack(applied).sum())
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
        waiting=training.waited() + validation.waited(),
    )


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


@contextmanager
def _enough_memory(task: FoldTask, device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        configuration, planned = task.configuration, task.plan.budget.gpu_memory
        patch = " x ".join(map(str, configuration.patch))
        less = "--gpu-memory" if planned is None else f"--gpu-memory than {planned:g}"
        raise TrainingError(
            f"The GPU's memory does not suffice to train {configuration.name} on batches of "
            f"{configuration.batch_size} patches of {patch} voxels ({_card(device)}).",
            where=task.output,
            remedy=f"Plan with a smaller {less}, in another run folder; or free the GPU of other programs "
            "and run the same command again: it goes on after the last checkpoint, which is kept.",
        ) from error


def _card(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
