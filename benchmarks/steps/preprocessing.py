"""One training case from its files to what a training reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from autospine.io.raw_dataset import load_dataset
from autospine.io.store import load_array
from autospine.preprocessed import open_case
from benchmarks.agreement import differing_share, mean_dice
from benchmarks.inputs import thoracolumbar
from benchmarks.same_resampling import write_plans
from benchmarks.step import Step

_SPACING: Final = 1.0


def prepare(work: Path) -> Path:
    """Plans for both sides, and where the case's files are."""
    folder, case = work / "preprocessing", load_dataset(thoracolumbar(work)).training[0]
    write_plans(folder, _SPACING)
    files = {"image": str(case.image), "label": str(case.label)}
    (folder / "case.json").write_text(json.dumps(files), encoding="utf-8")
    return folder


def compare(_: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """Differences of the images, of which autospine's is stored in half precision, and of the labels."""
    (document,) = (path for path in ours.glob("*.json") if path.name != "result.json")
    mine = open_case(ours, document.stem)
    image, labels = mine.image[...].astype(np.float32), mine.labels[...]
    peer, peer_labels = (
        mine.trace.orientation.apply(load_array(theirs / name)[0]) for name in ("case.b2nd", "case_seg.b2nd")
    )
    apart = np.abs(image[0] - peer)
    return {
        "largest_difference_of_the_images": float(apart.max()),
        "mean_difference_of_the_images": float(apart.mean(dtype=np.float64)),
        "standard_deviation_of_theirs": float(peer.std(dtype=np.float64)),
        "dice_of_the_labels": mean_dice(labels, peer_labels),
        "share_of_labels_that_differ": differing_share(np.maximum(labels, 0), np.maximum(peer_labels, 0)),
        "megabytes_of_ours": _megabytes(ours),
        "megabytes_of_theirs": _megabytes(theirs),
    }


def _megabytes(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)


STEP = Step(
    name="preprocessing",
    work="read, crop, normalise and resample one case to 1 mm (cubic; labels linear), draw voxels, store it",
    target=6.0,
    prepare=prepare,
    compare=compare,
    threads=1,
    memory_target="half",
)
