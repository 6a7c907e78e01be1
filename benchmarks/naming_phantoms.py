"""One network, the same outputs, two ways of naming: voxel by voxel, and the column as a whole.

    python -m benchmarks.naming_phantoms FOLDER [--epochs 18] [--scans 60] [--unseen 20]

Makes thoracolumbar and full phantoms in FOLDER, trains one fold of ``3d_fullres``, predicts unseen phantoms
both ways and scores them by both of VerSe's protocols. Goes on where it was stopped. Prints a table and
writes ``benchmarks/results/naming_phantoms.json``. At full length it takes some twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from autospine.cli.main import run
from autospine.core.plan import Plan
from autospine.io import documents
from benchmarks.machine import machine
from benchmarks.reports import write_report

CONFIGURATION: Final = "3d_fullres"
SEED: Final = "11"
DECODINGS: Final = ("argmax", "sequence")


def main() -> None:
    """All steps, each by the command a user would call."""
    options = arguments()
    root: Path = options.folder
    data, model = root / "data", root / "run"
    call("phantom", "-o", root / "phantoms", "-n", options.scans, "--test", options.unseen, "--seed", SEED,
         "--view", "thoracolumbar", "full")  # fmt: skip
    call("convert-verse", root / "phantoms", "-o", data)
    if not (model / "plan.json").is_file():
        call("fingerprint", data, "-o", model)
        call("plan", model, "--device", "cpu")
        keep_one(model / "plan.json", options.epochs)
    call("preprocess", model)
    started = time.monotonic()
    call("train", model, CONFIGURATION, "--folds", 0, "--device", "cpu")
    minutes = (time.monotonic() - started) / 60
    scores = {way: score(model, data, root / way, way) for way in DECODINGS}
    report(scores, options.epochs, minutes)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=18, help="of 100 steps")
    parser.add_argument("--scans", type=int, default=60, help="a fifth of them is not trained on")
    parser.add_argument("--unseen", type=int, default=20)
    return parser.parse_args()


def call(*tokens: object) -> None:
    """Run one command of autospine."""
    code = run([str(token) for token in tokens])
    if code:
        raise SystemExit(code)


def keep_one(path: Path, epochs: int) -> None:
    """Reduce the plan to one configuration and give its training this length."""
    plan = documents.load(path, Plan)
    chosen = plan.configuration(CONFIGURATION)
    schedule = replace(chosen.schedule, epochs=epochs, steps=100, validation_steps=4, warmup_steps=50)
    documents.save(path, replace(plan, configurations=(replace(chosen, schedule=schedule),)))


def score(model: Path, data: Path, folder: Path, naming: str) -> dict[str, Any]:
    """Predict the unseen scans in one way and score them by both protocols."""
    call("predict", "-m", model, "-i", data / "imagesTs", "-o", folder, "--configurations", CONFIGURATION,
         "--folds", 0, "--device", "cpu", "--naming", naming, "--force", "--quiet")  # fmt: skip
    found = {}
    for protocol in ("verse", "verse-strict"):
        output = folder / f"{protocol}.json"
        call("evaluate", "-p", folder, "-r", data / "labelsTs", "-d", data, "--protocol", protocol,
             "-o", output, "--quiet")  # fmt: skip
        found[protocol] = json.loads(output.read_text(encoding="utf-8"))["summary"]
    return found


def report(scores: dict[str, dict[str, Any]], epochs: int, minutes: float) -> None:
    """Print both ways side by side and write everything down."""
    rows = {
        f"{protocol}: {name}": [numbers(scores[way][protocol][name]) for way in DECODINGS]
        for protocol in ("verse", "verse-strict")
        for name in scores["argmax"][protocol]
    }
    print("| | " + " | ".join(DECODINGS) + " |\n|---|---:|---:|")
    for name, values in rows.items():
        if all(value is not None for value in values):
            print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    document = {
        **machine("torch"),
        "steps": epochs * 100,
        "training_minutes": round(minutes, 1),
        "scores": scores,
    }
    write_report("naming_phantoms", document)


def numbers(figure: Any) -> float | None:
    """The one number of a figure: itself, or the mean over all vertebrae or scans."""
    if isinstance(figure, dict):
        for key in ("pooled", "scans", "mean"):
            if figure.get(key) is not None:
                return numbers(figure[key])
        return None
    return float(figure) if isinstance(figure, int | float) else None


if __name__ == "__main__":
    main()
