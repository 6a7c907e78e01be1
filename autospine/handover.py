"""What a stage learns from: what the stage before has predicted, out of fold.

::

    preprocessed/CONFIGURATION_previous/CASE.b2nd   class map of the previous stage on this stage's grid
                                        CASE.json   the vertebrae it has found, and a box around the spine

Each is there only where the configuration asks for it. A case's predictions come from the one fold that did
not train on it, so that a stage is trained on mistakes as large as those it will meet.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from autospine.core.errors import UsageError
from autospine.core.findings import Findings
from autospine.core.geometry import Box
from autospine.core.plan import Configuration, Plan
from autospine.core.run import RunFolder
from autospine.inference.locating import locate
from autospine.inference.prediction import Prediction
from autospine.inference.stages import handed_map
from autospine.io import documents
from autospine.io.files import make_folder, write_text
from autospine.io.store import save_array
from autospine.preprocessed import open_case
from autospine.preprocessing import resample_previous
from autospine.splits import Splits

#: What the files of a folder were made for; no case's name begins with a dot.
_NOTE: Final = ".made_for"


def store_findings(folder: RunFolder, plan: Plan, splits: Splits, configuration: Configuration) -> None:
    """Store where the previous stage has found vertebrae, for a configuration that looks only there.

    Findings younger than the prediction they were made from are kept.

    Raises:
        UsageError: The previous stage has not predicted all cases yet.
    """
    if configuration.view != "vertebrae" and configuration.crop != "spine":
        return
    previous = plan.configuration(configuration.previous_stage or "")
    _discard_if_changed(folder.previous(configuration), previous, configuration)
    for identifier, source in _predictions(folder, splits, configuration):
        path = findings_path(folder.previous(configuration), identifier)
        if not _is_younger(path, source):
            documents.save(path, locate(Prediction.load(source), previous, plan))


def store_class_maps(folder: RunFolder, plan: Plan, splits: Splits, configuration: Configuration) -> None:
    """Store each case's class map of the previous stage on the grid of ``configuration``, if it is fed so.

    Maps younger than the prediction they were made from are kept.

    Raises:
        UsageError: The previous stage has not predicted all cases yet.
    """
    if not configuration.fed:
        return
    data, target = folder.preprocessed(plan, configuration), folder.previous(configuration)
    previous = plan.configuration(configuration.previous_stage or "")
    _discard_if_changed(target, previous, configuration)
    for identifier, source in _predictions(folder, splits, configuration):
        path = target / f"{identifier}.b2nd"
        if not _is_younger(path, source):
            prediction = Prediction.load(source)
            trace = open_case(data, identifier).trace
            class_map = handed_map(prediction, configuration, plan)
            save_array(path, resample_previous(class_map, prediction.trace, trace))


def found_spines(folder: RunFolder, splits: Splits, configuration: Configuration) -> dict[str, Box | None]:
    """Where the previous stage has found the spine, by case."""
    previous = folder.previous(configuration)
    cases = [identifier for part in splits.folds for identifier in part.validation]
    return {case: documents.load(findings_path(previous, case), Findings).spine for case in cases}


def findings_path(previous: Path, identifier: str) -> Path:
    """Where a case's findings stand."""
    return previous / f"{identifier}.json"


def _discard_if_changed(target: Path, previous: Configuration, configuration: Configuration) -> None:
    """Delete what was handed over between other stages than these: a plan may have been edited since."""
    grid = configuration.axes, configuration.spacing, configuration.crop
    made_for = documents.content_hash(previous, configuration.view, configuration.feed, grid)
    note = target / _NOTE
    if note.is_file() and note.read_text(encoding="utf-8") == made_for:
        return
    shutil.rmtree(target, ignore_errors=True)
    make_folder(target)
    write_text(note, made_for)


def _predictions(
    folder: RunFolder, splits: Splits, configuration: Configuration
) -> Iterator[tuple[str, Path]]:
    """Each case and its out-of-fold prediction by the previous stage, without suffix."""
    assert configuration.previous_stage is not None
    for fold, part in enumerate(splits.folds):
        source = folder.validation(configuration.previous_stage, fold)
        for identifier in part.validation:
            # The mask is written after the logits, so its presence says that the prediction is complete.
            if not _mask(source / identifier).is_file():
                raise UsageError(
                    f"{configuration.name} needs the out-of-fold prediction of "
                    f"{configuration.previous_stage} for the case {identifier}.",
                    where=source,
                    remedy=f"Train all folds of {configuration.previous_stage} first.",
                )
            yield identifier, source / identifier


def _is_younger(path: Path, prediction: Path) -> bool:
    return path.is_file() and path.stat().st_mtime >= _mask(prediction).stat().st_mtime


def _mask(prediction: Path) -> Path:
    return prediction.with_name(f"{prediction.name}.nii.gz")
