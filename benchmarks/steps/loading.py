"""Loading and augmenting training patches on one core."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autospine.core.plan import Plan
from autospine.io import documents
from autospine.io.raw_dataset import load_dataset
from autospine.preprocessing import preprocess_dataset
from benchmarks.inputs import link_raw, thoracolumbar
from benchmarks.same_network import SPACING, peer_plans, shared_plan
from benchmarks.step import Step


def prepare(work: Path) -> Path:
    """The data set preprocessed by autospine, and linked to where nnU-Net looks for it."""
    folder = work / "loading"
    if not (folder / "peer_plans.json").is_file():
        source = thoracolumbar(work)
        link_raw(source, folder / "nnunet" / "raw")
        plan = _plan()
        dataset = load_dataset(source)
        preprocess_dataset(dataset, plan, plan.configurations[0], folder / "preprocessed", workers=1)
        documents.save(folder / "plan.json", plan)
        (folder / "peer_plans.json").write_text(json.dumps(peer_plans(plan)), encoding="utf-8")
    return folder


def _plan() -> Plan:
    """The shared plan with nnU-Net's mirroring, and autospine's crop."""
    plan = shared_plan()
    configuration = replace(
        plan.configurations[0], spacing=(SPACING,) * 3, crop="body", mirror_axes=(0, 1, 2)
    )
    return replace(plan, configurations=(configuration,))


def compare(_: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """Whether the samples are alike: mean and deviation of the intensities, share of labelled voxels."""
    mine, peer = _result(ours), _result(theirs)
    compared = ("samples_a_second", "processor_seconds", "mean", "deviation", "labelled", "batches")
    return {f"{key}_of_{side}": r[key] for key in compared for side, r in (("ours", mine), ("theirs", peer))}


def _result(side: Path) -> dict[str, Any]:
    loaded = documents.load(side / "result.json", dict[str, Any])
    seconds = np.array(loaded["all_seconds"])
    return loaded | {"samples_a_second": float(1 / seconds.mean()), "batches": float(len(seconds))}


STEP = Step(
    name="loading",
    work="one augmented training sample of 112 x 56 x 48 voxels, in batches of 2, on one core",
    target=10.0,
    prepare=prepare,
    compare=compare,
    threads=1,
)
