"""How well columns are named as the evidence gets worse: each instance by itself, against the whole column.

Columns are the phantom's, with many rare variants, in all fields of view. No image is drawn: the evidence is
made directly, with the mistakes that networks make. Writes a JSON and a picture, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from autospine.core import anatomy
from autospine.core.column import ColumnModel
from autospine.core.geometry import FloatArray
from autospine.phantom.patient import draw_patient
from autospine.phantom.recipe import Recipe
from autospine.phantom.view import draw_grid
from autospine.vertebrae.sequence import ColumnEvidence, NamedColumn, NamingRules, name_column
from autospine.vertebrae.statistics import ObservedColumn, learn_column
from benchmarks.machine import machine

#: Three patients in ten have a rare column: an L6, a T13 or no T12.
RECIPE: Final = Recipe(oblique=0.0, extra_lumbar=0.12, extra_thoracic=0.1, missing_thoracic=0.1)
NOISES: Final = tuple(round(0.1 * step, 1) for step in range(11))
LEVELS: Final = anatomy.COLUMN_LABELS
RARE: Final = tuple(anatomy.label_of(name) for name in ("T13", "L6"))
RULES: Final = NamingRules()
ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, eq=False)
class Column:
    """A patient's column and what of it is in view, from head to foot.

    Args:
        whole: Labels of all vertebrae the patient has.
        labels: Those in view.
        centres: Of the bodies in view, (x, y, z) in mm.
    """

    whole: tuple[int, ...]
    labels: tuple[int, ...]
    centres: FloatArray


@dataclass(frozen=True, eq=False)
class Trial:
    """Noisy evidence of a column.

    Args:
        truth: Each instance's label; None for something spurious.
        evidence: Of the instances.
        sound: Whether each vertebra was found, and in one part.
    """

    truth: tuple[int | None, ...]
    evidence: ColumnEvidence
    sound: bool


def draw_column(rng: np.random.Generator) -> Column:
    """The vertebrae of a random patient whose centres lie in a random field of view."""
    patient = draw_patient(RECIPE, rng)
    grid = draw_grid(patient, RECIPE, rng)
    low = grid.origin[2]
    high = low + grid.spacing[0] * (grid.shape[0] - 1)
    seen = [v for v in patient.vertebrae if low <= v.centre[2] <= high]
    whole = tuple(v.label for v in patient.vertebrae)
    return Column(whole, tuple(v.label for v in seen), np.array([v.centre for v in seen]).reshape(-1, 3))


def observe(column: Column) -> ObservedColumn:
    """As it would be read from a training case."""
    rows = zip(column.labels, column.centres.tolist(), strict=True)
    return ObservedColumn({label: (x, y, z) for label, (x, y, z) in rows})


def draw_trial(column: Column, noise: float, rng: np.random.Generator) -> Trial:
    """A column as a network might see it; ``noise`` from 0 (nearly perfect) to 1 (hardly usable)."""
    looks = _looks(column, noise, rng)
    rows: list[tuple[int | None, int, FloatArray, float]] = []
    for label, look, centre in zip(column.labels, looks, column.centres, strict=True):
        chance = rng.random()
        if chance < 0.06 * noise:
            continue  # not found
        parts = [6.0, -6.0] if chance > 1 - 0.05 * noise else [0.0]  # mm above the centre
        present = 1 - 0.5 * noise * rng.beta(1, 4)
        rows += [(label, look, centre + np.array([0, 0, up]), present) for up in parts]
    for _ in range(rng.poisson(0.6 * noise)):
        near = int(rng.integers(len(looks)))
        rows.append((None, looks[near], column.centres[near] + rng.normal(0, 25, 3), rng.uniform(0.02, 0.7)))
    rows.sort(key=lambda row: -row[2][2])
    centres = np.array([row[2] for row in rows]).reshape(-1, 3)
    evidence = ColumnEvidence(
        names=np.array([_names(row[1], noise, rng) for row in rows]).reshape(-1, len(LEVELS)),
        centres=centres + rng.normal(0, 0.3 + 3 * noise, centres.shape),
        presence=np.array([row[3] for row in rows]),
    )
    truth = tuple(row[0] for row in rows)
    return Trial(truth, evidence, tuple(label for label in truth if label is not None) == column.labels)


def _looks(column: Column, noise: float, rng: np.random.Generator) -> list[int]:
    """What each vertebra looks like: itself, a neighbour, or, in a part of the column, all one off."""
    count = len(column.labels)
    looks = column.whole.index(column.labels[0]) + np.arange(count)
    looks += np.rint(rng.normal(0, 0.5 * noise, count)).astype(int)
    if rng.random() < 0.6 * noise:
        first, length = int(rng.integers(count)), int(rng.integers(2, max(count // 2, 2) + 1))
        looks[first : first + length] += rng.choice([-1, 1])
    return [column.whole[look] for look in np.clip(looks, 0, len(column.whole) - 1)]


def _names(look: int, noise: float, rng: np.random.Generator) -> FloatArray:
    """Evidence around a level, blurred over its neighbours and scattered."""
    away = np.arange(len(LEVELS)) - LEVELS.index(look)
    blurred = np.exp(-(away**2) / (2 * (0.2 + 1.3 * noise) ** 2)) + 1e-3
    blurred[[LEVELS.index(rare) for rare in RARE if rare != look]] *= 0.3
    return rng.dirichlet(blurred / blurred.sum() * (4 + 60 * (1 - noise)) + 1e-3)


def by_argmax(evidence: ColumnEvidence) -> tuple[int | None, ...]:
    """Each instance by itself."""
    names = [LEVELS[index] for index in evidence.names.argmax(axis=1)]
    return tuple(n if p >= 0.5 else None for n, p in zip(names, evidence.presence, strict=True))


@dataclass(frozen=True, eq=False)
class Outcome:
    """One trial, named both ways."""

    trial: Trial
    alone: tuple[int | None, ...]
    named: NamedColumn
    seconds: float


def run(trial: Trial, model: ColumnModel) -> Outcome:
    """Name a trial's instances both ways."""
    start = time.process_time()
    named = name_column(trial.evidence, model, RULES)
    return Outcome(trial, by_argmax(trial.evidence), named, time.process_time() - start)


