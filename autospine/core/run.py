"""The run folder: where every file of a run stands, and what one fold's training needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autospine.core.plan import Configuration, Plan


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run; also of a model folder, which is a run without its training data.

    Args:
        root: The folder itself.
    """

    root: Path

    @property
    def record(self) -> Path:
        """Command lines, versions and timings."""
        return self.root / "run.json"

    @property
    def fingerprint(self) -> Path:
        """The data set's fingerprint."""
        return self.root / "fingerprint.json"

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.root / "plan.json"

    @property
    def splits(self) -> Path:
        """The folds."""
        return self.root / "splits.json"

    @property
    def ensemble(self) -> Path:
        """The chosen combination."""
        return self.root / "ensemble.json"

    @property
    def leaderboard(self) -> Path:
        """Scores of all combinations."""
        return self.root / "leaderboard.csv"

    def preprocessed(self, plan: Plan, configuration: Configuration) -> Path:
        """Folder of the preprocessed cases; configurations that preprocess alike share one."""
        return self.root / "preprocessed" / preprocessing_source(plan, configuration).name

    def previous(self, configuration: Configuration) -> Path:
        """Folder of what this configuration takes over from the out-of-fold predictions of the one before."""
        return self.root / "preprocessed" / f"{configuration.name}_previous"

    def model(self, configuration: str, fold: int) -> Path:
        """Folder of one trained fold."""
        return self.root / "models" / configuration / f"fold_{fold}"

    def weights(self, configuration: str, fold: int) -> Path:
        """Final weights of one fold; they exist when its training is complete."""
        return self.model(configuration, fold) / "model.safetensors"

    def validation(self, configuration: str, fold: int) -> Path:
        """Folder of one fold's out-of-fold predictions."""
        return self.model(configuration, fold) / "validation"

    def trained_folds(self, configuration: str) -> tuple[int, ...]:
        """Folds of a configuration whose training is complete, ascending."""
        folder = self.root / "models" / configuration
        names = [path.parent.name for path in folder.glob("fold_*/model.safetensors")]
        return tuple(sorted(int(name.removeprefix("fold_")) for name in names))


@dataclass(frozen=True)
class FoldTask:
    """One fold of one configuration to train.

    Args:
        plan: The plan.
        configuration: One of the plan's.
        fold: Number of the fold.
        training: Identifiers of the cases to train on.
        validation: Identifiers of the cases to predict at the end, never trained on.
        data: Folder of the preprocessed cases.
        previous: Folder of what the previous stage hands over, where there is one.
        output: Folder of this fold's files.
        device: ``"cpu"`` or ``"cuda"``, optionally with an index.
        deadline: Time (``time.time()``) at which the training, validation included, is to be done with the
            learning rate decayed to its end; None trains the schedule's epochs, however long they take.
        validation_seconds: What of that time the prediction of the validation cases is expected to take.
    """

    plan: Plan
    configuration: Configuration
    fold: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    data: Path
    previous: Path | None
    output: Path
    device: str
    deadline: float | None = None
    validation_seconds: float = 0.0


def preprocessing_source(plan: Plan, configuration: Configuration) -> Configuration:
    """The first configuration of the plan that preprocesses exactly like ``configuration``."""
    return next(c for c in plan.configurations if _preprocessing(c) == _preprocessing(configuration))


def _preprocessing(c: Configuration) -> tuple[object, ...]:
    # What is cropped to the spine depends on who found it.
    finder = c.previous_stage if c.crop == "spine" else None
    return c.axes, c.spacing, c.crop, finder, c.normalisation, c.image_order, c.separate_axis_ratio
