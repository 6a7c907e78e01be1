"""The same function over many cases, in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from autospine.core.errors import AutospineError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int
) -> Iterator[_Result]:
    """Results in the order of the tasks, each as soon as it and those before it are there.

    Args:
        function: A module-level function.
        tasks: What it is called with; must survive pickling.
        workers: Number of processes; with one, everything runs in this process.

    Raises:
        AutospineError: A worker was killed, most often for want of memory.
    """
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    # Spawned processes behave alike on every system and inherit no threads or locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, end_with_parent)
    with pool:
        try:
            yield from pool.map(function, tasks)
        except BrokenProcessPool as error:
            raise AutospineError(
                "A worker process was killed, most likely because the memory ran out.",
                remedy="Run the command again with fewer workers.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """Let this process end soon after the one that started it, even when that was killed.

    A killed process cannot stop its workers, and what they would still write belongs to its successor.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
