"""A training's state in one file: weights, optimiser and history as safetensors with a JSON header.

One file, written atomically, so that it is either the last epoch's state or the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autospine.core.errors import UsageError
from autospine.io.documents import from_json, to_json
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


@dataclass(frozen=True)
class TrainingState:
    """Everything but tensors that a resumed training needs.

    Args:
        task: Hash of what is trained on what; a checkpoint resumes only its own task.
        history: The finished epochs.
        scaler: State of the loss scaling, empty without.
    """

    task: str
    history: tuple[EpochRecord, ...] = ()
    scaler: Mapping[str, int | float] = field(default_factory=dict)

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
