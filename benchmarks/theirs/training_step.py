"""Training steps of nnU-Net's trainer. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_WARM_UP: Final = 2
_TIMED: Final = 5


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    trainer = _trainer(inputs, output / "nnunet")
    batch = _batch(inputs, trainer)
    baseline = _resident_bytes()
    losses, seconds = [], []
    for _ in range(_WARM_UP + _TIMED):
        started = time.perf_counter()
        losses.append(float(trainer.train_step(batch)["loss"]))
        seconds.append(time.perf_counter() - started)
    result = {
        "seconds": statistics.median(seconds[_WARM_UP:]),
        "baseline_bytes": baseline,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "note": f"single precision, median of {_TIMED} steps",
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _trainer(inputs: Path, folder: Path) -> nnUNetTrainer:
    os.environ |= {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    plans = json.loads((inputs / "peer_plans.json").read_text(encoding="utf-8"))
    dataset = json.loads((inputs / "peer_dataset.json").read_text(encoding="utf-8"))
    # From the ending of a file there the trainer tells in which format cases are stored.
    stored = folder / "preprocessed" / plans["dataset_name"] / "nnUNetPlans_3d_fullres" / "case.b2nd"
    stored.parent.mkdir(parents=True)
    stored.touch()
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.initialize()
    with np.load(inputs / "peer_weights.npz") as weights:
        state = {name: torch.from_numpy(weights[name]) for name in weights.files}
    missing, unexpected = trainer.network.load_state_dict(state, strict=False)
    # What the network holds under several names comes under one.
    left = [name for name in missing if "all_modules" not in name and "decoder.encoder" not in name]
    if left or unexpected:
        raise KeyError(f"missing {left}, unexpected {unexpected}")
    trainer.network.train()
    return trainer


def _batch(inputs: Path, trainer: nnUNetTrainer) -> dict[str, Any]:
    """The batch as nnU-Net's loader hands it over: labels at every resolution of the decoder."""
    image = torch.from_numpy(np.load(inputs / "image.npy"))
    labels = torch.from_numpy(np.load(inputs / "labels.npy").astype(np.int16))
    downsample = DownsampleSegForDSTransform(trainer._get_deep_supervision_scales())
    stages = [downsample(segmentation=sample[None])["segmentation"] for sample in labels]
    target = [torch.stack(list(same_size)) for same_size in zip(*stages, strict=True)]
    return {"data": image, "target": target}


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
