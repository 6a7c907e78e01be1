"""The scores of a set of cases: matching the files, averaging, and the table a reader sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core.errors import DataError, UsageError
from autospine.core.estimate import Estimate, estimate
from autospine.core.table import number, table
from autospine.evaluation.scores import CaseScore, Coding, LabelScore, ScoringTask, score_case
from autospine.io.images import image_stem, is_image
from autospine.io.parallel import parallel_map
from autospine.reporting import Reporter

POLICY: Final = (
    "A reference label that was not predicted has Dice 0 and NSD 0 and no distances: HD95 and ASSD are "
    "means over the labels found, beside the number missed. A label only predicted is listed with Dice 0 "
    "and enters no mean but dice_with_false_positives. Intervals: 95 %, percentile bootstrap over patients."
)


@dataclass(frozen=True)
class Summary:
    """Scores over a set of (case, reference label) pairs, each pair weighing the same.

    Args:
        pairs: Number of pairs.
        missed: Pairs without a prediction of the label.
        false_positives: Labels predicted in cases whose reference does not show them.
        dice: Mean Dice, missed labels counting as 0; None without pairs.
        dice_with_false_positives: The same with false positives counting as 0 too.
        nsd: Mean surface Dice, missed labels counting as 0.
        hd95: Mean over the labels found, in mm.
        assd: Mean over the labels found, in mm.
    """

    pairs: int
    missed: int
    false_positives: int
    dice: Estimate | None
    dice_with_false_positives: Estimate | None
    nsd: Estimate | None
    hd95: Estimate | None
    assd: Estimate | None


@dataclass(frozen=True)
class LevelSummary:
    """One label over all cases."""

    label: int
    name: str
    summary: Summary


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Args:
        tolerance: mm within which surfaces count as equal for the NSD.
        policy: How missed and additional labels count.
        overall: Over all (case, reference label) pairs; its Dice is the *mean vertebra Dice*.
        levels: Per label over the cases, in the order of the labels.
        cases: Per case, in the order of the identifiers.
        unmatched: Predictions without a reference; not scored.
        version: Of this document's layout.
    """

    tolerance: float
    policy: str
    overall: Summary
    levels: tuple[LevelSummary, ...]
    cases: tuple[CaseScore, ...]
    unmatched: tuple[str, ...] = ()
    version: int = 1

    def table(self) -> str:
        """The report for a terminal: per vertebra, per case, overall."""
        head = ["Dice", f"NSD@{self.tolerance:g}mm", "HD95 mm", "ASSD mm", "missed", "false"]
        levels = [
            [level.name, str(level.summary.pairs), *_means(level.summary), *_counts(level.summary)]
            for level in self.levels
        ]
        cases = [[case.identifier, str(len(case.reference)), *_case_cells(case)] for case in self.cases]
        lines = [
            table(["vertebra", "cases", *head], levels),
            table(["case", "vertebrae", *head], cases),
            _overall_lines(self),
        ]
        return "\n\n".join(lines)


