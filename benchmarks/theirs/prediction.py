"""nnU-Net's prediction from file to file. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
from nnunetv2.experiment_planning import plan_and_preprocess_api as api
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

_DATASET: Final = 901


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    os.environ |= {
        "nnUNet_raw": str(inputs / "nnunet" / "raw"),
        "nnUNet_preprocessed": str(inputs / "nnunet" / "preprocessed"),
        "nnUNet_results": str(output / "nnunet"),
    }
    plans_file = _planned(inputs)
    torch.set_num_threads(threads)
    plans = PlansManager(_read(plans_file))
    dataset = _read(inputs / "nnunet" / "raw" / plans.dataset_name / "dataset.json")
    network = _network(plans, dataset)
    baseline = _resident_bytes()
    seconds = {}
    for part, mirror in (("whole", False), ("piece", True)):
        key = f"{part}_{'with' if mirror else 'without'}_mirroring"
        predictor = _predictor(network, plans, dataset, mirror=mirror)
        target = output / key
        target.mkdir()
        started = time.perf_counter()
        # In one process: for a single scan, workers would only add the time that they take to start.
        predictor.predict_from_files_sequential(str(inputs / part), str(target))
        seconds[key] = time.perf_counter() - started
    result = {
        "seconds": seconds["whole_without_mirroring"],
        "baseline_bytes": baseline,
        "note": _described(plans),
        **seconds,
        "mirrorings": 8.0,
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _planned(inputs: Path) -> Path:
    """nnU-Net's default plan; once is enough."""
    plans_file = inputs / "nnunet" / "preprocessed" / "Dataset901_Thoracolumbar" / "nnUNetPlans.json"
    if not plans_file.is_file():
        api.extract_fingerprints([_DATASET], num_processes=1)
        api.plan_experiments([_DATASET])
    return plans_file


def _network(plans: PlansManager, dataset: dict[str, Any]) -> torch.nn.Module:
    """An untrained network that says background: its masks are as quickly compressed as can be."""
    configuration = plans.get_configuration("3d_fullres")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        plans.get_label_manager(dataset).num_segmentation_heads,
        deep_supervision=False,
    )
    with torch.no_grad():
        network.decoder.seg_layers[-1].bias[0] += 50
    return network


def _predictor(
    network: torch.nn.Module, plans: PlansManager, dataset: dict[str, Any], *, mirror: bool
) -> nnUNetPredictor:
    predictor = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    weights = [network.state_dict()]
    configuration = plans.get_configuration("3d_fullres")
    predictor.manual_initialization(
        network, plans, configuration, weights, dataset, "nnUNetTrainer", (0, 1, 2)
    )
    return predictor


def _described(plans: PlansManager) -> str:
    configuration = plans.get_configuration("3d_fullres")
    patch = " x ".join(map(str, configuration.patch_size))
    spacing = " x ".join(f"{mm:.2f}" for mm in configuration.spacing)
    features = configuration.network_arch_init_kwargs["features_per_stage"]
    return f"its default plan: {spacing} mm, patch {patch}, {features[0]} to {features[-1]} features"


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
