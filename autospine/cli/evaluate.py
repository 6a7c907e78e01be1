"""``autospine evaluate``: score predicted masks against reference masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def evaluate(
    *,
    prediction: Annotated[Path, Parameter(name=["--prediction", "-p"])],
    reference: Annotated[Path, Parameter(name=["--reference", "-r"])],
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    dataset: Annotated[Path | None, Parameter(name=["--dataset", "-d"])] = None,
    coding: Literal["autospine", "verse"] = "autospine",
    tolerance: float = 1.0,
    allow_missing: bool = False,
    workers: int | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Score predicted masks: Dice, HD95, ASSD and NSD per vertebra and per case.

    Files are matched by name; prediction and reference must lie on the same grid. A vertebra that was
    not predicted counts as Dice 0; means are over all (case, reference vertebra) pairs, with 95 %
    bootstrap intervals over patients.

    Args:
        prediction: Folder of predicted masks, or one mask.
        reference: Folder of reference masks, or one mask.
        output: JSON file to write the scores to.
        dataset: Data set folder whose dataset.json names the labels, the ignore label and the patients.
        coding: Meaning of the values without a data set: autospine (C1..L6 = 1..25, T13 = 26) or
            verse (T13 = 28, sacrum and coccyx not scored).
        tolerance: Distance in mm within which surfaces count as equal, for the NSD.
        allow_missing: Count a missing prediction as Dice 0 instead of stopping.
        workers: Processes; one per core by default.
        quiet: Say nothing.
        json: Print the scores as JSON instead of a table.
    """
    from autospine.cli.console import say, say_json
    from autospine.evaluation import report as reports
    from autospine.evaluation.scores import Coding
    from autospine.io import documents
    from autospine.io.parallel import cores
    from autospine.io.raw_dataset import load_dataset
    from autospine.reporting import Reporter

    meaning = Coding.verse() if coding == "verse" else Coding.consecutive()
    patients: dict[str, str] = {}
    if dataset is not None:
        loaded = load_dataset(dataset)
        meaning = Coding.of_schema(loaded.labels)
        patients = {case.identifier: case.group for case in loaded.training + loaded.test}
    report = reports.evaluate(
        prediction,
        reference,
        meaning,
        tolerance=tolerance,
        workers=workers or cores(),
        allow_missing=allow_missing,
        patients=patients,
        reporter=Reporter(quiet=quiet or json),
    )
    if output is not None:
        documents.save(output, report)
    if json:
        say_json(report)
    elif not quiet:
        say(report.table())
    return 0