def evaluate(
    predictions: Path,
    references: Path,
    coding: Coding,
    *,
    tolerance: float = 1.0,
    workers: int = 1,
    allow_missing: bool = False,
    patients: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Report:
    """Score predicted masks against reference masks of the same stem.

    Args:
        predictions: A folder of masks, or one mask.
        references: A folder of masks, or one mask if ``predictions`` is one.
        coding: What the values mean.
        tolerance: mm within which surfaces count as equal for the NSD.
        workers: Processes.
        allow_missing: Whether a reference without prediction counts as Dice 0 instead of being an error.
        patients: Patient by case identifier; by default every case is a patient of its own.
        reporter: Where progress is told; by default nowhere.

    Raises:
        UsageError: A path does not exist, or one is a file and the other a folder.
        DataError: There are no references, or predictions are missing and that is not allowed.
        GeometryError: Prediction and reference lie on different grids.
        LabelError: A mask holds undeclared values.
    """
    pairs, unmatched = match(predictions, references, allow_missing)
    tasks = [
        ScoringTask(name, (patients or {}).get(name) or name, reference, prediction, coding, tolerance)
        for name, (reference, prediction) in pairs.items()
    ]
    cases = []
    with (reporter or Reporter(quiet=True)).bar(len(tasks), "evaluate") as advance:
        for case in parallel_map(score_case, tasks, workers):
            cases.append(case)
            advance(case.identifier)
    return summarise(cases, coding.names, tolerance, unmatched)


def match(
    predictions: Path, references: Path, allow_missing: bool
) -> tuple[dict[str, tuple[Path, Path | None]], tuple[str, ...]]:
    """Pair files by stem.

    Returns:
        (reference, prediction or None) by case identifier, sorted; and the predictions left over.

    Raises:
        UsageError: A path does not exist, or one is a file and the other a folder.
        DataError: There are no references, or predictions are missing and that is not allowed.
    """
    for path in (predictions, references):
        if not path.exists():
            raise UsageError("There is no such file or folder.", where=path, remedy="Check the path.")
    if predictions.is_dir() != references.is_dir():
        raise UsageError(f"{predictions} and {references} are not both files or both folders.")
    if references.is_file():
        return {image_stem(references): (references, predictions)}, ()
    known, found = _masks(references), _masks(predictions)
    if not known:
        raise DataError("There are no masks here.", where=references, remedy="Check the folder.")
    missing = sorted(known.keys() - found.keys())
    if missing and not allow_missing:
        raise DataError(
            f"{len(missing)} of {len(known)} predictions are missing, first {', '.join(missing[:3])}.",
            where=predictions,
            remedy="Add them, or count them as Dice 0 with --allow-missing.",
        )
    pairs = {name: (known[name], found.get(name)) for name in sorted(known)}
    return pairs, tuple(sorted(found.keys() - known.keys()))


def summarise(
    cases: Sequence[CaseScore], names: Mapping[int, str], tolerance: float, unmatched: tuple[str, ...] = ()
) -> Report:
    """Average the scores of cases per label and overall."""
    scores = [(score, case.patient) for case in cases for score in case.labels]
    levels = []
    for label in sorted({score.label for score, _ in scores}):
        of_label = [pair for pair in scores if pair[0].label == label]
        levels.append(LevelSummary(label, names[label], _summary(of_label)))
    return Report(tolerance, POLICY, _summary(scores), tuple(levels), tuple(cases), unmatched)


def _summary(scores: Sequence[tuple[LabelScore, str]]) -> Summary:
    reference = [(score, patient) for score, patient in scores if score.status != "false positive"]
    found = [(score, patient) for score, patient in reference if score.status == "found"]
    return Summary(
        pairs=len(reference),
        missed=len(reference) - len(found),
        false_positives=len(scores) - len(reference),
        dice=_estimate([(score.dice, patient) for score, patient in reference]),
        dice_with_false_positives=_estimate([(score.dice, patient) for score, patient in scores]),
        nsd=_estimate([(score.nsd, patient) for score, patient in reference]),
        hd95=_estimate([(score.hd95, patient) for score, patient in found]),
        assd=_estimate([(score.assd, patient) for score, patient in found]),
    )


def _estimate(values: Sequence[tuple[float | None, str]]) -> Estimate | None:
    known = [(value, patient) for value, patient in values if value is not None]
    return estimate([value for value, _ in known], [patient for _, patient in known])


def _masks(folder: Path) -> dict[str, Path]:
    masks: dict[str, Path] = {}
    for path in sorted(filter(is_image, folder.iterdir())):
        stem = image_stem(path)
        if stem in masks:
            raise DataError(f"{masks[stem].name} and {path.name} are masks of one case.", where=folder)
        masks[stem] = path
    return masks


def _means(summary: Summary) -> list[str]:
    estimates = [(summary.dice, 4), (summary.nsd, 4), (summary.hd95, 2), (summary.assd, 2)]
    return [number(None if value is None else value.mean, digits) for value, digits in estimates]


def _counts(summary: Summary) -> list[str]:
    return [str(summary.missed), str(summary.false_positives)]


def _case_cells(case: CaseScore) -> list[str]:
    missed = sum(score.status == "missed" for score in case.labels)
    means = [number(case.dice, 4), number(case.nsd, 4), number(case.hd95, 2), number(case.assd, 2)]
    return [*means, str(missed), str(len(case.labels) - len(case.reference))]


def _overall_lines(report: Report) -> str:
    overall = report.overall
    lines = [
        f"mean vertebra Dice         {overall.dice}",
        f"  with false positives     {overall.dice_with_false_positives}",
        f"mean NSD at {report.tolerance:g} mm".ljust(27) + str(overall.nsd),
        f"mean HD95 (found), mm      {overall.hd95}",
        f"mean ASSD (found), mm      {overall.assd}",
        f"vertebrae: {overall.pairs} in {len(report.cases)} cases, {overall.missed} missed; "
        f"{overall.false_positives} false positives",
        "Means over all (case, reference vertebra) pairs; [95 % interval, bootstrap over patients].",
    ]
    absent = [case.identifier for case in report.cases if not case.predicted]
    if absent:
        lines.append(f"No prediction, counted as Dice 0: {', '.join(absent)}")
    if report.unmatched:
        lines.append(f"Not scored, no reference: {', '.join(report.unmatched)}")
    return "\n".join(lines)
