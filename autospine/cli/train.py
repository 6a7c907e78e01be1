"""``autospine train``: folds of one configuration of a planned run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    run: Path,
    configuration: str,
    *,
    folds: Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative=())] = (),
    split: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> int:
    """Train folds of a configuration of a run that is planned and preprocessed; goes on where it stopped.

    Args:
        run: The run folder.
        configuration: One of the plan's, e.g. 3d_fullres.
        folds: Folds to train, e.g. 0 1; all by default.
        split: Number of folds of the cross-validation, when no call has decided on it yet; 5 by default.
        device: auto, cpu, cuda or cuda:1.
        quiet: Say nothing.
    """
    from autospine import pipeline
    from autospine.core.fingerprint import Fingerprint
    from autospine.core.plan import Plan
    from autospine.hardware import choose_device
    from autospine.io import documents
    from autospine.reporting import Reporter

    opened = pipeline.Run.open(run, Reporter(quiet=quiet))
    plan = documents.load(opened.folder.plan, Plan)
    chosen = plan.configuration(configuration)
    splits = pipeline.split(opened, documents.load(opened.folder.fingerprint, Fingerprint), split)
    every = range(len(splits.folds))
    pipeline.train(opened, plan, splits, [chosen], folds or every, choose_device(device))
    return 0
