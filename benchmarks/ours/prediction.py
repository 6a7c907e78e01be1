"""autospine's prediction from file to file. Arguments: inputs, output, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from autospine.core.plan import Configuration
from autospine.core.run import RunFolder
from autospine.host_memory import resident_memory
from autospine.inference.folder import Work, predict_folder
from autospine.inference.predictor import Predictor
from autospine.io.images import read_labels
from autospine.io.scans import find_scans
from autospine.reporting import Reporter


def main(inputs: Path, output: Path, threads: int) -> None:
    """Time the work and write what comes out."""
    torch.set_num_threads(threads)
    baseline = resident_memory()
    seconds = {
        "whole_without_mirroring": _predict(inputs, output, "whole", mirror=False),
        "whole_with_mirroring": _predict(inputs, output, "whole", mirror=True),
        "piece_with_mirroring": _predict(inputs, output, "piece", mirror=True),
    }
    configuration = _open(inputs, mirror=False).plan.configuration("3d_fullres")
    mask = read_labels(output / "whole_without_mirroring" / "scan.nii.gz").array
    result = {
        "seconds": seconds["whole_without_mirroring"],
        "baseline_bytes": baseline,
        "note": _described(configuration),
        **seconds,
        "labelled_voxels": float(np.count_nonzero(mask)),
        "mirrorings": float(2 ** len(configuration.mirror_axes)),
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _predict(inputs: Path, output: Path, part: str, *, mirror: bool) -> float:
    """Seconds from file to file; the network is loaded before."""
    predictor = _open(inputs, mirror=mirror)
    for member in predictor.ensemble.members:
        predictor.networks(predictor.plan.configuration(member.configuration), member.folds)
    scans = find_scans([inputs / part])
    target = output / f"{part}_{'with' if mirror else 'without'}_mirroring"
    started = time.perf_counter()
    report = predict_folder(Work(predictor, target), scans, Reporter(quiet=True))
    seconds = time.perf_counter() - started
    if report.failed:
        raise RuntimeError(report.failed[0].error)
    return seconds


def _open(inputs: Path, *, mirror: bool) -> Predictor:
    return Predictor.open(
        RunFolder(inputs / "model"), "cpu", configurations=["3d_fullres"], folds=[0], mirror=mirror
    )


def _described(configuration: Configuration) -> str:
    patch = " x ".join(map(str, configuration.patch))
    spacing = " x ".join(f"{mm:.2f}" for mm in configuration.spacing if mm is not None)
    features = configuration.network.features
    return f"planned for this CPU: {spacing} mm, patch {patch}, {features[0]} to {features[-1]} features"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
