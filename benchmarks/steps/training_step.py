"""One training step: forward and backward pass, loss with deep supervision, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autospine.io import documents
from autospine.networks import build
from benchmarks.inputs import thoracolumbar
from benchmarks.same_network import BATCH, PATCH, first_scan, shared_plan, write_network
from benchmarks.step import Step


def prepare(work: Path) -> Path:
    """A batch of two patches with labels, and a network as it is before its training."""
    folder = work / "training_step"
    if not (folder / "peer_dataset.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        depth, *rest = PATCH
        scan = first_scan(thoracolumbar(work)).around_column((BATCH * depth, *rest))
        # One patch above the other.
        np.save(folder / "image.npy", scan.image.reshape(BATCH, 1, *PATCH))
        np.save(folder / "labels.npy", scan.labels.reshape(BATCH, *PATCH))
        torch.manual_seed(0)
        plan = shared_plan()
        configuration = plan.configurations[0]
        write_network(folder, build(configuration.network, 1, plan.output_channels(configuration)))
    return folder


def compare(_: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """The losses of the first step: same weights, same batch."""
    mine, peer = (documents.load(side / "result.json", dict[str, Any]) for side in (ours, theirs))
    return {
        "first_loss_of_ours": mine["first_loss"],
        "first_loss_of_ours_in_single_precision": mine["first_loss_in_single_precision"],
        "first_loss_of_theirs": peer["first_loss"],
        "last_loss_of_ours": mine["last_loss"],
        "last_loss_of_theirs": peer["last_loss"],
    }


STEP = Step(
    name="training_step",
    work="one step of a plain U-Net (patch 112 x 56 x 48, batch 2, 32 to 320 features, 27 classes)",
    target=1.7,
    prepare=prepare,
    compare=compare,
)
