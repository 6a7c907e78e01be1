"""A network over one preprocessed image, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from autospine.core.plan import Schedule
from autospine.core.run import FoldTask
from autospine.trainers import default, epochs
from autospine.trainers.patches import Example
from benchmarks.agreement import differing_share, mean_dice
from benchmarks.inputs import thoracolumbar
from benchmarks.ours.sliding_window import Work
from benchmarks.same_network import AIR, PATCH, Scan, first_scan, shared_plan, write_network
from benchmarks.step import Step

#: 2 x 3 x 3 windows.
_SHAPE: Final = (168, 112, 96)
#: So short a training only knows the image it has seen; a shorter one leaves names open to rounding.
_STEPS: Final = 800
_THREADS: Final = 2


def prepare(work: Path) -> Path:
    """An image, part of it in the middle of air, and a network that knows its vertebrae."""
    folder = work / "sliding_window"
    if not (folder / "peer_dataset.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        scan = first_scan(thoracolumbar(work)).around_column(_SHAPE)
        np.save(folder / "image.npy", scan.image)
        np.save(folder / "labels.npy", scan.labels)
        np.save(folder / "image_with_air.npy", _in_air(scan))
        write_network(folder, _trained(scan, folder / "training"))
    return folder


def compare(inputs: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """How far the maps agree, in bfloat16 and in single precision, and what windows full of air save."""
    torch.set_num_threads(_THREADS)
    work = Work.load(inputs)
    mine, peer, truth = map(np.load, (ours / "map.npy", theirs / "map.npy", inputs / "labels.npy"))
    single = work.predict(work.image, torch.float32).argmax(0)
    difference = np.abs(work.first_window() - np.load(theirs / "first_window.npy")).max()
    return {
        "dice": mean_dice(mine, peer),
        "dice_of_vertebra_or_not": mean_dice(mine > 0, peer > 0),
        "share_of_voxels_that_differ": differing_share(mine, peer),
        "dice_in_single_precision": mean_dice(single, peer),
        "largest_difference_in_single_precision": float(difference),
        "dice_with_the_truth_of_ours": mean_dice(mine, truth),
        "dice_with_the_truth_of_theirs": mean_dice(peer, truth),
        **work.in_air(np.load(inputs / "image_with_air.npy")),
        "seconds_in_single_precision": work.seconds(work.image, torch.float32),
    }


def _in_air(scan: Scan) -> NDArray[np.float32]:
    """One patch's height of the image with a patch's width of air on each of its four sides."""
    margin = [(0, 0), (0, 0), *((n, n) for n in PATCH[1:])]
    return np.pad(scan.image[:, : PATCH[0]], margin, constant_values=np.float32(AIR))


def _trained(scan: Scan, folder: Path) -> torch.nn.Module:
    plan = shared_plan()
    schedule = Schedule(optimiser="adamw", learning_rate=1e-3, weight_decay=1e-2)
    configuration = replace(plan.configurations[0], schedule=schedule)
    task = FoldTask(plan, configuration, 0, (), (), folder, None, folder, "cpu")
    learner = default.prepare(task)
    learner.network.train()
    with _falling_rate(learner.optimiser):
        for example in _windows(scan):
            epochs.training_step(learner, example, learner.loss)
    return learner.network.eval()


@contextmanager
def _falling_rate(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Let the learning rate fall to zero over the training."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / _STEPS))
    handle = optimiser.register_step_post_hook(lambda *_: scheduler.step())
    yield
    handle.remove()


def _windows(scan: Scan) -> Iterator[Example]:
    """Single windows from anywhere in the image."""
    rng = np.random.default_rng(0)
    for _ in range(_STEPS):
        start = [int(rng.integers(n - p + 1)) for n, p in zip(scan.labels.shape, PATCH, strict=True)]
        box = tuple(slice(a, a + p) for a, p in zip(start, PATCH, strict=True))
        image = torch.from_numpy(np.ascontiguousarray(scan.image[(slice(None), *box)]))
        yield Example(image[None], torch.from_numpy(np.ascontiguousarray(scan.labels[box]))[None])


STEP = Step(
    name="sliding_window",
    work="one plain U-Net (patch 112 x 56 x 48, 32 to 320 features, 27 classes) over 18 windows",
    target=1.7,
    prepare=prepare,
    compare=compare,
    threads=_THREADS,
)