def summarise(noise: float, outcomes: list[Outcome]) -> dict[str, float]:
    """The figures of one noise level."""
    right = np.array([o.named.labels == o.trial.truth for o in outcomes])
    doubtful = np.array([bool(o.named.doubts) for o in outcomes])
    sound = np.array([o.trial.sound for o in outcomes])
    certain, hit = certainties(outcomes)
    return {
        "noise": noise,
        "columns_argmax": float(np.mean([o.alone == o.trial.truth for o in outcomes])),
        "columns_sequence": float(right.mean()),
        "vertebrae_argmax": _vertebrae([(o.trial.truth, o.alone) for o in outcomes]),
        "vertebrae_sequence": _vertebrae([(o.trial.truth, o.named.labels) for o in outcomes]),
        "mean_marginal": float(certain.mean()),
        "share_right": float(hit.mean()),
        "wrong": int((~right).sum()),
        "wrong_doubted": int((~right & doubtful).sum()),
        "sound": int((right & sound).sum()),
        "sound_doubted": int((right & sound & doubtful).sum()),
    }


def _vertebrae(pairs: list[tuple[tuple[int | None, ...], tuple[int | None, ...]]]) -> float:
    both = [(t, n) for truth, names in pairs for t, n in zip(truth, names, strict=True) if t is not None]
    return float(np.mean([t == n for t, n in both]))


def certainties(outcomes: list[Outcome]) -> tuple[FloatArray, FloatArray]:
    """Probability of each name that was given, and 1 where it was right."""
    rows = [
        (o.named.marginals[index, LEVELS.index(label)], float(label == o.trial.truth[index]))
        for o in outcomes
        for index, label in enumerate(o.named.labels)
        if label is not None
    ]
    certain, hit = np.array(rows).T
    return certain, hit


