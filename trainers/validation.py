"""Out-of-fold predictions: what the ensembler judges and a cascade learns from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autospine.core.findings import Findings
from autospine.core.run import FoldTask
from autospine.host_memory import host_memory
from autospine.inference.clustering import export_joined
from autospine.inference.export import export_labels
from autospine.inference.prediction import Prediction
from autospine.inference.stages import NOTHING, Execution, Handover, predict_stage
from autospine.io import documents
from autospine.io.images import write_image
from autospine.io.scratch import Scratch
from autospine.io.store import load_array
from autospine.precision import autocast
from autospine.preprocessed import open_case

#: Outputs larger than this part of the memory go to the disk.
_LARGE: Final = 4


@torch.inference_mode()
def predict_validation_cases(task: FoldTask, network: nn.Module, precision: torch.dtype) -> None:
    """Predict every validation case of a fold; cases that are there already are left alone.

    Each gets its logits at model resolution, for the ensembler, and a mask on the scan's own grid.

    Raises:
        StorageError: The disk refuses.
    """
    device, folder = torch.device(task.device), task.output / "validation"
    for identifier in task.validation:
        mask = folder / f"{identifier}.nii.gz"
        if mask.is_file():
            continue
        started = time.monotonic()
        case = open_case(task.data, identifier)
        image = np.asarray(case.image[...], dtype=np.float32)
        with autocast(device, precision):
            prediction = predict_stage(
                [network],
                image,
                case.trace,
                task.configuration,
                task.plan,
                Execution(device, scratch=Scratch(folder, host_memory() // _LARGE)),
                _handover(task, identifier),
            )
        prediction.save(folder / identifier)
        labels = _mask(prediction, task)
        if not task.configuration.schedule.deterministic:
            _record_seconds(folder / "seconds.json", identifier, time.monotonic() - started)
        write_image(mask, labels, case.trace.grid)


def _mask(prediction: Prediction, task: FoldTask) -> NDArray[np.uint8]:
    """The mask on the scan's own grid, all vertebrae as one where the network does not tell them apart."""
    if task.configuration.target == "foreground":
        return export_joined([prediction], [1.0], task.plan)[0]
    return export_labels([prediction], task.plan.classes)


def _handover(task: FoldTask, identifier: str) -> Handover:
    """What the previous stage has left for a case."""
    if task.previous is None:
        return NOTHING
    fed, told = task.configuration.fed, task.configuration.view == "vertebrae"
    return Handover(
        load_array(task.previous / f"{identifier}.b2nd") if fed else None,
        documents.load(task.previous / f"{identifier}.json", Findings).vertebrae if told else (),
    )


def _record_seconds(path: Path, identifier: str, seconds: float) -> None:
    """Note how long a case took, for the leaderboard; a deterministic run leaves out what never repeats."""
    known = documents.load(path, dict[str, float]) if path.is_file() else {}
    documents.save(path, {**known, identifier: round(seconds, 3)})
