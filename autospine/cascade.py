"""What a cascade learns from: the previous stage's out-of-fold predictions on the next stage's grid."""

from __future__ import annotations

from pathlib import Path

from autospine.core.errors import UsageError
from autospine.core.plan import Configuration, Plan
from autospine.core.run import RunFolder
from autospine.inference.prediction import Prediction
from autospine.io.store import save_array
from autospine.preprocessed import open_case
from autospine.preprocessing import resample_previous
from autospine.splits import Splits


def prepare_previous_stage(
    folder: RunFolder, plan: Plan, splits: Splits, configuration: Configuration
) -> None:
    """Store each case's class map of the previous stage on the grid of ``configuration``.

    A case's class map comes from the one fold that did not train on it, so that a cascade is trained on
    mistakes as large as those it will meet. Maps younger than their prediction are kept.

    Raises:
        UsageError: The previous stage has not predicted all cases yet.
    """
    assert configuration.previous_stage is not None
    data, target = folder.preprocessed(plan, configuration), folder.previous(configuration)
    for fold, part in enumerate(splits.folds):
        source = folder.validation(configuration.previous_stage, fold)
        for identifier in part.validation:
            path = target / f"{identifier}.b2nd"
            _require_predicted(source, identifier, configuration)
            if path.is_file() and path.stat().st_mtime >= (source / f"{identifier}.nii.gz").stat().st_mtime:
                continue
            prediction = Prediction.load(source / identifier)
            trace = open_case(data, identifier).trace
            save_array(path, resample_previous(prediction.class_map(), prediction.trace, trace))


def _require_predicted(source: Path, identifier: str, configuration: Configuration) -> None:
    # The mask is written after the logits, so its presence says that the prediction is complete.
    if not (source / f"{identifier}.nii.gz").is_file():
        raise UsageError(
            f"{configuration.name} needs the out-of-fold prediction of {configuration.previous_stage} "
            f"for the case {identifier}.",
            where=source,
            remedy=f"Train all folds of {configuration.previous_stage} first.",
        )
