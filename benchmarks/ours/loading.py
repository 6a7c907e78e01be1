"""Samples as autospine's trainer loads and augments them. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from autospine.core.plan import Plan
from autospine.core.run import FoldTask
from autospine.io import documents
from autospine.sampling import batches
from autospine.trainers import patches
from autospine.trainers.patches import Example

_WARM_UP: Final = 3
_TIMED: Final = 60
_CPU: Final = torch.device("cpu")


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    plan = documents.load(inputs / "plan.json", Plan)
    data = inputs / "preprocessed"
    cases = tuple(sorted(path.stem for path in data.glob("*.json")))
    task = FoldTask(plan, plan.configurations[0], 0, cases, (), data, None, output / "fold", "cpu")
    seconds, processor, statistics = [], [], []
    with _examples(task) as examples:
        for _ in range(_WARM_UP):
            next(examples)
        for _ in range(_TIMED):
            started, busy = time.perf_counter(), time.process_time()
            example = next(examples)
            seconds.append((time.perf_counter() - started) / len(example.image))
            processor.append((time.process_time() - busy) / len(example.image))
            statistics.append(_facts(example))
    mean, deviation, labelled = torch.tensor(statistics).mean(0).tolist()
    result = {
        "seconds": sum(seconds) / len(seconds),
        "all_seconds": seconds,
        "processor_seconds": sum(processor) / len(processor),
        "mean": mean,
        "deviation": deviation,
        "labelled": labelled,
        "note": "mean over the samples; coarser labels are views that the loss takes",
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


@contextmanager
def _examples(task: FoldTask) -> Iterator[Iterator[Example]]:
    """The trainer's augmented batches, made in this process."""
    with batches(patches.training_loader(task, 0), 0) as stream:
        yield patches._augmented(stream, task, 0, _CPU)


def _facts(example: Example) -> list[float]:
    image = example.image
    return [float(image.mean()), float(image.std()), float((example.labels > 0).float().mean())]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