def calibration(outcomes: list[Outcome]) -> list[dict[str, float]]:
    """Stated probability against share right, in ten bins."""
    certain, hit = certainties(outcomes)
    bins = np.minimum((certain * 10).astype(int), 9)
    return [
        {
            "share": float((bins == b).mean()),
            "mean_marginal": float(certain[bins == b].mean()),
            "share_right": float(hit[bins == b].mean()),
        }
        for b in range(10)
        if (bins == b).any()
    ]


def main() -> None:
    """Run the simulation, print its table, write the JSON and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=240, help="drawn for each noise level")
    parser.add_argument("--learnt", type=int, default=200, help="other columns that the model is learnt from")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    model = learn_column([observe(draw_column(rng)) for _ in range(args.learnt)], LEVELS)
    columns = [draw_column(rng) for _ in range(args.columns)]
    outcomes = {noise: [run(draw_trial(c, noise, rng), model) for c in columns] for noise in NOISES}
    every = [outcome for some in outcomes.values() for outcome in some]
    rows, bins = [summarise(noise, some) for noise, some in outcomes.items()], calibration(every)
    report = machine("numpy") | vars(args) | timing(every) | {"noise": rows, "calibration": bins}
    print(table(rows))
    print(", ".join(f"{key}: {value:.1f}" for key, value in timing(every).items()))
    target = ROOT / "benchmarks" / "results" / "naming_noise.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(rows, bins, ROOT / "documentation" / "pictures" / "naming_noise.png")


def timing(outcomes: list[Outcome]) -> dict[str, float]:
    """How long a column takes."""
    seconds = [outcome.seconds for outcome in outcomes]
    return {
        "milliseconds_median": round(1000 * float(np.median(seconds)), 2),
        "milliseconds_worst": round(1000 * max(seconds), 2),
    }


def table(rows: list[dict[str, float]]) -> str:
    """The figures in Markdown, shares in per cent."""
    heads = {
        "columns_argmax": "columns right: argmax",
        "columns_sequence": "sequence",
        "vertebrae_argmax": "vertebrae right: argmax",
        "vertebrae_sequence": "sequence",
        "mean_marginal": "stated",
        "share_right": "true",
    }
    counts = {"wrong": "wrong columns doubted", "sound": "right columns doubted"}
    lines = [
        "| noise | " + " | ".join([*heads.values(), *counts.values()]) + " |",
        "|---" + "|---:" * 8 + "|",
    ]
    for row in rows:
        cells = [f"{100 * row[key]:.1f}" for key in heads]
        cells += [f"{row[f'{key}_doubted']:.0f} of {row[key]:.0f}" for key in counts]
        lines.append(f"| {row['noise']:.1f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, float]], bins: list[dict[str, float]], path: Path) -> None:
    """Curves over the noise, and stated against true certainty."""
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    curves, honest = figure.subplots(1, 2, width_ratios=(1.7, 1))
    noise = [row["noise"] for row in rows]
    for way, colour in (("sequence", "#1b6ca8"), ("argmax", "#c8553d")):
        for unit, style in (("vertebrae", "--"), ("columns", "-")):
            shares = [100 * row[f"{unit}_{way}"] for row in rows]
            label = f"{'all of the column' if unit == 'columns' else 'vertebrae'}, {way}"
            curves.plot(noise, shares, style, color=colour, marker="o", markersize=3, label=label)
    curves.set(xlabel="noise in the evidence", ylabel="named rightly, %", ylim=(-2, 102))
    curves.legend(frameon=False, loc="lower left")
    honest.plot([0, 100], [0, 100], color="0.8")
    stated = [100 * each["mean_marginal"] for each in bins]
    true = [100 * each["share_right"] for each in bins]
    honest.scatter(stated, true, s=[6 + 60 * each["share"] for each in bins], color="#1b6ca8")
    honest.set(xlabel="stated probability of a name, %", ylabel="of these right, %", aspect="equal")
    for axes in (curves, honest):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
