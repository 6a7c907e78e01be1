"""VerSe's figures as a document and as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Final, Literal

from autospine.core.estimate import Estimate
from autospine.core.table import number, table
from autospine.evaluation.verse import (
    EMPTY_SCAN_DISTANCE,
    MISSED_HAUSDORFF,
    Average,
    CaseMeasures,
    Missing,
    OfficialSummary,
    RegionSummary,
    StrictSummary,
)
from autospine.evaluation.verse_cases import Measured
from autospine.evaluation.verse_summary import summarise_official, summarise_strict

Protocol = Literal["verse", "verse-strict"]

_WIDTH: Final = 100
_INTERVALS: Final = "Intervals: 95 %, percentile bootstrap over patients."
_OFFICIAL: Final = (
    "Identified, as VerSe's get_hits counts: of the labels in both, its own reference centre is closest and "
    "at most 20 mm away. False positives cost nothing. Missed: Dice 0, Hausdorff distance "
    f"{MISSED_HAUSDORFF:g} mm, no localisation error; a scan without any comparable centre counts "
    f"{EMPTY_SCAN_DISTANCE:g} mm. {_INTERVALS}"
)
_STRICT: Final = (
    "Identified: of all reference centres its own is closest and at most 20 mm away. Missed vertebrae have "
    "Dice 0; false positives have Dice 0 and lower the precision. Distances of missed vertebrae: {}. "
    f"{_INTERVALS}"
)


@dataclass(frozen=True)
class Sources:
    """Number of scans by where their body centres came from.

    Args:
        reference: By ``case_centres.Source``.
        prediction: Likewise.
        without_centre: Vertebrae in reference masks whose scan's centres lack them; not to be identified.
    """

    reference: Mapping[str, int]
    prediction: Mapping[str, int]
    without_centre: int


@dataclass(frozen=True)
class VerseReport:
    """What an evaluation by one of VerSe's protocols found.

    Args:
        protocol: ``"verse"`` as the organisers count, or ``"verse-strict"``.
        policy: How missed and additional vertebrae count, in words.
        summary: The figures over all scans.
        sources: Where the centres came from.
        cases: Per case, in the order of the identifiers.
        unmatched: Predictions without a reference; not scored.
        version: Of this document's layout.
    """

    protocol: Protocol
    policy: str
    summary: OfficialSummary | StrictSummary
    sources: Sources
    cases: tuple[CaseMeasures, ...]
    unmatched: tuple[str, ...] = ()
    version: int = 1

    def table(self) -> str:
        """The report for a terminal: per case, overall, and what it rests on."""
        if isinstance(self.summary, OfficialSummary):
            parts = [_official_cases(self.cases), _official_figures(self.summary)]
        else:
            missing = self.summary.missing
            regions = _region_table(self.summary.regions)
            parts = [_strict_cases(self.cases, missing), regions, _strict_figures(self.summary)]
        return "\n\n".join([*parts, _remarks(self)])


def official_report(measured: Measured) -> VerseReport:
    """The report by the organisers' rules."""
    summary = summarise_official(measured.cases)
    return _report("verse", _OFFICIAL, summary, measured)


def strict_report(measured: Measured, missing: Missing) -> VerseReport:
    """The report by strict rules.

    Args:
        measured: What was measured.
        missing: What a missed vertebra contributes to the distances.
    """
    summary = summarise_strict(measured.cases, missing)
    return _report("verse-strict", _STRICT.format(_in_words(missing)), summary, measured)


def _report(
    protocol: Protocol, policy: str, summary: OfficialSummary | StrictSummary, measured: Measured
) -> VerseReport:
    cases = measured.cases
    sources = Sources(
        reference=dict(sorted(Counter(case.reference_source for case in cases).items())),
        prediction=dict(sorted(Counter(case.prediction_source for case in cases).items())),
        without_centre=sum(
            v.has_reference_mask and not v.has_reference_centre for case in cases for v in case.vertebrae
        ),
    )
    return VerseReport(protocol, policy, summary, sources, cases, measured.unmatched)


def _in_words(missing: Missing) -> str:
    values = f"{missing.centre:g} mm (centre) and {missing.hausdorff:g} mm (Hausdorff)"
    return {
        "skip": "they have none, the means are over the vertebrae found",
        "cap": f"{values}, more than which no vertebra counts",
        "penalise": f"{values}, the others as they are",
    }[missing.choice]


