"""nnU-Net's export of logits, as its workers do it. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    plans = PlansManager(_read(inputs / "peer_plans.json"))
    configuration = plans.get_configuration("3d_fullres")
    labels = plans.get_label_manager(_read(inputs / "peer_dataset.json"))
    # nnU-Net looks its functions up by importing its own modules one by one; that is not the work.
    assert configuration.resampling_fn_probabilities, "nnU-Net finds its own functions"
    properties = _read(inputs / "properties.json")
    logits = np.load(inputs / "logits.npy")
    baseline = _resident_bytes()
    started = time.perf_counter()
    mask = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, labels, properties, num_threads_torch=threads
    )
    result = {"seconds": time.perf_counter() - started, "baseline_bytes": baseline}
    np.save(output / "mask.npy", mask)
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
