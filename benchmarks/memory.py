"""What the prediction of large scans takes in memory, beside what is announced before it starts.

    python -m benchmarks.memory WORK [--sizes 512x512x1800] [--memory 8GB] [--networks bright iterative]

Scans are elliptic bodies with a column of bright blocks. Models with the channels of real ones predict them:
one that takes everything bright for vertebrae, and planned networks with random weights, which find vertebrae
everywhere and so give naming the most to do: a U-Net, an ensemble, a cascade and published systems. Memory is
the process's own: pages of files, which the system may drop at any time, are counted apart. Writes
``benchmarks/results/memory.json`` and ``memory.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autospine import pipeline
from autospine.core.geometry import Grid
from autospine.core.plan import Budget, Configuration, NetworkSpec, Plan
from autospine.core.run import RunFolder
from autospine.io import documents
from autospine.io.images import write_image
from autospine.networks import build
from autospine.planning import PlanOptions, plan_for
from autospine.reporting import Reporter
from autospine.weights import save_tensors
from benchmarks.commands import command
from benchmarks.machine import machine
from benchmarks.reports import described, markdown_table, write_report

SPACING = 0.8
#: 4 mm become 1 mm.
FINER = 4.0
#: The configurations that each model predicts with; those before them come along.
MODELS = {
    "planned": ("3d_fullres",),
    "bright": ("3d_fullres",),
    "2d": ("2d",),
    "ensemble": ("2d", "3d_fullres"),
    "cascade": ("3d_lowres", "3d_cascade_fullres"),
    "locate_then_segment": ("locate_then_segment",),
    "iterative": ("iterative",),
    "segnet": ("segnet",),
}
_FIELDS = ("RssAnon", "RssShmem", "RssFile")


class BrightBone(nn.Module):
    """Takes what is bright for vertebrae, the brighter the lower the level; knows no centres."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(0.5, 3.0, outputs - 5))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (b, outputs, *patch) of an image (b, c, *patch)."""
        bright = image[:, :1]
        shape = (1, -1, 1, 1, 1)
        levels = 4 - 20 * (bright - self.levels.view(shape)).abs()
        background = torch.full_like(bright, 2.0)
        return torch.cat([background, levels, bright - 2, torch.zeros_like(bright).repeat(1, 3, 1, 1, 1)], 1)


def bright_bone(spec: NetworkSpec, inputs: int, outputs: int) -> nn.Module:
    """The network of a plan that names this function."""
    return BrightBone(outputs)


@dataclass(frozen=True)
class Measured:
    """A prediction.

    Args:
        scan: Its size.
        network: Which model.
        ceiling: What was allowed.
        planned: GB announced.
        measured: GB of the process's own memory, at most.
        mapped: GB of pages of files besides, at most.
        ratio: Measured by planned.
        seconds: From the command's start to its end.
    """

    scan: str
    network: str
    ceiling: str
    planned: float
    measured: float
    mapped: float
    ratio: float
    seconds: float


