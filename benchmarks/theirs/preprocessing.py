"""One case as nnU-Net preprocesses it before a training. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    plans = PlansManager(_read(inputs / "peer_plans.json"))
    configuration = plans.get_configuration("3d_fullres")
    dataset, case = _read(inputs / "peer_dataset.json"), _read(inputs / "case.json")
    preprocessor = DefaultPreprocessor(verbose=False)
    _find_by_name(plans, configuration)
    baseline = _resident_bytes()
    started = time.perf_counter()
    preprocessor.run_case_save(
        str(output / "case"), [case["image"]], case["label"], plans, configuration, dataset
    )
    result = {
        "seconds": time.perf_counter() - started,
        "baseline_bytes": baseline,
        "note": "stores single precision",
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _find_by_name(plans: PlansManager, configuration: Any) -> None:
    """nnU-Net looks its functions up by importing its own modules one by one; that is not the work."""
    found = (
        configuration.resampling_fn_data,
        configuration.resampling_fn_seg,
        plans.image_reader_writer_class,
        plans.label_manager_class,
    )
    assert all(found), "nnU-Net finds its own functions"


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
