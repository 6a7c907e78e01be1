"""From the logits of all classes at model resolution to a mask on the scan's own grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.trace import Trace
from autospine.io import documents
from autospine.io.images import read_image, read_labels
from autospine.io.raw_dataset import load_dataset
from autospine.preprocessing import preprocess_labels, trace_of
from benchmarks.agreement import differing_share, mean_dice
from benchmarks.inputs import thoracolumbar
from benchmarks.same_resampling import write_plans
from benchmarks.step import Step

_SPACING: Final = 1.5
#: Logit of a class in its inside over that of the others there, blur of its border in voxels, noise.
_HEIGHT: Final = 12.0
_BLUR: Final = 1.0
_NOISE: Final = 0.5


def prepare(work: Path) -> Path:
    """Logits that look like a trained network's: the true labels, blurred, with smooth noise."""
    folder = work / "export"
    if not (folder / "properties.json").is_file():
        plan = write_plans(folder, _SPACING)
        case = load_dataset(thoracolumbar(work)).training[0]
        assert case.label is not None, "a training case has a mask"
        trace = trace_of(read_image(case.image), plan.configurations[0])
        labels = preprocess_labels(read_labels(case.label), trace, plan.classes)
        np.save(folder / "logits.npy", _logits(labels, len(plan.classes)))
        documents.save(folder / "trace.json", trace)
        (folder / "properties.json").write_text(json.dumps(_properties(trace)), encoding="utf-8")
    return folder


def compare(inputs: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """How far the masks agree."""
    mine, peer = (np.load(side / "mask.npy") for side in (ours, theirs))
    size = np.load(inputs / "logits.npy", mmap_mode="r").nbytes
    return {
        "dice": mean_dice(mine, peer),
        "share_of_voxels_that_differ": differing_share(mine, peer),
        "labels_in_ours": float(np.count_nonzero(np.bincount(mine.ravel())[1:])),
        "million_voxels": round(mine.size / 1e6, 1),
        "gigabytes_of_logits": round(size / 1e9, 3),
    }


def _logits(labels: NDArray[np.int8], classes: int) -> NDArray[np.float16]:
    """Half precision, shape (classes, z, y, x)."""
    rng = np.random.default_rng(0)
    logits = np.empty((classes, *labels.shape), dtype=np.float16)
    for channel in range(classes):
        inside = ndimage.gaussian_filter((labels == channel).astype(np.float32), _BLUR)
        noise = ndimage.gaussian_filter(rng.standard_normal(labels.shape, dtype=np.float32), _BLUR)
        logits[channel] = _HEIGHT * inside + noise * (_NOISE / noise.std())
    return logits


def _properties(trace: Trace) -> dict[str, Any]:
    """The same facts under nnU-Net's names; neither side turns this scan's axes."""
    shape = trace.box.shape
    assert trace.grid.shape == trace.orientation.apply_grid(trace.grid).shape == shape, "nothing is cropped"
    return {
        "spacing": list(trace.grid.spacing),
        "shape_before_cropping": list(shape),
        "bbox_used_for_cropping": [[0, n] for n in shape],
        "shape_after_cropping_and_before_resampling": list(shape),
    }


STEP = Step(
    name="export",
    work="logits of 27 classes at 1.5 mm to a mask on the scan's grid at 0.8 mm, linear and exact",
    target=10.0,
    prepare=prepare,
    compare=compare,
    memory_target="no more than 0.5 GB beyond the logits",
)
