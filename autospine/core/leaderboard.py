"""What was compared before an ensemble was chosen, as a value, a table and a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autospine.core.column_report import Decoding
from autospine.core.estimate import Estimate
from autospine.core.table import number, table


@dataclass(frozen=True)
class Candidate:
    """One combination of configurations under one decoding, scored without post-processing.

    Args:
        members: Names of the configurations.
        score: Mean Dice over all (case, reference label) pairs.
        regions: The same over the pairs of one region of the column, for labels that are vertebrae.
        seconds: Network time of predicting a case with all folds of all members; None when not recorded.
        decoding: How names were decided.
        identified: Share of the reference vertebrae whose name and place are right (``strict_hits``);
            None where labels are no vertebrae.
        all_right: Share of the cases in which all are, and nothing else was named.
    """

    members: tuple[str, ...]
    score: Estimate
    regions: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    decoding: Decoding = "argmax"
    identified: Estimate | None = None
    all_right: float | None = None

    @property
    def name(self) -> str:
        """The members' names, joined."""
        return " + ".join(self.members)


def as_table(candidates: Sequence[Candidate]) -> str:
    """The candidates in their order, for a terminal."""
    regions = _regions(candidates)
    rows = [
        [
            candidate.name,
            candidate.decoding,
            number(None if candidate.identified is None else candidate.identified.mean, 4),
            number(candidate.all_right, 4),
            f"{candidate.score.mean:.4f}",
            f"{number(candidate.score.low, 4)} .. {number(candidate.score.high, 4)}",
            *[number(candidate.regions.get(region), 4) for region in regions],
            number(candidate.seconds, 1),
        ]
        for candidate in candidates
    ]
    return table(
        ["members", "names by", "identified", "all right", "mean Dice", "95 % interval", *regions, "s/case"],
        rows,
    )


def as_csv(candidates: Sequence[Candidate], cases: int, chosen: Candidate) -> str:
    """The candidates in their order as comma-separated values.

    Args:
        candidates: Best first.
        cases: Number of cases they were scored on.
        chosen: The one that was chosen.
    """
    regions = _regions(candidates)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["rank", "members", "decoding", "identified", "all_right", "mean_dice", "low", "high"]
    writer.writerow([*header, *regions, "cases", "seconds", "chosen"])
    for rank, candidate in enumerate(candidates, start=1):
        score, identified = candidate.score, candidate.identified
        named = [None if identified is None else identified.mean, candidate.all_right]
        figures = [
            *named,
            score.mean,
            score.low,
            score.high,
            *[candidate.regions.get(region) for region in regions],
        ]
        cells = ["" if figure is None else f"{figure:.6f}" for figure in figures]
        seconds = "" if candidate.seconds is None else f"{candidate.seconds:.2f}"
        choice = "yes" if candidate is chosen else "no"
        writer.writerow([rank, candidate.name, candidate.decoding, *cells, cases, seconds, choice])
    return text.getvalue()


def _regions(candidates: Sequence[Candidate]) -> list[str]:
    return sorted({region for candidate in candidates for region in candidate.regions})
