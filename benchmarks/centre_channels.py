"""What learning body centres costs: seconds and memory of a training step with and without them.

    python -m benchmarks.centre_channels [--device cuda]

Two networks per device, each in a process of its own, with random patches: the CPU plan's network with 25
classes at 4 mm, and on a GPU the residual network that fits 8 GB. Prints a table beside what the planner
expects and writes ``benchmarks/results/centre_channels.json``.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import torch

from autospine import losses
from autospine.core.cost import estimate
from autospine.core.dataset import LabelSchema
from autospine.core.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autospine.core.plan import Budget, Configuration, Plan
from autospine.networks import build
from autospine.precision import autocast, choose_precision
from autospine.registry import find
from autospine.targets import centre_targets
from benchmarks.machine import machine
from benchmarks.reports import write_report

STEPS, WARM_UP = 30, 5


def fingerprint() -> Fingerprint:
    """Sixty scans of whole columns, C1 to L5, 1 mm on a GPU's plan and coarser on a CPU's."""
    levels = tuple(range(1, 25))
    case = CaseFingerprint(
        "case", (1.0, 1.0, 1.0), (550, 180, 130), (550, 180, 130), (550, 180, 130), "SPL", levels, (),
        (500.0, 100.0, 80.0), 26.0, -1000.0, True,
    )  # fmt: skip
    cases = tuple(replace(case, identifier=f"case{i}") for i in range(60))
    bone = Intensities(340.0, 330.0, 120.0, -200.0, 1500.0, 115.0, 632.0)
    return Fingerprint("columns", LabelSchema.vertebral_column(), ("CT",), cases, (bone,))


def measure(plan: Plan, configuration: Configuration, device: str) -> tuple[float, float]:
    """Median seconds of a step, and GB: allocated on a GPU, of the whole process on a CPU."""
    torch.manual_seed(0)
    place = torch.device(device)
    precision = choose_precision("auto", place)
    outputs = plan.output_channels(configuration)
    network = build(configuration.network, plan.input_channels(configuration), outputs).to(place)
    optimiser = torch.optim.AdamW(network.parameters())
    loss_function = losses.build(configuration)
    b, patch = configuration.batch_size, configuration.patch
    image = torch.randn(b, 1, *patch, device=place)
    labels = torch.randint(0, len(plan.classes), (b, *patch), dtype=torch.int8, device=place)
    points = (torch.rand(b, len(plan.classes), 3, device=place) - 0.5) * torch.tensor(patch, device=place)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        targets = None
        if configuration.centres:
            targets = centre_targets(labels, points, [s or 1.0 for s in configuration.spacing])
        optimiser.zero_grad(set_to_none=True)
        with autocast(place, precision):
            loss = loss_function(network.forward_stages(image), labels, targets)  # type: ignore[operator]
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if place.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    if place.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 1e9
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return sorted(seconds[WARM_UP:])[STEPS // 2], memory


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = parser.parse_args().device
    made = fingerprint()
    plan = find("planners", "spine")(made, Budget(device, cores=torch.get_num_threads()))
    rows = []
    for name in ("3d_lowres", "3d_fullres"):
        for centres in (False, True):
            configuration = replace(plan.configuration(name), centres=centres)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                seconds, memory = pool.submit(measure, plan, configuration, device).result()
            cost = estimate(plan, configuration, made)
            rows.append((name, centres, seconds, memory, cost.step_seconds, cost.memory_gb))
    print("| configuration | centres | s/step | GB | planned s/step | planned GB |")
    print("|---|---|---:|---:|---:|---:|")
    for name, centres, *figures in rows:
        print(f"| {name} | {'yes' if centres else 'no'} | " + " | ".join(f"{f:.3f}" for f in figures) + " |")
    document = {
        **machine("torch"),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "columns": ["configuration", "centres", "seconds", "gb", "planned_seconds", "planned_gb"],
        "rows": rows,
    }
    write_report("centre_channels", document)


if __name__ == "__main__":
    main()
