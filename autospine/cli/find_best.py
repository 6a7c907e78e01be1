"""``autospine find-best``: choose the best ensemble of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def find_best(
    run: Path,
    *,
    dataset: Annotated[Path | None, Parameter(name=["--dataset", "-d"])] = None,
    largest: int | None = None,
    tolerance: float = 0.001,
    workers: int | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Score all combinations of the trained configurations; choose the best and its post-processing.

    What is compared are the out-of-fold predictions, by the mean Dice over all (case, reference vertebra)
    pairs with a 95 % bootstrap interval over patients. Writes ensemble.json, which autospine predict uses,
    and leaderboard.csv into the run folder. Stopped, it goes on where it was.

    Args:
        run: Run folder.
        dataset: Data set folder; by default the one the run was trained on.
        largest: Most configurations a combination may have; no limit by default.
        tolerance: Difference in mean Dice up to which the simpler combination is preferred.
        workers: Processes; one per core by default. Each holds the predictions of one case.
        quiet: Say nothing.
        json: Print the chosen ensemble as JSON.
    """
    from autospine.cli.console import say, say_json
    from autospine.core.plan import Plan
    from autospine.core.run import RunFolder
    from autospine.ensembling import choose_ensemble
    from autospine.io import documents
    from autospine.io.parallel import cores
    from autospine.io.raw_dataset import load_dataset
    from autospine.record import recorded_dataset
    from autospine.reporting import Reporter

    folder = RunFolder(run)
    choice = choose_ensemble(
        folder,
        load_dataset(dataset or recorded_dataset(folder.record)),
        documents.load(folder.plan, Plan),
        largest=largest,
        tolerance=tolerance,
        workers=workers or cores(),
        reporter=Reporter(quiet=quiet or json),
    )
    if json:
        say_json(choice.ensemble)
    elif not quiet:
        say(choice.table())
    return 0
