"""Data set in, ensemble out: resumable steps over a run folder.

Every step looks for its finished result first, does only what is missing, and writes whole files or
nothing; the same call therefore goes on wherever an earlier one was stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autospine.core.cost import cost_table
from autospine.core.dataset import Dataset
from autospine.core.errors import DataError, UsageError
from autospine.core.fingerprint import Fingerprint
from autospine.core.geometry import Box
from autospine.core.plan import Budget, Configuration, Plan
from autospine.core.run import FoldTask, RunFolder
from autospine.ensembling import Choice, choose_ensemble
from autospine.fingerprinting import fingerprint_dataset
from autospine.handover import found_spines, store_class_maps, store_findings
from autospine.io import documents
from autospine.io.files import make_folder, remove_partial
from autospine.io.parallel import cores
from autospine.io.raw_dataset import load_dataset
from autospine.networks.measuring import size_of
from autospine.planning import PlanOptions, plan_for
from autospine.preprocessing import preprocess_dataset
from autospine.record import Journal, recorded_dataset
from autospine.reporting import Reporter
from autospine.splits import Splits, make_splits
from autospine.training import Sharing, run_trainings


@dataclass(frozen=True)
class Run:
    """A run folder and the data set it works on.

    Args:
        folder: The run folder.
        dataset: The data set.
        journal: Keeps the run's record.
        reporter: Where progress is told.
        workers: Processes for work on whole cases; None takes one per core.
        force: Replace results that other inputs have made.
    """

    folder: RunFolder
    dataset: Dataset
    journal: Journal
    reporter: Reporter
    workers: int | None = None
    force: bool = False

    @classmethod
    def open(
        cls,
        root: Path,
        reporter: Reporter,
        dataset: Path | None = None,
        *,
        workers: int | None = None,
        force: bool = False,
    ) -> Run:
        """Read the data set's description and clean up what a killed process left in the run folder.

        Args:
            root: The run folder; made if need be.
            reporter: Where progress is told.
            dataset: The data set's folder; None takes the one the run began with.
            workers: Processes for work on whole cases; None takes one per core.
            force: Replace results that other inputs have made.

        Raises:
            DocumentError: No data set is given and the run folder knows none.
            DataError: The folder holds no data set.
        """
        folder = RunFolder(root)
        source = dataset or recorded_dataset(folder.record)
        loaded = load_dataset(source)
        make_folder(root)
        remove_partial(root)
        return cls(folder, loaded, Journal.begin(folder.record, source), reporter, workers, force)

    @property
    def processes(self) -> int:
        """Worker processes."""
        return self.workers or cores()


@dataclass(frozen=True)
class TrainingOptions:
    """What the user decides about the training.

    Args:
        device: ``"cpu"``, ``"cuda"``, …
        folds: Folds to train; empty trains all.
        split: Number of folds of the cross-validation.
        use_plan: Take the plan in the run folder as it stands.
    """

    device: str
    folds: tuple[int, ...] = ()
    split: int = 5
    use_plan: bool = False


def plan_and_train(run: Run, planning: PlanOptions, training: TrainingOptions) -> Choice | None:
    """All steps from the data set to the chosen ensemble.

    Returns:
        The choice; None when only some folds were trained and so nothing can be chosen yet.

    Raises:
        AutospineError: A step cannot go on; what is finished is kept.
    """
    with run.journal.step("fingerprint"):
        fingerprint = make_fingerprint(run)
    plan = _known_plan(run) if training.use_plan else make_plan(run, fingerprint, planning)
    splits = split(run, fingerprint, training.split)
    run.reporter.say(cost_table(plan, fingerprint, len(training.folds) or training.split, size_of))
    with run.journal.step("preprocess"):
        preprocess(run, plan)
    train(run, plan, splits, plan.configurations, training.folds or range(training.split), training.device)
    if training.folds and len(set(training.folds)) < training.split:
        return None
    with run.journal.step("find best"):
        return find_best(run, plan)


def make_fingerprint(run: Run) -> Fingerprint:
    """The data set's fingerprint: read when it is there and the data have not changed, else computed.

    Raises:
        UsageError: The run folder holds the fingerprint of other data.
        DataError: A case cannot be used.
    """
    content = _dataset_content(run.dataset)
    path = run.folder.fingerprint
    if path.is_file() and not run.force:
        known = documents.load(path, Fingerprint)
        if known.content == content:
            return known
        raise UsageError(
            "The data set is not the one this run began with.",
            where=path,
            remedy="Use another run folder, or --force to compute everything anew.",
        )
    with run.reporter.bar(len(run.dataset.training), "fingerprint") as advance:
        made = fingerprint_dataset(run.dataset, workers=run.processes, on_case=advance)
    result = replace(made, content=content)
    documents.save(path, result)
    return result


def make_plan(run: Run, fingerprint: Fingerprint, options: PlanOptions) -> Plan:
    """Plan, or find the same plan again in the run folder.

    Raises:
        UsageError: The run folder holds another plan, or a configuration is asked for that does not exist.
    """
    plan = plan_for(fingerprint, options)
    path = run.folder.plan
    if path.is_file() and not run.force:
        known = documents.load(path, Plan)
        if _decisions(known) == _decisions(plan):
            return known
        raise UsageError(
            "This run was planned with other options.",
            where=path,
            remedy="Repeat the options it was started with, use another run folder, "
            "or go on with the plan as it stands by --use-plan.",
        )
    if run.force:
        _discard_results(run.folder)
    documents.save(path, plan)
    return plan


def split(run: Run, fingerprint: Fingerprint, folds: int | None = None) -> Splits:
    """The folds: read when they are there, else made; five where their number does not matter.

    Raises:
        UsageError: There are fewer patients than folds, or the run folder holds other folds.
    """
    path = run.folder.splits
    if path.is_file() and not run.force:
        known = documents.load(path, Splits)
        cases = {case.identifier for case in run.dataset.training}
        same_cases = {c for fold in known.folds for c in fold.validation} == cases
        if not same_cases or folds not in (None, len(known.folds)):
            raise UsageError(
                "The folds in this run folder are of other cases or of another number.",
                where=path,
                remedy="Use another run folder, or --force to begin anew.",
            )
        return known
    levels = {case.identifier: case.levels for case in fingerprint.cases}
    result = make_splits(run.dataset.training, levels, folds or 5)
    documents.save(path, result)
    return result


def preprocess(run: Run, plan: Plan) -> None:
    """Preprocess the training cases for every configuration; what is done already is kept.

    Raises:
        DocumentError: The run has no fingerprint.
        DataError: A case cannot be used.
        StorageError: The disk refuses.
    """
    dataset = _with_centres(run)
    done: set[Path] = set()
    for configuration in plan.configurations:
        folder = run.folder.preprocessed(plan, configuration)
        # What is cropped to the spine waits for the stage that finds it.
        if folder in done or configuration.crop == "spine":
            continue
        done.add(folder)
        _preprocess(run, dataset, plan, configuration, None)


def _preprocess(
    run: Run,
    dataset: Dataset,
    plan: Plan,
    configuration: Configuration,
    spines: Mapping[str, Box | None] | None,
) -> None:
    folder = run.folder.preprocessed(plan, configuration)
    with run.reporter.bar(len(run.dataset.training), f"preprocess {folder.name}") as advance:
        preprocess_dataset(dataset, plan, configuration, folder, run.processes, advance, spines)


def fold_task(
    run: Run, plan: Plan, splits: Splits, configuration: Configuration, fold: int, device: str
) -> FoldTask:
    """What the trainer needs to know about one fold.

    Raises:
        UsageError: There is no such fold.
    """
    if not 0 <= fold < len(splits.folds):
        raise UsageError(f"There is no fold {fold}.", remedy=f"Choose from 0 to {len(splits.folds) - 1}.")
    return FoldTask(
        plan=plan,
        configuration=configuration,
        fold=fold,
        training=splits.folds[fold].training,
        validation=splits.folds[fold].validation,
        data=run.folder.preprocessed(plan, configuration),
        previous=run.folder.previous(configuration) if configuration.previous_stage else None,
        output=run.folder.model(configuration.name, fold),
        device=device,
    )


def train(
    run: Run,
    plan: Plan,
    splits: Splits,
    configurations: Sequence[Configuration],
    folds: Sequence[int],
    device: str,
) -> None:
    """Train folds and predict their validation cases; a stage waits for the one before.

    Raises:
        UsageError: A previous stage has not been trained in all folds.
        TrainingError: A training cannot go on.
    """
    sharing = Sharing.of(device, cores(), len(splits.folds))
    for wave in _waves(plan, configurations):
        for configuration in wave:
            if configuration.previous_stage:
                hand_over(run, plan, splits, configuration)
        tasks = [fold_task(run, plan, splits, c, fold, device) for c in wave for fold in folds]
        with run.journal.step(f"train {' '.join(c.name for c in wave)}"):
            run_trainings(tasks, sharing, run.reporter)


def hand_over(run: Run, plan: Plan, splits: Splits, configuration: Configuration) -> None:
    """Prepare what a configuration takes over from its previous stage, and what could not be done before.

    Raises:
        UsageError: The previous stage has not predicted all cases yet.
        DataError: A case cannot be used.
    """
    store_findings(run.folder, plan, splits, configuration)
    if configuration.crop == "spine":
        spines = found_spines(run.folder, splits, configuration)
        _preprocess(run, _with_centres(run), plan, configuration, spines)
    store_class_maps(run.folder, plan, splits, configuration)


def find_best(run: Run, plan: Plan) -> Choice:
    """Choose the best combination of what has been trained.

    Raises:
        UsageError: No configuration has been trained in a fold that others have been trained in.
    """
    return choose_ensemble(run.folder, run.dataset, plan, workers=run.processes, reporter=run.reporter)


def _waves(plan: Plan, configurations: Sequence[Configuration]) -> list[list[Configuration]]:
    """The configurations by how many stages come before them."""
    waves: dict[int, list[Configuration]] = {}
    for configuration in configurations:
        depth, stage = 0, configuration.previous_stage
        while stage is not None:
            depth, stage = depth + 1, plan.configuration(stage).previous_stage
        waves.setdefault(depth, []).append(configuration)
    return [waves[depth] for depth in sorted(waves)]


def _with_centres(run: Run) -> Dataset:
    """The data set, its cases with the bodies' centres of the fingerprint."""
    fingerprint = documents.load(run.folder.fingerprint, Fingerprint)
    return run.dataset.with_centroids({case.identifier: case.centres for case in fingerprint.cases})


def _decisions(plan: Plan) -> str:
    """A plan without what was there to spend and the reasons: these may differ, as on another machine."""
    return documents.to_json(replace(plan, budget=Budget(), reasons=()))


def _discard_results(folder: RunFolder) -> None:
    """Delete what was trained for an earlier plan."""
    for name in ("models", "ensembling", "preprocessed"):
        shutil.rmtree(folder.root / name, ignore_errors=True)
    for path in (folder.ensemble, folder.leaderboard):
        path.unlink(missing_ok=True)


def _known_plan(run: Run) -> Plan:
    return documents.load(run.folder.plan, Plan)


def _dataset_content(dataset: Dataset) -> str:
    """Hash of cases, file sizes, patients, centres and labels; copying a data set does not change it."""
    files = {
        case.identifier: tuple(_size(path) for path in (case.image, case.label) if path is not None)
        for case in dataset.training
    }
    facts = {case.identifier: (case.group, case.centroids) for case in dataset.training}
    return documents.content_hash(files, facts, dataset.labels, dataset.channels)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError("This file cannot be read.", where=path, remedy="Check the data set.") from error
