"""Twenty predictions against their references: overlap and surface distances of every label."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.evaluation.report import Report
from autospine.io import documents
from autospine.io.images import read_labels, write_image
from autospine.io.raw_dataset import load_dataset
from benchmarks.inputs import COLUMNS, converted
from benchmarks.step import Step

_CASES: Final = 20
_RECIPE: Final = replace(
    COLUMNS,
    field_of_view="thoracolumbar",
    spacing=(1.5, 1.6),
    width=(100.0, 120.0),
    front=(40.0, 50.0),
    back=(75.0, 85.0),
)
_SEED: Final = 11
#: The border of a prediction is off by about so many voxels, alike over so many.
_SHIFT: Final = 0.4
_GRAIN: Final = 4.0

_SCORES: Final = ("dice", "nsd", "hd95", "assd")


def prepare(work: Path) -> Path:
    """Reference masks, and predictions whose borders are a little off."""
    folder = work / "evaluation"
    if not (folder / "dataset.json").is_file():
        source = converted(work, "Dataset902_Masks", _RECIPE, _CASES, _SEED)
        for seed, case in enumerate(load_dataset(source).training):
            assert case.label is not None, "a training case has a mask"
            mask = read_labels(case.label)
            labels = mask.array[0].astype(np.uint8)
            for name, array in (("reference", labels), ("prediction", _deformed(labels, seed))):
                (folder / name).mkdir(parents=True, exist_ok=True)
                write_image(folder / name / case.label.name, array, mask.grid)
        shutil.copy(source / "dataset.json", folder / "dataset.json")
    return folder


def _deformed(labels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The labels looked up at places that are a little off."""
    rng = np.random.default_rng(seed)
    places = np.indices(labels.shape, dtype=np.float32)
    for axis in range(labels.ndim):
        shift = ndimage.gaussian_filter(rng.standard_normal(labels.shape, dtype=np.float32), _GRAIN)
        places[axis] += shift * (_SHIFT / shift.std())
    deformed: NDArray[np.uint8] = ndimage.map_coordinates(labels, places, order=0, mode="nearest")
    return deformed


def compare(_: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """Largest differences of the scores over all labels of all cases."""
    mine = dict(_our_scores(documents.load(ours / "report.json", Report)))
    peer = documents.load(theirs / "scores.json", dict[str, dict[str, float]])
    if mine.keys() != peer.keys():
        return {"labels": f"not the same: {sorted(mine.keys() ^ peer.keys())[:5]}"}
    largest = {
        f"largest_difference_of_{score}": max(abs(mine[key][score] - peer[key][score]) for key in mine)
        for score in _SCORES
    }
    means = {f"mean_{score}": float(np.mean([s[score] for s in mine.values()])) for score in ("dice", "nsd")}
    return {"labels": float(len(mine)), **means, **largest}


def _our_scores(report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for case in report.cases:
        for label in case.labels:
            if label.status == "found":
                yield f"{case.identifier} {label.label}", {score: getattr(label, score) for score in _SCORES}


STEP = Step(
    name="evaluation",
    work=f"Dice, NSD, HD95 and ASSD of every label in {_CASES} cases of one to two million voxels",
    target=5.0,
    prepare=prepare,
    compare=compare,
    threads=1,
    peer="surface-distance",
)
