"""Batches for training and validation, on the training device and ready for the network."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from autospine import augmentation
from autospine.core import anatomy
from autospine.core.plan import Configuration, Plan
from autospine.core.run import FoldTask
from autospine.inference.walk import WalkSettings
from autospine.patch_reading import PatchRequest
from autospine.sampling import MAPS, Batch, CaseFiles, Margins, PatchLoader, batches
from autospine.target_labels import ball_labels, foreground_labels, undersampled
from autospine.targets import centre_targets, heat

# Streams of random numbers that must not overlap.
_TRAINING, _VALIDATION, _AUGMENTATION, _PRETRAINING = 0, 1, 2, 3
#: mm along each axis by which the region around a vertebra may miss its centre.
_MISSES = 5.0
#: Batches of small patches that one batch of large ones is cut into.
_CUTS = 8


@dataclass(frozen=True)
class Example:
    """A batch as the network takes it.

    Args:
        image: Shape (b, c, *patch), all input channels.
        labels: int8 of shape (b, *patch), -1 where nothing is known or asked for.
        extra: Targets of the channels behind the classes (b, e, *patch), where the network has them.
    """

    image: Tensor
    labels: Tensor
    extra: Tensor | None = None


@contextmanager
def training_examples(task: FoldTask, start: int, device: torch.device) -> Iterator[Iterator[Example]]:
    """Augmented batches from step ``start`` on."""
    loader = training_loader(task, start)
    with batches(loader, loader.number_of_threads_in_multithreaded) as stream:
        yield _augmented(stream, task, start, device)


def training_loader(task: FoldTask, start: int) -> PatchLoader:
    """Reads the training cases' patches, and around each as much as its augmentation will need."""
    return _loader(task, task.training, _TRAINING, start, margins=functools.partial(_margins, task))


@contextmanager
def validation_examples(task: FoldTask, start: int, device: torch.device) -> Iterator[Iterator[Example]]:
    """Batches of the validation cases as they are, from step ``start`` on."""
    loader = _loader(task, task.validation, _VALIDATION, start, workers=1)
    # One small batch now and then is not worth another process on a machine with few cores.
    workers = 0 if device.type == "cpu" else 1
    with batches(loader, workers) as stream:
        yield (_plain(batch, task, device) for batch in stream)


@contextmanager
def unlabelled_patches(task: FoldTask, size: int, device: torch.device) -> Iterator[Iterator[Tensor]]:
    """Small patches (n, c, size, ..., size) from anywhere in the training cases, as they are.

    Args:
        task: Its schedule says how many a batch has.
        size: Edge in voxels.
        device: Where they are wanted.
    """
    wanted = task.configuration.schedule.pretraining.batch_size
    loader = _loader(task, task.training, _PRETRAINING, 0)
    with batches(loader, loader.number_of_threads_in_multithreaded) as stream:
        yield (
            _cut_out(image, size, wanted, _generator(task, _PRETRAINING, step * _CUTS + cut))
            for step, image in enumerate(_stacked(batch, device)["image"] for batch in stream)
            for cut in range(_CUTS)
        )


def default_workers(device: torch.device) -> int:
    """Loader processes: they only read and crop, so few keep a GPU busy and one is enough for a CPU."""
    return 1 if device.type == "cpu" else 2


def _loader(
    task: FoldTask,
    identifiers: tuple[str, ...],
    stream: int,
    start: int,
    workers: int | None = None,
    margins: Margins | None = None,
) -> PatchLoader:
    schedule, configuration = task.configuration.schedule, task.configuration
    located = configuration.centres or configuration.target == "centroids"
    request = PatchRequest(
        patch=configuration.patch,
        batch_size=configuration.batch_size,
        foreground_share=schedule.foreground_share,
        padding=configuration.padding,
        centres=len(task.plan.classes) if located else 0,
        view=configuration.view,
        context=configuration.context,
        jitter=_jitter(configuration),
        order=_from_head_to_foot(task.plan),
        # Training and prediction stop at the same vertebrae.
        least=WalkSettings().least(math.prod(s or 1.0 for s in configuration.spacing)),
    )
    count = workers or schedule.workers or default_workers(torch.device(task.device))
    previous = task.previous if configuration.fed else None
    files = [CaseFiles(task.data, identifier, previous) for identifier in identifiers]
    return PatchLoader(files, request, (schedule.seed, task.fold, stream), start, count, margins)


def _jitter(configuration: Configuration) -> tuple[float, ...]:
    """Voxels by which a region may miss its vertebra, as the stage before will."""
    return tuple(_MISSES / (s or 1.0) for s in configuration.spacing)


def _from_head_to_foot(plan: Plan) -> tuple[int, ...]:
    vertebrae = plan.labels.vertebrae
    channels = [c for c, value in enumerate(plan.classes) if value in vertebrae]
    return tuple(sorted(channels, key=lambda channel: anatomy.rank_of(vertebrae[plan.classes[channel]])))


def _margins(task: FoldTask, step: int) -> Sequence[Sequence[int]]:
    """What `_augmented` will need of a step's samples, for it draws from the same generator."""
    generator = _generator(task, _AUGMENTATION, step)
    return augmentation.draw_margins(task.configuration, task.configuration.batch_size, generator)


