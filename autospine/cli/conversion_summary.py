"""What the conversion commands say at the end, and their exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autospine.cli.console import say, say_json
from autospine.core.errors import DataError

if TYPE_CHECKING:
    from autospine.io.conversion import ConversionReport


def conclude(report: ConversionReport, output: Path, *, skip_broken: bool, as_json: bool, quiet: bool) -> int:
    """Print a conversion's outcome.

    Returns:
        0, or 3 when cases were left out and that was not allowed, or none is left.
    """
    if as_json:
        say_json(report)
    elif not quiet:
        for line in summary(report, output):
            say(line)
    rejected = (report.broken and not skip_broken) or not report.cases
    return DataError.exit_code if rejected else 0


def summary(report: ConversionReport, output: Path) -> list[str]:
    """The outcome in a few lines; everything stands in ``conversion_report.json``."""
    lines = [
        f"{output}: {len(report.training)} training and {len(report.test)} test cases, "
        f"{report.reused} of them up to date already."
    ]
    lines += [f"Left out: {case.case}: {case.reason} {case.remedy} [{case.file}]" for case in report.broken]
    lines += [f"Warning: {warning}" for warning in report.warnings]
    if report.notes:
        lines.append(f"Cases with remarks in conversion_report.json: {len(report.notes)}.")
    return lines