def make_scan(path: Path, shape: Sequence[int]) -> Path:
    """A body with a column, (x, y, z) voxels of ``SPACING``."""
    if path.is_file():
        return path
    nx, ny, nz = shape
    y, x = np.mgrid[:ny, :nx]
    body = ((x - nx / 2) / (0.45 * nx)) ** 2 + ((y - ny / 2) / (0.35 * ny)) ** 2 < 1
    column = ((x - nx / 2) ** 2 + (y - 0.65 * ny) ** 2) < 25**2
    rng = np.random.default_rng(0)
    noise = rng.integers(-20, 20, (ny, nx), dtype=np.int16)
    array: NDArray[np.int16] = np.empty((nz, ny, nx), np.int16)
    for z in range(nz):
        array[z] = np.where(body, 40, -1000) + np.roll(noise, z)
        if (level := z // 35) % 26 and z % 35 > 6:
            array[z][column] += 300 + 20 * (level % 26)
    write_image(path, array, Grid(array.shape, (SPACING,) * 3))
    return path


def make_model(work: Path, name: str) -> Path:
    """A run folder with a plan for 27 classes at 1 mm, and weights that were never trained."""
    folder = RunFolder(work / name)
    if folder.plan.is_file():
        return folder.root
    phantoms, dataset = work / "phantoms", work / "dataset"
    if not dataset.is_dir():
        command("phantom", "-o", str(phantoms), "-n", "6", "--view", "thoracolumbar", "--quiet")
        command("convert-verse", str(phantoms), "-o", str(dataset), "--quiet")
    run = pipeline.Run.open(folder.root, Reporter(quiet=True), dataset, workers=1)
    options = PlanOptions("spine", Budget("cpu", cores=2), configurations=MODELS[name])
    plan = plan_for(pipeline.make_fingerprint(run), options)
    if name == "bright":
        (configuration,) = plan.configurations
        network = replace(configuration.network, name=f"{Path(__file__).resolve()}:bright_bone")
        plan = replace(plan, configurations=(replace(configuration, network=network),))
    plan = replace(plan, configurations=tuple(map(finer, plan.configurations)))
    documents.save(folder.plan, plan)
    torch.manual_seed(0)
    for configuration in plan.configurations:
        inputs, outputs = plan.input_channels(configuration), plan.output_channels(configuration)
        network = build(configuration.network, inputs, outputs)
        save_tensors(folder.weights(configuration.name, 0), network.state_dict(), {})
    return folder.root


def finer(configuration: Configuration) -> Configuration:
    """What the planner makes for a few cores, at the resolution that it would choose for a GPU."""
    spacing = tuple(None if s is None else s / FINER for s in configuration.spacing)
    return replace(configuration, spacing=spacing)


def measure(model: Path, scan: Path, output: Path, ceiling: str) -> Measured:
    """Predict a scan in a process of its own and watch its memory."""
    used = documents.load(RunFolder(model).plan, Plan).configurations
    last = [c.name for c in used if c.name not in {other.previous_stage for other in used}]
    options = ["-m", str(model), "-i", str(scan), "-o", str(output), "--configurations", *last]
    flags = ["--device", "cpu", "--memory", ceiling, "--no-mirror", "--force", "--json", "--quiet"]
    arguments = [sys.executable, "-m", "autospine", "predict", *options, *flags]
    started = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    most, mapped = 0, 0
    while process.poll() is None:
        held = memory_of(process.pid)
        most, mapped = max(most, held["RssAnon"] + held["RssShmem"]), max(mapped, held["RssFile"])
        time.sleep(0.02)
    seconds = time.monotonic() - started
    (report,) = json.loads((output / "prediction_report.json").read_text())["scans"]
    if report["error"]:
        raise SystemExit(report["error"])
    planned = report["peak_planned"]
    size = scan.name.partition(".")[0]
    return Measured(
        size, model.name, ceiling, planned / 1e9, most / 1e9, mapped / 1e9, most / planned, round(seconds)
    )


def memory_of(process: int) -> dict[str, int]:
    """Bytes of a process's pages by kind; nothing of one that has ended."""
    found = dict.fromkeys(_FIELDS, 0)
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) * 1024
    return found


def write_results(rows: Sequence[Measured]) -> None:
    """Write both documents."""
    found = machine("torch", "numpy", "autospine") | {"threads": os.environ.get("OMP_NUM_THREADS", "all")}
    header = (
        "scan",
        "network",
        "ceiling",
        "planned",
        "measured",
        "measured / planned",
        "file pages",
        "seconds",
    )
    table = markdown_table(header, [_cells(row) for row in rows])
    document = {"machine": found, "rows": [asdict(row) for row in rows]}
    write_report("memory", document, f"{described(found)}\n{table}")


def _cells(row: Measured) -> list[str]:
    planned, measured, mapped = (f"{size:.1f} GB" for size in (row.planned, row.measured, row.mapped))
    texts = [row.scan, row.network, row.ceiling, planned, measured]
    return [*texts, f"{row.ratio:.2f}", mapped, f"{row.seconds:.0f}"]


def main() -> None:
    """Predict every size with every model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["256x256x300", "512x512x400", "512x512x1800"])
    parser.add_argument("--memory", nargs="+", default=["8GB"])
    parser.add_argument("--networks", nargs="+", default=list(MODELS), choices=list(MODELS))
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        scan = make_scan(options.work / f"{size}.nii.gz", [int(n) for n in size.split("x")])
        for network in options.networks:
            for ceiling in options.memory:
                model = make_model(options.work, network)
                rows.append(measure(model, scan, options.work / "masks", ceiling))
                print(rows[-1])
                write_results(rows)


if __name__ == "__main__":
    main()
