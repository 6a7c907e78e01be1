"""``autospine fingerprint``: look at every training case of a data set once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def fingerprint(
    dataset: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    workers: int | None = None,
    force: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Measure shapes, spacings, intensities and labels of all training cases; writes fingerprint.json.

    Args:
        dataset: Folder of a converted (or any nnU-Net v2 raw) data set.
        output: Run folder to write fingerprint.json to.
        workers: Processes, each with one case in memory; one per core by default.
        force: Replace a fingerprint of other data.
        quiet: Say nothing but the result.
        json: Print the fingerprint as JSON.
    """
    from autospine.cli.console import say, say_json
    from autospine.pipeline import Run, make_fingerprint
    from autospine.reporting import Reporter

    run = Run.open(output, Reporter(quiet=quiet), dataset, workers=workers, force=force)
    made = make_fingerprint(run)
    if json:
        say_json(made)
    elif not quiet:
        counts = made.level_counts
        levels = ", ".join(f"{made.labels.names[value]} {count}" for value, count in counts.items())
        say(f"{len(made.cases)} cases; scans that show each label: {levels}")
        say(f"Plan: autospine plan {output}")
    return 0
