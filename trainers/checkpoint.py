"""A training's state in one file: weights, optimiser and history as safetensors with a JSON header.

Each is written atomically and carries its checksum, and the one before it is kept: whatever happens to the
last one, no more than one epoch more is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autospine.core.errors import DocumentError, UsageError
from autospine.io.documents import from_json, to_json
from autospine.io.files import storage_errors
from autospine.weights import load_tensors, save_tensors, set_weights

from .optimisation import fill_momentum

_MODEL = "model."
_OPTIMISER = "optimiser."


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch did.

    Args:
        epoch: Counted from 0.
        learning_rate: At its end.
        training_loss: Mean over the training steps.
        validation_loss: Mean over the validation steps; None when there are none or none is finite.
        dice: Mean over the classes of the Dice pooled over the validation patches.
        smoothed_dice: Exponential moving average of ``dice`` (weights 0.9 and 0.1).
        skipped_steps: Steps whose gradients were not finite and were not applied.
        seconds: Duration.
        waiting: Seconds of them in which the training waited for batches.
        steps: Training steps done.
        progress: Share of the whole training that is done with this epoch.
    """

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float | None
    dice: float
    smoothed_dice: float
    skipped_steps: int
    seconds: float
    waiting: float = 0.0
    steps: int = 0
    progress: float = 0.0


@dataclass(frozen=True)
class TrainingState:
    """Everything but tensors that a resumed training needs.

    Args:
        task: Hash of what is trained on what; a checkpoint resumes only its own task.
        history: The finished epochs.
        scaler: State of the loss scaling, empty without.
        rate_factor: What the schedule's learning rate is multiplied by, after the loss was not finite.
        setbacks: How often that happened since the last finished epoch.
        begun: Whether what comes before the first epoch has been done.
    """

    task: str
    history: tuple[EpochRecord, ...] = ()
    scaler: Mapping[str, int | float] = field(default_factory=dict)
    rate_factor: float = 1.0
    setbacks: int = 0
    begun: bool = False

    @property
    def progress(self) -> float:
        """Share of the whole training that is done."""
        return self.history[-1].progress if self.history else 0.0

    @property
    def next_epoch(self) -> int:
        """Number of the first epoch that is not finished."""
        return len(self.history)


def require_task(found: str, wanted: str, path: Path) -> None:
    """Refuse what was trained for another plan, split or schedule.

    Raises:
        UsageError: The tasks differ.
    """
    if found != wanted:
        raise UsageError(
            "This was trained for another plan, split or schedule.",
            where=path,
            remedy="Choose another run folder, or --force to train anew.",
        )


@dataclass(frozen=True)
class Checkpoints:
    """The last state of a training and the one before it.

    Args:
        folder: Where they stand.
    """

    folder: Path

    @property
    def latest(self) -> Path:
        """The last one."""
        return self.folder / "latest.safetensors"

    @property
    def previous(self) -> Path:
        """The one before."""
        return self.folder / "previous.safetensors"

    def save(self, network: nn.Module, optimiser: Optimizer, state: TrainingState) -> None:
        """Write the state after an epoch; the last one becomes the one before.

        Raises:
            StorageError: The disk refuses; then the last one is still there.
        """
        written = self.folder / "next.safetensors"
        save_checkpoint(written, network, optimiser, state)
        with storage_errors(self.latest):
            if self.latest.is_file():
                self.latest.replace(self.previous)
            written.replace(self.latest)

    def load(
        self, network: nn.Module, optimiser: Optimizer, task: str, say: Callable[[str], None]
    ) -> TrainingState | None:
        """Restore network and optimiser in place from the last state that is whole.

        Args:
            network: Of the task.
            optimiser: Of the network.
            task: Hash of the task.
            say: Called with one line about a state that is damaged.

        Returns:
            The state; None when there is none that is whole.

        Raises:
            UsageError: They belong to another task.
        """
        for path in (self.latest, self.previous):
            if path.is_file():
                try:
                    return load_checkpoint(path, network, optimiser, task)
                except DocumentError as error:
                    say(f"goes back by one epoch or to its beginning: {error.message} ({path})")
        return None


def save_checkpoint(path: Path, network: nn.Module, optimiser: Optimizer, state: TrainingState) -> None:
    """Write the state after an epoch, atomically.

    Raises:
        StorageError: The disk refuses.
    """
    tensors = {_MODEL + name: value for name, value in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        for key, value in values.items():
            if value is not None:
                tensors[f"{_OPTIMISER}{index}.{key}"] = torch.as_tensor(value)
    save_tensors(path, tensors, {"state": to_json(state)})


def load_checkpoint(path: Path, network: nn.Module, optimiser: Optimizer, task: str) -> TrainingState:
    """Restore network and optimiser in place.

    Raises:
        DocumentError: The file is damaged.
        UsageError: It belongs to another task.
    """
    tensors, header = load_tensors(path)
    state = from_json(TrainingState, header.get("state", ""), path)
    require_task(state.task, task, path)
    weights = {k.removeprefix(_MODEL): v for k, v in tensors.items() if k.startswith(_MODEL)}
    set_weights(network, weights, path)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_OPTIMISER):
            index, key = name.removeprefix(_OPTIMISER).split(".", 1)
            moments.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
    fill_momentum(optimiser)
    return state
