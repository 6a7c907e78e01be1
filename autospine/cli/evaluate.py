"""``autospine evaluate``: score predicted masks against reference masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from autospine.core.dataset import Case
    from autospine.evaluation.report import Report
    from autospine.evaluation.scores import Coding
    from autospine.evaluation.verse import MissingChoice
    from autospine.evaluation.verse_cases import Measured
    from autospine.evaluation.verse_report import VerseReport

Protocol = Literal["surface", "verse", "verse-strict"]


def evaluate(
    *,
    prediction: Annotated[Path, Parameter(name=["--prediction", "-p"])],
    reference: Annotated[Path, Parameter(name=["--reference", "-r"])],
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    dataset: Annotated[Path | None, Parameter(name=["--dataset", "-d"])] = None,
    protocol: Protocol = "surface",
    coding: Literal["autospine", "verse"] = "autospine",
    tolerance: float | None = None,
    missing: Literal["skip", "cap", "penalise"] | None = None,
    flat_centroids: Literal["verse19", "verse20"] | None = None,
    allow_missing: bool = False,
    workers: int | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Score predicted masks: by overlap and surfaces per vertebra, or by VerSe's rules.

    Files are matched by name; prediction and reference must lie on the same grid. A vertebra that was
    not predicted counts as Dice 0. Means have 95 % bootstrap intervals over patients.

    Args:
        prediction: Folder of predicted masks, or one mask.
        reference: Folder of reference masks, or one mask.
        output: JSON file to write the scores to.
        dataset: Data set folder whose dataset.json names labels, ignore label, patients and body centres.
        protocol: surface: Dice, HD95, ASSD and NSD; verse: identification, Dice and distances as VerSe's
            organisers count; verse-strict: the same, all reference vertebrae and false positives counting.
        coding: Meaning of the values without a data set: autospine (C1..L6 = 1..25, T13 = 26) or
            verse (T13 = 28, sacrum and coccyx not scored).
        tolerance: surface only: mm within which surfaces count as equal, for the NSD; 1 by default.
        missing: verse-strict only: what a missed vertebra contributes to distances: nothing (skip), the cap
            of all distances (cap, the default), or a penalty (penalise).
        flat_centroids: VerSe protocols only: whose flat *_ctd.json files stand beside the masks; by default
            they are subject-based.
        allow_missing: Count a missing prediction as all vertebrae missed instead of stopping.
        workers: Processes; one per core by default.
        quiet: Say nothing.
        json: Print the scores as JSON instead of a table.
    """
    from autospine.cli.console import say, say_json
    from autospine.evaluation import report as reports
    from autospine.io import documents
    from autospine.io.parallel import cores
    from autospine.reporting import Reporter

    _require_sensible(protocol, tolerance, missing, flat_centroids)
    meaning, known = _meaning(dataset, coding)
    workers, reporter = workers or cores(), Reporter(quiet=quiet or json)
    report: Report | VerseReport
    if protocol == "surface":
        report = reports.evaluate(
            prediction,
            reference,
            meaning,
            tolerance=1.0 if tolerance is None else tolerance,
            workers=workers,
            allow_missing=allow_missing,
            patients={name: case.group for name, case in known.items()},
            reporter=reporter,
        )
    else:
        from autospine.evaluation.verse_cases import Meaning, measure

        measured = measure(
            prediction,
            reference,
            Meaning(meaning, known, flat_centroids),
            workers=workers,
            allow_missing=allow_missing,
            reporter=reporter,
        )
        report = _verse_report(measured, strict=protocol == "verse-strict", missing=missing or "cap")
    if output is not None:
        documents.save(output, report)
    if json:
        say_json(report)
    elif not quiet:
        say(report.table())
    return 0


def _verse_report(measured: Measured, *, strict: bool, missing: MissingChoice) -> VerseReport:
    from autospine.evaluation.verse import Missing
    from autospine.evaluation.verse_report import official_report, strict_report

    return strict_report(measured, Missing.of(missing)) if strict else official_report(measured)


def _meaning(
    dataset: Path | None, coding: Literal["autospine", "verse"]
) -> tuple[Coding, Mapping[str, Case]]:
    """What the values mean, and the data set's cases by identifier."""
    from autospine.evaluation.scores import Coding
    from autospine.io.raw_dataset import load_dataset

    if dataset is None:
        return Coding.verse() if coding == "verse" else Coding.consecutive(), {}
    loaded = load_dataset(dataset)
    return Coding.of_schema(loaded.labels), {case.identifier: case for case in loaded.training + loaded.test}


def _require_sensible(
    protocol: Protocol, tolerance: float | None, missing: str | None, flat_centroids: str | None
) -> None:
    """Refuse options that the protocol would ignore."""
    from autospine.core.errors import UsageError

    wrong = {
        "--tolerance": tolerance is not None and protocol != "surface",
        "--missing": missing is not None and protocol != "verse-strict",
        "--flat-centroids": flat_centroids is not None and protocol == "surface",
    }
    for option, is_wrong in wrong.items():
        if is_wrong:
            raise UsageError(
                f"{option} means nothing to the protocol {protocol}.",
                remedy="Leave it out, or choose another --protocol.",
            )
