"""The trainer: one fold of one configuration, from its last finished epoch to out-of-fold predictions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from autospine import losses
from autospine.core.errors import TrainingError, UsageError
from autospine.core.plan import Schedule
from autospine.core.run import FoldTask
from autospine.io.documents import content_hash
from autospine.io.files import make_folder
from autospine.networks import build
from autospine.precision import choose_precision, tensor_cores
from autospine.registry import find
from autospine.weights import load_tensors, save_tensors, set_weights

from .checkpoint import TrainingState, require_task
from .compiling import StepNetwork
from .epochs import DivergenceError, OnStep, run_epoch
from .learner import Learner, Say
from .optimisation import make_optimiser, make_scaler
from .pace import pace_of
from .patches import training_examples, unlabelled_patches, validation_examples
from .prefetching import Prefetcher
from .progress import epoch_line, write_log, write_plot
from .validation import predict_validation_cases

_PLOT_EVERY_SECONDS = 60.0
#: Setbacks in a row after which a lower learning rate will not help either.
_MOST_SETBACKS = 5


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
    settings = learner.schedule.pretraining
    if settings.method == "none":
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


def _resume(learner: Learner) -> bool:
    """Go on from the last checkpoint that is whole, if there is one; the beginning is one, too."""
    task = learner.state.task
    state = learner.checkpoints.load(learner.network, learner.optimiser, task, learner.told)
    if state is None:
        return False
    learner.state = state
    if state.scaler:
        learner.scaler.load_state_dict(dict(state.scaler))
    return True


def _run_epochs(learner: Learner, on_step: OnStep) -> None:
    """To the end; an epoch in vain is done again with half the learning rate."""
    if not learner.state.begun:
        _pretrain(learner)
        _keep(learner)
    while learner.state.progress < 1:
        try:
            _run_until_divergence(learner, on_step)
        except DivergenceError as divergence:
            _set_back(learner, str(divergence))


def _run_until_divergence(learner: Learner, on_step: OnStep) -> None:
    schedule, output, device = learner.schedule, learner.task.output, learner.device
    first, plotted = learner.state.next_epoch, 0.0
    pace = pace_of(learner.task, learner.state.progress)
    with (
        training_examples(learner.task, first * schedule.steps, device) as made,
        validation_examples(learner.task, first * schedule.validation_steps, device) as held_out,
    ):
        training, validation = Prefetcher.on(device, made), Prefetcher.on(device, held_out)
        while learner.state.progress < 1:
            record = run_epoch(learner, pace, training, validation, on_step)
            history = (*learner.state.history, record)
            learner.state = replace(learner.state, history=history, setbacks=0)
            _keep(learner)
            write_log(output / "log.jsonl", history)
            left = pace.seconds_left(history[first:])
            learner.say(epoch_line(learner.name, record, pace.counted(record.epoch), left))
            if time.monotonic() - plotted > _PLOT_EVERY_SECONDS or record.progress >= 1:
                write_plot(output / "progress.png", learner.name, history)
                plotted = time.monotonic()


def _keep(learner: Learner) -> None:
    learner.state = replace(learner.state, begun=True, scaler=learner.scaler.state_dict())
    learner.checkpoints.save(learner.network, learner.optimiser, learner.state)


def _set_back(learner: Learner, reason: str) -> None:
    """Restore the last good state, and learn from there at half the rate.

    Raises:
        TrainingError: That has been of no use several times.
    """
    epoch = learner.state.next_epoch + 1
    factor, setbacks = learner.state.rate_factor / 2, learner.state.setbacks + 1
    if setbacks > _MOST_SETBACKS or not _resume(learner):
        raise TrainingError(
            f"The training diverged: in epoch {epoch} {reason}, and lower learning rates did not help.",
            where=learner.task.output,
            remedy="Try --schedule.precision fp32 or less --schedule.learning-rate, in another run folder.",
        )
    learner.state = replace(learner.state, rate_factor=factor, setbacks=setbacks)
    _keep(learner)
    learner.told(
        f"epoch {epoch}: {reason}; it is done again from the state before, "
        f"with {factor:g} times the schedule's learning rate"
    )


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
