"""Trainings side by side: on a GPU one after the other, on a CPU as many as use its cores best.

Two networks with one thread each learn faster on two cores than one network with two threads: small
convolutions spend much of their time waiting for the slower thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autospine.core.run import FoldTask
from autospine.io.parallel import parallel_map
from autospine.registry import find
from autospine.reporting import Reporter


@dataclass(frozen=True)
class Sharing:
    """How trainings share the cores of a CPU.

    Args:
        jobs: Trainings at a time.
        threads: Of each; None leaves it to torch.
    """

    jobs: int = 1
    threads: int | None = None

    @classmethod
    def of(cls, device: str, cores: int, folds: int) -> Sharing:
        """The same for every part of a run, for a network's weights depend on the number of threads."""
        if not device.startswith("cpu"):
            return cls()
        threads = max(1, cores // folds)
        return cls(max(1, cores // threads), threads)


def run_trainings(tasks: Sequence[FoldTask], sharing: Sharing, reporter: Reporter) -> None:
    """Train folds that do not depend on each other; finished ones are left alone.

    Raises:
        TrainingError: A training cannot go on.
        StorageError: The disk refuses.
    """
    if sharing.jobs == 1 or len(tasks) == 1:
        for task in tasks:
            _train_with_bar(task, sharing.threads, reporter)
        return
    jobs = [_Job(task, sharing.threads, reporter) for task in tasks]
    for _ in parallel_map(_train, jobs, sharing.jobs):
        pass


@dataclass(frozen=True)
class _Job:
    task: FoldTask
    threads: int | None
    reporter: Reporter


def _train(job: _Job) -> None:
    _set_threads(job.threads)
    find("trainers", job.task.configuration.trainer)(job.task, None, job.reporter.say)


def _train_with_bar(task: FoldTask, threads: int | None, reporter: Reporter) -> None:
    _set_threads(threads)
    schedule, name = task.configuration.schedule, task.configuration.name
    # By the clock nobody knows how many steps there will be.
    steps = schedule.epochs * schedule.steps if task.deadline is None else 0
    with reporter.bar(steps, f"{name} fold {task.fold}") as advance:
        find("trainers", task.configuration.trainer)(task, advance, reporter.say)


def _set_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
