"""The same scores by the package surface-distance. Arguments: inputs, output, threads (it uses one)."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import surface_distance

_TOLERANCE = 1.0


def main(inputs: Path, output: Path) -> None:
    """Time the work and write what comes out."""
    baseline = _resident_bytes()
    started = time.perf_counter()
    scores = {}
    for reference in sorted((inputs / "reference").iterdir()):
        identifier = reference.name.removesuffix(".nii.gz")
        for label, found in _score(reference, inputs / "prediction" / reference.name).items():
            scores[f"{identifier} {label}"] = found
    result = {"seconds": time.perf_counter() - started, "baseline_bytes": baseline}
    (output / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _score(reference: Path, prediction: Path) -> dict[int, dict[str, float]]:
    image = sitk.ReadImage(str(reference))
    true, predicted = (sitk.GetArrayFromImage(i) for i in (image, sitk.ReadImage(str(prediction))))
    spacing = image.GetSpacing()[::-1]
    scores = {}
    for label in np.intersect1d(np.unique(true), np.unique(predicted)):
        if label > 0:
            a, b = true == label, predicted == label
            distances = surface_distance.compute_surface_distances(a, b, spacing)
            scores[int(label)] = {
                "dice": float(surface_distance.compute_dice_coefficient(a, b)),
                "nsd": float(surface_distance.compute_surface_dice_at_tolerance(distances, _TOLERANCE)),
                "hd95": float(surface_distance.compute_robust_hausdorff(distances, 95)),
                "assd": float(np.mean(surface_distance.compute_average_surface_distance(distances))),
            }
    return scores


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
