"""Samples as nnU-Net's trainer loads and augments them. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_DATASET: Final = 901
_WARM_UP: Final = 3
_TIMED: Final = 40


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    os.environ |= {
        "nnUNet_raw": str(inputs / "nnunet" / "raw"),
        "nnUNet_preprocessed": str(inputs / "nnunet" / "preprocessed"),
        "nnUNet_results": str(output / "nnunet"),
    }
    plans_file = _preprocessed(inputs)
    torch.set_num_threads(threads)
    np.random.seed(0)
    torch.manual_seed(0)
    batches = _batches(plans_file)
    seconds, processor, statistics = [], [], []
    for _ in range(_WARM_UP):
        next(batches)
    for _ in range(_TIMED):
        started, busy = time.perf_counter(), time.process_time()
        batch = next(batches)
        seconds.append((time.perf_counter() - started) / len(batch["data"]))
        processor.append((time.process_time() - busy) / len(batch["data"]))
        statistics.append(_facts(batch))
    mean, deviation, labelled = torch.tensor(statistics).mean(0).tolist()
    result = {
        "seconds": sum(seconds) / len(seconds),
        "all_seconds": seconds,
        "processor_seconds": sum(processor) / len(processor),
        "mean": mean,
        "deviation": deviation,
        "labelled": labelled,
        "note": "mean over the samples; in one process, as with nnUNet_n_proc_DA=0",
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _preprocessed(inputs: Path) -> Path:
    """Plan and preprocess as nnU-Net does, but for the shared patch and network; once is enough."""
    folder = inputs / "nnunet" / "preprocessed" / "Dataset901_Thoracolumbar"
    plans_file, done = folder / "nnUNetPlans.json", folder / "done"
    if not done.is_file():
        api.extract_fingerprints([_DATASET], num_processes=1)
        api.plan_experiments([_DATASET])
        plans = _read(plans_file)
        shared = _read(inputs / "peer_plans.json")["configurations"]["3d_fullres"]
        for key in ("patch_size", "batch_size", "architecture", "batch_dice"):
            plans["configurations"]["3d_fullres"][key] = shared[key]
        plans_file.write_text(json.dumps(plans), encoding="utf-8")
        api.preprocess([_DATASET], configurations=["3d_fullres"], num_processes=[1])
        done.touch()
    return plans_file


def _batches(plans_file: Path) -> Any:
    """The training batches as the trainer makes them, from all cases."""
    plans = _read(plans_file) | {"continue_training": False}
    dataset = _read(plans_file.with_name("dataset.json"))
    trainer = nnUNetTrainer(plans, "3d_fullres", "all", dataset, torch.device("cpu"))
    trainer.initialize()
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # everything in this process; nnU-Net's planner would refuse it
    return trainer.get_dataloaders()[0]


def _facts(batch: dict[str, Any]) -> list[float]:
    image = batch["data"]
    return [float(image.mean()), float(image.std()), float((batch["target"][0] > 0).float().mean())]


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
