"""``autospine preprocess``: the training cases as a planned run's networks will see them."""

from __future__ import annotations

from pathlib import Path


def preprocess(
    run: Path,
    *,
    dataset: Path | None = None,
    workers: int | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Crop, normalise and resample all training cases for every configuration of a plan.

    Cases that are done are kept; a case is done again when its files or the plan's settings change.

    Args:
        run: Run folder with plan.json.
        dataset: Folder of the data set; the one the run began with by default.
        workers: Processes, each with one case in memory; one per core by default.
        quiet: Say nothing.
        json: Print the folders as JSON.
    """
    from autospine import pipeline
    from autospine.cli.console import say, say_json
    from autospine.core.plan import Plan
    from autospine.io import documents
    from autospine.reporting import Reporter

    plan = documents.load(run / "plan.json", Plan)
    opened = pipeline.Run.open(run, Reporter(quiet=quiet), dataset, workers=workers)
    with opened.journal.step("preprocess"):
        pipeline.preprocess(opened, plan)
    folders = {c.name: str(opened.folder.preprocessed(plan, c)) for c in plan.configurations}
    if json:
        say_json({"cases": len(opened.dataset.training), "folders": folders})
    elif not quiet:
        say("\n".join(f"{name}: {folder}" for name, folder in folders.items()))
    return 0
