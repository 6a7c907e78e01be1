"""``autospine submit``: predictions in the form a challenge wants them, and a check of that form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from autospine.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from autospine.submission.checking import CheckReport
    from autospine.submission.writing import SubmissionReport


def submit(
    challenge: Literal["verse19", "verse20", "xvertseg"],
    /,
    *,
    predictions: Annotated[Path | None, Parameter(name=["--predictions", "-p"])] = None,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    scans: Annotated[Path | None, Parameter(name=["--scans", "-i"])] = None,
    team: str = "",
    check: Path | None = None,
    allow_missing: Annotated[bool, Parameter(negative=())] = False,
    force: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Arrange predictions as a challenge wants them, or check a folder that is so arranged.

    Masks get the challenge's codes and names and come back on its scans' own grids; body centres are
    written in its frame. A second run writes only what is missing. With --check nothing is written, and
    everything that is wrong with the folder is listed; the exit code is then 3.

    Args:
        challenge: verse19, verse20 or xvertseg.
        predictions: Folder of masks, as autospine predict leaves it.
        output: Where the challenge's folder (results, results_TEAM, Results2) is made.
        scans: Folder of the challenge's own scans: names, folders and grids come from there. Without it,
            they are those of the predictions.
        team: Name of the team; part of VerSe'20's folder.
        check: Check this folder instead of writing one.
        allow_missing: Submit although scans have no prediction.
        force: Replace files that hold something else.
        quiet: Say nothing.
        json: Print the report as JSON.
    """
    from autospine.cli.console import say, say_json
    from autospine.reporting import Reporter
    from autospine.submission.challenges import CHALLENGES

    rules, reporter = CHALLENGES[challenge], Reporter(quiet=quiet or json)
    if check is not None:
        from autospine.submission.checking import check_submission

        if predictions or output:
            raise UsageError("--check writes nothing.", remedy="Leave out --predictions and --output.")
        checked = check_submission(rules, check, reporter, team=team, scans=scans)
        lines, code = _check_lines(checked), DataError.exit_code if checked.problems else 0
    else:
        from autospine.submission.writing import SubmissionOptions, write_submission

        if predictions is None or output is None:
            raise UsageError("--predictions and --output are missing.", remedy="Give both, or --check.")
        options = SubmissionOptions(team, scans, allow_missing, force)
        written = write_submission(rules, predictions, output, options, reporter)
        lines, code = _written_lines(written), 0
    if json:
        say_json(checked if check is not None else written)
    for line in () if json or quiet else lines:
        say(line)
    return code


def _check_lines(report: CheckReport) -> list[str]:
    lines = [
        f"{finding.file}: {finding.message}" if finding.file else finding.message
        for finding in report.problems
    ]
    remarks = [finding for finding in report.findings if not finding.problem]
    lines += [f"Remark: {finding.file}: {finding.message}" for finding in remarks]
    count = len(report.problems)
    verdict = f"{count} problem{'s' if count > 1 else ''}" if count else "nothing wrong"
    return [*lines, f"{report.folder}: {report.scans} scans for {report.challenge}, {verdict}."]


def _written_lines(report: SubmissionReport) -> list[str]:
    kept = sum(scan.kept for scan in report.scans)
    lines = [f"{scan.name}: {remark}" for scan in report.scans for remark in scan.remarks]
    return [
        *lines,
        *report.remarks,
        f"{report.folder}: {len(report.scans)} scans for {report.challenge}, {kept} of them there already.",
    ]
