"""How far a training has come: by its steps, or by the clock where it has so much time and no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from autospine.core.plan import Schedule
from autospine.core.run import FoldTask

from .checkpoint import EpochRecord


class Pace(Protocol):
    """What the learning rate, and all that changes in the course of a training, go by."""

    def progress(self, step: int) -> float:
        """Share of the training, 0 to 1, that is done when as many steps are."""

    def seconds_left(self, history: Sequence[EpochRecord]) -> float:
        """Seconds to the end, after these epochs of the present process."""

    def counted(self, epoch: int) -> str:
        """An epoch, from 0, in words."""


@dataclass(frozen=True)
class EpochPace:
    """As many steps as the schedule wants, however long they take."""

    schedule: Schedule

    def progress(self, step: int) -> float:
        """Finished steps among all."""
        return min(1.0, step / (self.schedule.epochs * self.schedule.steps))

    def seconds_left(self, history: Sequence[EpochRecord]) -> float:
        """The epochs that are left, at the mean duration of these."""
        mean = sum(record.seconds for record in history) / len(history)
        return mean * (self.schedule.epochs - history[-1].epoch - 1)

    def counted(self, epoch: int) -> str:
        """``"3/1000"``."""
        return f"{epoch + 1}/{self.schedule.epochs}"


@dataclass(frozen=True)
class ClockPace:
    """As many steps as fit into a time, whatever the machine does meanwhile.

    Args:
        begun: When this process began, in seconds of ``clock``.
        end: When the training is to be over.
        first: Progress with which it began: more than 0 after an interruption.
        clock: Tells the time.
    """

    begun: float
    end: float
    first: float = 0.0
    clock: Callable[[], float] = time.time

    def progress(self, step: int) -> float:
        """The time that is gone among all; what is left of the progress is spread over what is left of it."""
        if self.end <= self.begun:
            return 1.0
        gone = (self.clock() - self.begun) / (self.end - self.begun)
        return self.first + (1 - self.first) * min(max(gone, 0.0), 1.0)

    def seconds_left(self, history: Sequence[EpochRecord]) -> float:
        """Until the end."""
        return max(0.0, self.end - self.clock())

    def counted(self, epoch: int) -> str:
        """``"3 (42 %)"``: how many there will be nobody knows."""
        return f"{epoch + 1} ({self.progress(0):.0%})"


def pace_of(task: FoldTask, progress: float) -> Pace:
    """The clock's where a task has a deadline, else the schedule's.

    Args:
        task: The task.
        progress: How far its training has come.
    """
    if task.deadline is None:
        return EpochPace(task.configuration.schedule)
    return ClockPace(time.time(), task.deadline - task.validation_seconds, progress)