def _augmented(
    stream: Iterator[Batch], task: FoldTask, start: int, device: torch.device
) -> Iterator[Example]:
    for step, batch in enumerate(stream, start):
        generator = _generator(task, _AUGMENTATION, step)
        maps, tensors = _to_device(batch, device)
        previous = maps.get("previous")
        parameters = augmentation.draw_parameters(
            task.configuration,
            len(batch["cases"]),
            generator,
            None if previous is None else task.plan.fed_classes(task.configuration),
        )
        tensors["image"], tensors["labels"], channels = augmentation.apply(
            parameters, maps["image"], maps["labels"], previous
        )
        for key in ("centres", "point"):
            if key in tensors:
                tensors[key] = _moved(parameters, tensors[key])
        yield _example(tensors, channels, task, generator)


def _plain(batch: Batch, task: FoldTask, device: torch.device) -> Example:
    tensors = _stacked(batch, device)
    previous, channels = tensors.get("previous"), None
    if previous is not None:
        channels = augmentation.one_hot(previous, task.plan.fed_classes(task.configuration))
    return _example(tensors, channels, task, None)


def _example(
    tensors: Mapping[str, Tensor],
    previous: Tensor | None,
    task: FoldTask,
    generator: torch.Generator | None,
) -> Example:
    """Put together what the network sees and what it is to say.

    Args:
        tensors: The batch, augmented or not.
        previous: One-hot channels that enter beside the image.
        task: Says what is to be learnt.
        generator: Draws which voxels are left out in training; None leaves out none.
    """
    configuration, labels = task.configuration, tensors["labels"]
    channels = [tensors["image"], *([] if previous is None else [previous])]
    if "point" in tensors:
        channels.append(heat(tensors["point"], labels.shape[1:], _spacing(configuration)).unsqueeze(1))
    extra = None
    if configuration.centres:
        extra = centre_targets(labels, tensors["centres"], _spacing(configuration))
    elif "whole" in tensors:
        extra = _where(labels > 0, tensors["whole"])
    if configuration.target == "foreground":
        labels = foreground_labels(labels, task.plan.vertebra_channels)
    elif configuration.target == "centroids":
        labels = ball_labels(labels, tensors["centres"], [s or 1.0 for s in configuration.spacing])
    if configuration.schedule.balance == "undersampled" and generator is not None:
        labels = undersampled(labels, configuration.schedule.near_background, generator)
    return Example(channels[0] if len(channels) == 1 else torch.cat(channels, dim=1), labels, extra)


def _moved(parameters: augmentation.Parameters, points: Tensor) -> Tensor:
    """Points (b, n, 3), moved along the network's axes; what lies across a 2D network's slice stays."""
    axes = len(parameters.patch)
    moved = augmentation.move_points(parameters, points[..., -axes:])
    return torch.cat([points[..., :-axes], moved], dim=-1)


def _where(mask: Tensor, values: Tensor) -> Tensor:
    """One value per sample (b,) on the voxels of a mask (b, *patch), NaN elsewhere, (b, 1, *patch)."""
    per_sample = values.view(-1, *[1] * (mask.ndim - 1))
    return torch.where(mask, per_sample, torch.nan).unsqueeze(1)


def _cut_out(images: Tensor, size: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Patches (wanted, c, size, ..., size) from anywhere in images (b, c, *patch)."""
    spatial = images.shape[2:]
    sample = torch.randint(len(images), (wanted,), generator=generator).tolist()
    starts = [torch.randint(n - size + 1, (wanted,), generator=generator).tolist() for n in spatial]
    cuts = [tuple(slice(a, a + size) for a in corner) for corner in zip(*starts, strict=True)]
    return torch.stack([images[(b, slice(None), *cut)] for b, cut in zip(sample, cuts, strict=True)])


def _spacing(configuration: Configuration) -> list[float]:
    return [s for s in configuration.spacing[-configuration.dimensions :] if s is not None]


def _generator(task: FoldTask, stream: int, step: int) -> torch.Generator:
    seed = task.configuration.schedule.seed
    return torch.Generator().manual_seed(_mix(seed, task.fold, stream, step))


def _to_device(batch: Batch, device: torch.device) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
    """The batch's maps, sample by sample, and what else it holds."""
    maps = {key: [_sent(value, device) for value in batch[key]] for key in MAPS if key in batch}
    others = [key for key in batch if key not in (*MAPS, "cases")]
    return maps, {key: _sent(batch[key], device) for key in others}


def _stacked(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """A batch read without margins; the image in float32."""
    maps, tensors = _to_device(batch, device)
    stacked = {key: torch.stack(values) for key, values in maps.items()}
    return tensors | stacked | {"image": stacked["image"].float()}


def _sent(values: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.as_tensor(values)
    # Only from pinned memory does a copy run beside the computation.
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _mix(*parts: int) -> int:
    """One seed from several numbers, without the collisions that adding them would have."""
    result = 0
    for part in parts:
        result = (result * 1_000_003 + part + 1) % (2**63 - 1)
    return result
