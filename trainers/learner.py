"""A network that is being trained, and everything that changes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from autospine import losses
from autospine.core.plan import Schedule
from autospine.core.run import FoldTask

from .checkpoint import Checkpoints, TrainingState
from .compiling import StepNetwork

Say = Callable[[str], None]


@dataclass
class Learner:
    """What changes during a training."""

    task: FoldTask
    device: torch.device
    precision: torch.dtype
    network: nn.Module
    step_network: StepNetwork
    optimiser: Optimizer
    scaler: torch.amp.GradScaler
    loss: losses.DeepSupervisionLoss
    state: TrainingState
    say: Say

    @property
    def schedule(self) -> Schedule:
        """The configuration's schedule."""
        return self.task.configuration.schedule

    @property
    def name(self) -> str:
        """For logs: configuration and fold."""
        return f"{self.task.configuration.name} fold {self.task.fold}"

    @property
    def checkpoints(self) -> Checkpoints:
        """Where its states are kept."""
        return Checkpoints(self.task.output / "checkpoint")

    def told(self, text: str) -> None:
        """Say something about this training."""
        self.say(f"{self.name} {text}")
