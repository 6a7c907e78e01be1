"""Training steps of autospine's default trainer. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch

from autospine.core.plan import Plan
from autospine.core.run import FoldTask
from autospine.host_memory import resident_memory
from autospine.io import documents
from autospine.trainers import default, epochs
from autospine.trainers.patches import Example
from autospine.weights import load_tensors, set_weights

_WARM_UP: Final = 2
_TIMED: Final = 5


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    plan = documents.load(inputs / "plan.json", Plan)
    example = Example(*(torch.from_numpy(np.load(inputs / f"{name}.npy")) for name in ("image", "labels")))
    learner = _learner(plan, inputs / "weights.safetensors", output / "fold")
    single = _loss_in_single_precision(learner, example)
    baseline = resident_memory()
    losses, seconds = [], []
    for _ in range(_WARM_UP + _TIMED):
        started = time.perf_counter()
        loss, _applied = epochs.training_step(learner, example, learner.loss)
        losses.append(float(loss))
        seconds.append(time.perf_counter() - started)
    result = {
        "seconds": statistics.median(seconds[_WARM_UP:]),
        "baseline_bytes": baseline,
        "first_loss": losses[0],
        "first_loss_in_single_precision": single,
        "last_loss": losses[-1],
        "note": f"autocast to {str(learner.precision).removeprefix('torch.')}, median of {_TIMED} steps",
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _learner(plan: Plan, weights: Path, folder: Path) -> default.Learner:
    task = FoldTask(plan, plan.configurations[0], 0, (), (), folder, None, folder, "cpu")
    learner = default.prepare(task)
    set_weights(learner.network, load_tensors(weights)[0], weights)
    learner.network.train()
    return learner


@torch.no_grad()
def _loss_in_single_precision(learner: default.Learner, example: Example) -> float:
    return float(learner.loss(learner.step_network(example.image), example.labels))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