def _official_cases(cases: Sequence[CaseMeasures]) -> str:
    head = ["case", "vertebrae", "identified", "rate", "error mm", "Dice", "HD mm", "foreground Dice"]
    rows = []
    for case in cases:
        one = summarise_official([case])
        figures = [(one.identification, 4), (one.distance, 2), (one.dice, 4), (one.hausdorff, 2)]
        cells = [
            *(_mean(figure.scans, digits) for figure, digits in figures),
            number(case.foreground_dice, 4),
        ]
        rows.append([case.identifier, str(one.vertebrae), str(one.hits), *cells])
    return table(head, rows)


def _official_figures(summary: OfficialSummary) -> str:
    figures = [
        ("identification rate", summary.identification, 4),
        ("localisation error, mm", summary.distance, 2),
        ("Dice per vertebra", summary.dice, 4),
        ("Hausdorff distance, mm", summary.hausdorff, 2),
        ("foreground Dice", summary.foreground_dice, 4),
    ]
    counts = f"{summary.hits} of {summary.vertebrae} vertebrae identified in {summary.scans} scans."
    return f"{_figure_table(figures)}\n{counts}"


def _strict_cases(cases: Sequence[CaseMeasures], missing: Missing) -> str:
    head = [
        "case",
        "vertebrae",
        "identified",
        "false",
        "F1",
        "error mm",
        "Dice",
        "HD mm",
        "shift",
        "all right",
    ]
    rows = []
    for case in cases:
        one = summarise_strict([case], missing)
        figures = [(one.f1, 4), (one.distance, 2), (one.dice, 4), (one.hausdorff, 2)]
        cells = [_mean(figure.scans, digits) for figure, digits in figures]
        counts = [str(one.vertebrae), str(one.hits), str(one.false_positives)]
        right = {True: "yes", False: "no", None: "-"}[case.all_right]
        rows.append([case.identifier, *counts, *cells, next(iter(one.shifts), "-"), right])
    return table(head, rows)


def _region_table(regions: Sequence[RegionSummary]) -> str:
    head = ["region", "vertebrae", "identified", "false", "recall", "precision", "error mm", "Dice", "HD mm"]
    rows = []
    for each in regions:
        counts = [str(each.vertebrae), str(each.hits), str(each.false_positives)]
        figures = [
            (each.recall, 4),
            (each.precision, 4),
            (each.distance, 2),
            (each.dice, 4),
            (each.hausdorff, 2),
        ]
        rows.append([each.region, *counts, *(_mean(figure, digits) for figure, digits in figures)])
    return table(head, rows)


def _strict_figures(summary: StrictSummary) -> str:
    figures = [
        ("recall (identification rate)", summary.recall, 4),
        ("precision", summary.precision, 4),
        ("F1", summary.f1, 4),
        ("localisation error, mm", summary.distance, 2),
        ("Dice, false positives 0", summary.dice, 4),
        ("Hausdorff distance, mm", summary.hausdorff, 2),
    ]
    shifts = ", ".join(f"{offset}: {count}" for offset, count in summary.shifts.items())
    return "\n".join(
        [
            _figure_table(figures),
            f"{summary.hits} of {summary.vertebrae} vertebrae identified in {summary.scans} scans; "
            f"{summary.false_positives} false positives.",
            f"Scans with all vertebrae right: {_interval(summary.all_right, 4)}",
            f"Scans by best-matching shift in levels: {shifts or '-'}",
        ]
    )


def _figure_table(figures: Sequence[tuple[str, Average, int]]) -> str:
    head = ["", "mean over scans", "median", "over all vertebrae"]
    rows = [
        [
            name,
            _interval(figure.scans, digits),
            number(figure.median, digits),
            _interval(figure.pooled, digits),
        ]
        for name, figure, digits in figures
    ]
    return table(head, rows)


def _remarks(report: VerseReport) -> str:
    lines = [fill(report.policy, _WIDTH), f"Centres of the references: {_counted(report.sources.reference)}."]
    lines.append(f"Centres of the predictions: {_counted(report.sources.prediction)}.")
    if report.sources.without_centre:
        lines.append(
            f"Reference vertebrae without a centre, not identified: {report.sources.without_centre}."
        )
    absent = [case.identifier for case in report.cases if not case.predicted]
    if absent:
        lines.append(f"No prediction, all vertebrae missed: {', '.join(absent)}")
    if report.unmatched:
        lines.append(f"Not scored, no reference: {', '.join(report.unmatched)}")
    return "\n".join(lines)


def _counted(sources: Mapping[str, int]) -> str:
    return ", ".join(f"{source} ({count})" for source, count in sources.items()) or "none"


def _mean(figure: Estimate | None, digits: int) -> str:
    return number(None if figure is None else figure.mean, digits)


def _interval(figure: Estimate | None, digits: int) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return _mean(figure, digits)
    return f"{figure.mean:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"
