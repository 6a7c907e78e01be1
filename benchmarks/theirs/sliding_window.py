"""nnU-Net's sliding window. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    predictor = _predictor(inputs)
    image = torch.from_numpy(np.load(inputs / "image.npy"))
    baseline = _resident_bytes()
    started = time.perf_counter()
    logits = predictor.predict_sliding_window_return_logits(image)
    seconds = time.perf_counter() - started
    np.save(output / "map.npy", logits.numpy().argmax(0).astype(np.int8))
    np.save(output / "first_window.npy", _first_window(predictor, image))
    result = {"seconds": seconds, "baseline_bytes": baseline, "note": "single precision"}
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _predictor(inputs: Path) -> nnUNetPredictor:
    plans = PlansManager(json.loads((inputs / "peer_plans.json").read_text(encoding="utf-8")))
    dataset = json.loads((inputs / "peer_dataset.json").read_text(encoding="utf-8"))
    configuration = plans.get_configuration("3d_fullres")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        plans.get_label_manager(dataset).num_segmentation_heads,
        deep_supervision=False,
    )
    _set_weights(network, inputs / "peer_weights.npz")
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(network, plans, configuration, None, dataset, "nnUNetTrainer", None)
    return predictor


def _set_weights(network: torch.nn.Module, path: Path) -> None:
    """Set all weights; what the network holds under several names comes under one."""
    with np.load(path) as stored:
        weights = {name: torch.from_numpy(stored[name]) for name in stored.files}
    missing, unexpected = network.load_state_dict(weights, strict=False)
    left = [name for name in missing if "all_modules" not in name and "decoder.encoder" not in name]
    if left or unexpected:
        raise KeyError(f"missing {left}, unexpected {unexpected}")


@torch.inference_mode()
def _first_window(predictor: nnUNetPredictor, image: torch.Tensor) -> Any:
    """Outputs of the first window in single precision."""
    box = tuple(slice(0, n) for n in predictor.configuration_manager.patch_size)
    return predictor.network(image[(slice(None), *box)][None])[0].numpy()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
