"""Every published system beside the U-Nets: the same phantoms, the same training time, one leaderboard.

    python -m benchmarks.systems WORK [--minutes 4] [--scans 32] [--only segnet 3d_fullres]

Two folds of each run side by side on two cores. How many steps fit the time is measured first, for every
configuration on the data it will see, in seconds of the processor, so that whatever else the machine does
takes nothing away from any; a system's stages share its time. Every system is then judged on the
out-of-fold predictions, beside the others, and on scans that nothing was trained on. What needs a vertebra's
name is given that of the first one; scans that it refuses to name count as missed. Writes
``benchmarks/results/systems.json`` and ``systems.md``; goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from autospine import pipeline
from autospine.core import anatomy
from autospine.core.plan import Budget, Configuration, Plan
from autospine.core.run import FoldTask
from autospine.io import documents
from autospine.io.images import read_labels
from autospine.networks.measuring import size_of
from autospine.planning import PlanOptions, plan_for
from autospine.registry import names
from autospine.reporting import Reporter
from benchmarks.commands import command
from benchmarks.machine import machine
from benchmarks.reports import markdown_table, write_report

UNETS = ("2d", "3d_lowres", "3d_fullres")
PROBE_STEPS, EPOCHS, FOLDS = 8, 20, 2
#: The rest of the time goes to validation steps and checkpoints.
TRAINING_SHARE = 0.95
#: Exit code of a prediction that has left scans out.
SCANS_FAILED = 3


@dataclass(frozen=True)
class Probe:
    """What a short training of a configuration took.

    Args:
        seconds: Of the processor, of a step.
        pretraining: The same of what comes before, per batch.
        gigabytes: Most memory of the process.
    """

    seconds: float
    pretraining: float
    gigabytes: float


def make_data(work: Path, scans: int, unseen: int) -> Path:
    """Phantoms, converted; kept when they are there."""
    dataset = work / "dataset"
    if not (dataset / "dataset.json").is_file():
        phantoms = str(work / "phantoms")
        command("phantom", "-o", phantoms, "-n", str(scans), "--test", str(unseen), "--seed", "11")
        command("convert-verse", phantoms, "-o", str(dataset))
    return dataset


class EnoughError(Exception):
    """A probe has seen what it wanted."""


def probe(task: FoldTask) -> Probe:
    """Begin a training with one thread and stop it after a few steps."""
    import torch

    from autospine.registry import find

    torch.set_num_threads(1)
    shutil.rmtree(task.output, ignore_errors=True)
    brief = replace(task.configuration.schedule.pretraining, epochs=1, steps=PROBE_STEPS)
    schedule = replace(task.configuration.schedule, pretraining=brief)
    times = [time.process_time()]

    def on_step(_: str) -> None:
        times.append(time.process_time())
        if len(times) > PROBE_STEPS + 2:
            raise EnoughError

    configuration = replace(task.configuration, schedule=schedule)
    with suppress(EnoughError):
        find("trainers", "default")(replace(task, configuration=configuration), on_step)
    shutil.rmtree(task.output, ignore_errors=True)
    gaps = sorted(b - a for a, b in pairwise(times[2:]))
    step = gaps[len(gaps) // 2]
    before = max(0.0, times[1] - times[0] - step) / PROBE_STEPS if brief.method != "none" else 0.0
    return Probe(step, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def fitted(configuration: Configuration, found: Probe, seconds: float) -> Configuration:
    """The configuration, its schedule as long as ``seconds`` allow."""
    schedule = configuration.schedule
    before = 0.0
    if schedule.pretraining.method != "none":  # a quarter of the time
        before = seconds / 4
        epochs = 5
        steps = max(1, round(before / (found.pretraining * epochs)))
        schedule = replace(schedule, pretraining=replace(schedule.pretraining, epochs=epochs, steps=steps))
    steps = max(1, round((seconds - before) * TRAINING_SHARE / found.seconds / EPOCHS))
    warmup = min(schedule.warmup_steps, steps)
    schedule = replace(
        schedule,
        epochs=EPOCHS,
        steps=steps,
        validation_steps=1,
        warmup_steps=warmup,
    )
    return replace(configuration, schedule=schedule)


def train_all(run: pipeline.Run, wanted: Sequence[str], minutes: float) -> dict[str, Probe]:
    """Train every configuration in both folds for as long as the others; returns what was measured."""
    fingerprint = pipeline.make_fingerprint(run)
    plan = plan_for(fingerprint, PlanOptions("spine", Budget("cpu", cores=2), tuple(wanted)))
    if run.folder.plan.is_file():  # schedules that were fitted before
        known = {c.name: c for c in documents.load(run.folder.plan, Plan).configurations}
        plan = replace(plan, configurations=tuple(known.get(c.name, c) for c in plan.configurations))
    documents.save(run.folder.plan, plan)
    splits = pipeline.split(run, fingerprint, FOLDS)
    pipeline.preprocess(run, plan)
    probes_path = run.folder.root / "probes.json"
    probes = documents.load(probes_path, dict[str, Probe]) if probes_path.is_file() else {}
    for configuration in plan.configurations:
        if len(run.folder.trained_folds(configuration.name)) == FOLDS and configuration.name in probes:
            continue
        if configuration.previous_stage:
            pipeline.hand_over(run, plan, splits, configuration)
        task = pipeline.fold_task(run, plan, splits, configuration, 0, "cpu")
        if configuration.name not in probes:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                probes[configuration.name] = pool.submit(probe, task).result()
            share = 60 * minutes / stages_of(plan, configuration)
            made = fitted(configuration, probes[configuration.name], share)
            plan = replace(
                plan, configurations=tuple(made if c.name == made.name else c for c in plan.configurations)
            )
            documents.save(run.folder.plan, plan)
            documents.save(probes_path, probes)
        made = plan.configuration(configuration.name)
        started = time.monotonic()
        pipeline.train(run, plan, splits, [made], range(FOLDS), "cpu")
        print(f"{made.name}: {time.monotonic() - started:.0f} s", flush=True)
    return probes


def stages_of(plan: Plan, configuration: Configuration) -> int:
    """Stages of a system that share its time; U-Nets and what was asked for by itself have their own."""
    names_of_own = {*UNETS, "chaspprau_net"}
    if configuration.name in names_of_own:
        return 1
    followed = any(c.previous_stage == configuration.name for c in plan.configurations)
    before = configuration.previous_stage
    return 2 if followed or (before and before not in names_of_own) else 1


def first_names(dataset: Path, cases: Sequence[str]) -> dict[str, str]:
    """The first vertebra of each unseen scan, as its user would give it."""
    found = {}
    for case in cases:
        labels = read_labels(dataset / "labelsTs" / f"{case}.nii.gz").array
        present = [int(v) for v in set(labels.ravel().tolist()) - {0}]
        found[case] = anatomy.name_of(min(present, key=anatomy.rank_of))
    return found


def predict_unseen(work: Path, dataset: Path, name: str, anchors: Path) -> dict[str, Any]:
    """Predict the unseen scans by one configuration, in a process of its own, and score them."""
    target, scores = work / "unseen" / name, work / "unseen" / f"{name}.json"
    if not scores.is_file():
        shutil.rmtree(target, ignore_errors=True)
        arguments = [sys.executable, "-m", "autospine", "predict", "-m", str(work / "run")]
        arguments += ["-i", str(dataset / "imagesTs"), "-o", str(target), "--device", "cpu", "--quiet"]
        arguments += ["--anchor", str(anchors)]
        if name != "ensemble":
            arguments += ["--configurations", name]
        process = subprocess.Popen(arguments)
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, SCANS_FAILED):
            raise SystemExit(f"predicting by {name} failed")
        truth = str(dataset / "labelsTs")
        command("evaluate", "-p", str(target), "-r", truth, "-o", str(scores), "--allow-missing", "--quiet")
        (target / "memory.json").write_text(json.dumps(usage.ru_maxrss / 1e6), encoding="utf-8")
    report = json.loads((target / "prediction_report.json").read_text(encoding="utf-8"))
    summary = json.loads(scores.read_text(encoding="utf-8"))
    paces = [scan["seconds_per_slice"] for scan in report["scans"] if not scan["error"]]
    return {
        "summary": summary,
        "refused": sum(bool(scan["error"]) for scan in report["scans"]),
        "seconds_per_slice": sorted(paces)[len(paces) // 2],
        "gigabytes": json.loads((target / "memory.json").read_text(encoding="utf-8")),
    }


def row(
    run: pipeline.Run, plan: Plan, probes: dict[str, Probe], name: str, unseen: dict[str, Any]
) -> dict[str, Any]:
    """One system's figures."""
    board = list(csv.DictReader(run.folder.leaderboard.read_text(encoding="utf-8").splitlines()))
    mine = [line for line in board if line["members"] == name]
    best = max(mine, key=lambda line: float(line["identified"] or 0), default=None)
    stages = [plan.configuration(name)]
    while stages[-1].previous_stage:
        stages.append(plan.configuration(stages[-1].previous_stage))
    overall = unseen["summary"]["overall"]
    return {
        "system": name,
        "names by": best["decoding"] if best else "",
        "out-of-fold Dice": float(best["mean_dice"]) if best else None,
        "identified": float(best["identified"]) if best and best["identified"] else None,
        "all right": float(best["all_right"]) if best and best["all_right"] else None,
        "unseen Dice": (overall["dice_with_false_positives"] or {}).get("mean"),
        "unseen refused": unseen["refused"],
        "unseen missed": overall["missed"],
        "unseen invented": overall["false_positives"],
        "s a slice": unseen["seconds_per_slice"],
        "parameters": sum(
            size_of(c.network, c.patch, plan.input_channels(c), plan.output_channels(c)).parameters
            for c in stages
        ),
        "steps": plan.configuration(name).schedule.epochs * plan.configuration(name).schedule.steps,
        "training GB": max(probes[c.name].gigabytes for c in stages),
        "prediction GB": unseen["gigabytes"],
    }


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a table, the best first."""
    header = list(rows[0])
    best = sorted(rows, key=lambda r: -(r["out-of-fold Dice"] or 0))
    return markdown_table(header, [[_cell(name, value) for name, value in row.items()] for row in best])


def _cell(name: str, value: Any) -> str:
    if name == "parameters":
        return f"{value / 1e6:.2f} M"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def main() -> None:
    """Train, choose, predict, score and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--scans", type=int, default=32)
    parser.add_argument("--unseen", type=int, default=8)
    parser.add_argument("--only", nargs="*", default=[*UNETS, *names("systems")])
    options = parser.parse_args()
    dataset = make_data(options.work, options.scans, options.unseen)
    run = pipeline.Run.open(options.work / "run", Reporter(quiet=True), dataset)
    probes = train_all(run, options.only, options.minutes)
    plan = documents.load(run.folder.plan, Plan)
    choice = pipeline.find_best(run, plan)
    print(choice.table(), flush=True)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (dataset / "labelsTs").glob("*.nii.gz"))
    anchors = options.work / "anchors.csv"
    known = first_names(dataset, cases)
    anchors.write_text("scan,anchor\n" + "".join(f"{c},{n}\n" for c, n in known.items()), encoding="utf-8")
    judged = [c.name for c in plan.configurations if c.target != "centroids"]
    rows = [
        row(run, plan, probes, name, predict_unseen(options.work, dataset, name, anchors)) for name in judged
    ]
    together = predict_unseen(options.work, dataset, "ensemble", anchors)
    document = {
        **machine("torch", "numpy"),
        "device": "cpu, one thread a fold, two folds at a time",
        "minutes": options.minutes,
        "scans": {"training": options.scans, "unseen": options.unseen, "recipe": "demo", "folds": FOLDS},
        "rows": rows,
        "ensemble": {"members": choice.ensemble.name, "reason": choice.ensemble.reason, "unseen": together},
    }
    write_report("systems", document, as_markdown(rows))
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
