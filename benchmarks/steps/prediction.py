"""A prediction from file to file, each side with its own best plan for the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from autospine.core.geometry import Box, Orientation
from autospine.core.plan import Configuration
from autospine.core.run import FoldTask
from autospine.hardware import measure_budget
from autospine.io import documents
from autospine.io.images import read_image, write_image
from autospine.io.raw_dataset import load_dataset
from autospine.pipeline import Run, make_fingerprint, make_plan, preprocess
from autospine.planning import PlanOptions
from autospine.reporting import Reporter
from autospine.trainers import default
from benchmarks.inputs import link_raw, thoracolumbar
from benchmarks.step import Step

_CONFIGURATION: Final = "3d_fullres"
#: What is predicted: shares of the scan along z, y, x, in its middle. The piece is one patch of nnU-Net's,
#: which it sees eight times when it mirrors; mirrored, the whole would take it an hour.
_PARTS: Final = {"whole": (1.0, 1.0, 1.0), "piece": (0.25, 0.5, 0.6)}


def prepare(work: Path) -> Path:
    """A model of autospine's, parts of a scan, and the data set where nnU-Net looks for it."""
    folder = work / "prediction"
    if not (folder / "ready").is_file():
        source = thoracolumbar(work)
        link_raw(source, folder / "nnunet" / "raw")
        _write_parts(source, folder)
        _train(source, folder / "model")
        (folder / "ready").touch()
    return folder


def compare(_: Path, ours: Path, theirs: Path) -> Mapping[str, float | str]:
    """What else was measured; the masks are of different networks and cannot be compared."""
    mine, peer = (documents.load(side / "result.json", dict[str, Any]) for side in (ours, theirs))
    result: dict[str, float | str] = {}
    for key in sorted({*mine, *peer} - {"seconds", "note", "baseline_bytes"}):
        for side, found in (("ours", mine), ("theirs", peer)):
            if key in found:
                result[f"{key}_of_{side}"] = found[key]
    for key in ("whole_without_mirroring", "piece_with_mirroring"):
        result[f"{key}_ratio"] = peer[key] / mine[key]
    return result


def _write_parts(source: Path, folder: Path) -> None:
    """Write the parts of the first scan."""
    volume = read_image(load_dataset(source).training[0].image)
    canonical = volume.reoriented(Orientation.to_canonical(volume.grid))
    for name, shares in _PARTS.items():
        part = canonical.cropped(_middle(canonical.grid.shape, shares))
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_image(folder / name / "scan_0000.nii.gz", part.array[0], part.grid)


def _middle(shape: tuple[int, int, int], shares: tuple[float, float, float]) -> Box:
    start = [round(n * (1 - share) / 2) for n, share in zip(shape, shares, strict=True)]
    return Box((start[0], start[1], start[2]), tuple(n - a for n, a in zip(shape, start, strict=True)))


def _train(source: Path, folder: Path) -> None:
    """Train a fold for so long that its masks look like vertebrae: that is what naming takes its time for."""
    run = Run.open(folder, Reporter(quiet=True), source, workers=1)
    options = PlanOptions("spine", measure_budget("cpu", None), (_CONFIGURATION,), _shortened)
    plan = make_plan(run, make_fingerprint(run), options)
    preprocess(run, plan)
    configuration = plan.configuration(_CONFIGURATION)
    task = FoldTask(
        plan=plan,
        configuration=configuration,
        fold=0,
        training=tuple(case.identifier for case in run.dataset.training),
        validation=(),
        data=run.folder.preprocessed(plan, configuration),
        previous=None,
        output=run.folder.model(_CONFIGURATION, 0),
        device="cpu",
    )
    default.train(task)


def _shortened(configuration: Configuration) -> Configuration:
    schedule = replace(configuration.schedule, epochs=3, steps=50, validation_steps=0)
    return replace(configuration, schedule=schedule)


STEP = Step(
    name="prediction",
    work="a thoracolumbar scan from file to file without mirroring, each with its own plan for the machine",
    target=5.0,
    prepare=prepare,
    compare=compare,
)
