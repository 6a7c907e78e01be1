"""Batches for training and validation, on the training device and ready for the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from autospine import augmentation
from autospine.core.plan import Configuration
from autospine.core.run import FoldTask
from autospine.sampling import Batch, CaseFiles, PatchLoader, PatchRequest, batches
from autospine.targets import centre_targets

# Streams of random numbers that must not overlap.
_TRAINING, _VALIDATION, _AUGMENTATION = 0, 1, 2


@dataclass(frozen=True)
class Example:
    """A batch as the network takes it.

    Args:
        image: Shape (b, c, *patch), with the previous stage's one-hot channels appended.
        labels: int8 of shape (b, *patch), -1 where nothing is known.
        centres: Targets of the centre channels (b, 1 + d, *patch), where the network has them.
    """

    image: Tensor
    labels: Tensor
    centres: Tensor | None = None


@contextmanager
def training_examples(task: FoldTask, start: int, device: torch.device) -> Iterator[Iterator[Example]]:
    """Augmented batches from step ``start`` on."""
    configuration = task.configuration
    enlarged = augmentation.enlarged_patch(configuration)
    loader = _loader(task, task.training, enlarged, _TRAINING, start)
    workers = loader.number_of_threads_in_multithreaded
    with batches(loader, workers) as stream:
        yield _augmented(stream, task, start, device)


@contextmanager
def validation_examples(task: FoldTask, start: int, device: torch.device) -> Iterator[Iterator[Example]]:
    """Batches of the validation cases as they are, from step ``start`` on."""
    loader = _loader(task, task.validation, task.configuration.patch, _VALIDATION, start, workers=1)
    # One small batch now and then is not worth another process on a machine with few cores.
    workers = 0 if device.type == "cpu" else 1
    with batches(loader, workers) as stream:
        yield (_plain(batch, task, device) for batch in stream)


def default_workers(device: torch.device) -> int:
    """Loader processes: they only read and crop, so few keep a GPU busy and one is enough for a CPU."""
    return 1 if device.type == "cpu" else 2


def _loader(
    task: FoldTask,
    identifiers: tuple[str, ...],
    patch: tuple[int, ...],
    stream: int,
    start: int,
    workers: int | None = None,
) -> PatchLoader:
    schedule, configuration = task.configuration.schedule, task.configuration
    request = PatchRequest(
        patch=patch,
        final_patch=configuration.patch,
        batch_size=configuration.batch_size,
        foreground_share=schedule.foreground_share,
        padding=configuration.padding,
        centres=len(task.plan.classes) if configuration.centres else 0,
    )
    count = workers or schedule.workers or default_workers(torch.device(task.device))
    files = [CaseFiles(task.data, identifier, task.previous) for identifier in identifiers]
    return PatchLoader(files, request, (schedule.seed, task.fold, stream), start, count)


def _augmented(
    stream: Iterator[Batch], task: FoldTask, start: int, device: torch.device
) -> Iterator[Example]:
    schedule, configuration = task.configuration.schedule, task.configuration
    classes = len(task.plan.classes)
    for step, batch in enumerate(stream, start):
        generator = torch.Generator().manual_seed(_mix(schedule.seed, task.fold, _AUGMENTATION, step))
        tensors = _to_device(batch, device)
        parameters = augmentation.draw_parameters(
            configuration, len(batch["cases"]), generator, classes if "previous" in tensors else None
        )
        image, labels, previous = augmentation.apply(
            parameters, tensors["image"], tensors["labels"], tensors.get("previous")
        )
        points = tensors.get("centres")
        if points is not None:
            points = augmentation.move_points(parameters, points)
        yield _example(image, labels, previous, points, configuration)


def _plain(batch: Batch, task: FoldTask, device: torch.device) -> Example:
    tensors = _to_device(batch, device)
    previous = tensors.get("previous")
    if previous is not None:
        previous = augmentation.one_hot(previous, len(task.plan.classes))
    return _example(tensors["image"], tensors["labels"], previous, tensors.get("centres"), task.configuration)


def _example(
    image: Tensor,
    labels: Tensor,
    previous: Tensor | None,
    points: Tensor | None,
    configuration: Configuration,
) -> Example:
    """Put together what the network sees and what it is to say."""
    channels = image if previous is None else torch.cat([image, previous], dim=1)
    if points is None:
        return Example(channels, labels)
    spacing = [s for s in configuration.spacing if s is not None]
    return Example(channels, labels, centre_targets(labels, points, spacing))


def _to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    tensors = {key: torch.as_tensor(value) for key, value in batch.items() if key != "cases"}
    if device.type == "cpu":
        return tensors
    # Only from pinned memory does a copy run beside the computation.
    return {key: value.pin_memory().to(device, non_blocking=True) for key, value in tensors.items()}


def _mix(*parts: int) -> int:
    """One seed from several numbers, without the collisions that adding them would have."""
    result = 0
    for part in parts:
        result = (result * 1_000_003 + part + 1) % (2**63 - 1)
    return result
