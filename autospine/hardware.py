"""What the machine has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

import torch

from autospine.core.errors import UsageError
from autospine.core.plan import Budget, Device

_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_GB: Final = 1e9


def choose_device(wanted: str) -> str:
    """``"auto"`` is the GPU when there is one; anything else must exist.

    Raises:
        UsageError: A GPU is asked for and there is none.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("There is no usable CUDA device.", remedy="Use --device cpu or check the driver.")
    return wanted


def measure_budget(device: Device | str, gpu_memory: float | None) -> Budget:
    """What a planner may spend on this machine.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        gpu_memory: GB; None leaves the planner its rules' reference size.
    """
    kind: Literal["cpu", "cuda"] = "cuda" if device.startswith("cuda") else "cpu"
    # Rounded, so that the plan of a run is the same after a restart.
    return Budget(device=kind, gpu_memory=gpu_memory, memory=round(host_memory() / _GB), cores=cores())


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its container's when that is less."""
    physical = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 10**9
    )
    try:
        limit = int(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):
        return physical
    return min(physical, limit)
