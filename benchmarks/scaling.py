"""How much faster several cases are done side by side than one after the other.

    python -m benchmarks.scaling WORK [--processes 1 2] [--cases 6]

The same cases, thoracolumbar phantoms at 0.8 mm, are preprocessed and predicted at 1 mm by a growing number
of processes, which share the cores. Writes ``benchmarks/results/scaling.json`` and ``scaling.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autospine.core.plan import Plan
from autospine.io import documents
from benchmarks.commands import command
from benchmarks.inputs import thoracolumbar
from benchmarks.machine import machine, usable_cores
from benchmarks.memory import finer, make_model
from benchmarks.reports import described, markdown_table, write_report


@dataclass(frozen=True)
class Point:
    """A measurement.

    Args:
        step: What was done.
        processes: How many did it.
        cases: To how many cases.
        seconds: In all, from the command's start to its end.
    """

    step: str
    processes: int
    cases: int
    seconds: float


def make_cases(work: Path, count: int) -> Path:
    """A data set with copies of the same phantoms."""
    source, target = thoracolumbar(work), work / "Dataset902_Copies"
    if target.is_dir():
        return target
    described = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    described.pop("autospine", None)
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (target / folder).mkdir(parents=True)
        files = sorted((source / folder).glob("*.nii.gz"))
        for number in range(count):
            shutil.copy(files[number % len(files)], target / folder / f"copy{number:02d}{ending}")
    described["numTraining"] = count
    (target / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return target


def preprocess(work: Path, data: Path) -> Callable[[int], None]:
    """Preprocessing for all configurations of a plan, from the beginning."""
    run = work / "scaling_run"
    if not (run / "plan.json").is_file():
        command("fingerprint", str(data), "-o", str(run), "--quiet")
        command("plan", str(run), "--quiet")
        plan = documents.load(run / "plan.json", Plan)
        configurations = tuple(map(finer, plan.configurations))
        documents.save(run / "plan.json", replace(plan, configurations=configurations))

    def work_through(processes: int) -> None:
        shutil.rmtree(run / "preprocessed", ignore_errors=True)
        command("preprocess", str(run), "--workers", str(processes), "--quiet")

    return work_through


def predict(work: Path, data: Path) -> Callable[[int], None]:
    """Prediction by a planned network that was never trained, at 1 mm."""
    model = make_model(work, "planned")

    def work_through(processes: int) -> None:
        options = ["-m", str(model), "-i", str(data / "imagesTr"), "-o", str(work / "scaling_masks")]
        flags = ["--configurations", "3d_fullres", "--device", "cpu", "--no-mirror", "--force"]
        command("predict", *options, *flags, "--workers", str(processes), "--quiet")

    return work_through


def write_results(points: Sequence[Point]) -> None:
    """Write both documents."""
    found = machine("torch", "numpy", "autospine") | {"cores": str(usable_cores())}
    alone = {point.step: point.seconds for point in points if point.processes == 1}
    rows = []
    for p in points:
        gain = f"{alone[p.step] / p.seconds:.2f}" if p.step in alone else ""
        rows.append((p.step, str(p.cases), str(p.processes), f"{p.seconds:.1f}", gain))
    table = markdown_table(("step", "cases", "processes", "seconds", "times as fast"), rows)
    document = {"machine": found, "points": [asdict(point) for point in points]}
    write_report("scaling", document, f"{described(found)}\n{table}")


def main() -> None:
    """Measure both steps."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--cases", type=int, default=6)
    options = parser.parse_args()
    data = make_cases(options.work, options.cases)
    points = []
    for make in (preprocess, predict):
        work_through = make(options.work, data)
        for processes in options.processes:
            started = time.monotonic()
            work_through(processes)
            points.append(Point(make.__name__, processes, options.cases, time.monotonic() - started))
            print(points[-1], flush=True)
            write_results(points)


if __name__ == "__main__":
    main()
