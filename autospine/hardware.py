"""What the machine has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
import torch

from autospine.core.errors import UsageError
from autospine.core.plan import Budget, Device
from autospine.io.parallel import cores

#: Where containers find their limit, in the second and the first version of control groups.
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_OWN_MEMORY: Final = Path("/proc/self/statm")
#: Python with torch, numpy and SimpleITK loaded.
_USUAL_PROCESS: Final = 600 * 10**6
#: Just below the size from which glibc never keeps freed memory.
_KEPT: Final = 31 * 2**20


def choose_device(wanted: str) -> str:
    """``"auto"`` is the GPU when there is one; anything else must exist.

    Raises:
        UsageError: There is no such device.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = wanted.partition(":")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (kind == "cuda" and (index or "0").isdigit() and int(index or "0") < count):
        return wanted
    raise UsageError(
        f"There is no device {wanted!r}; this machine has {count} usable CUDA devices.",
        remedy="Use --device cpu, or check the driver.",
    )


def measure_budget(device: Device | str, gpu_memory: float | None) -> Budget:
    """What a planner may spend on this machine.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        gpu_memory: GB to plan for, when the user says so.
    """
    if not device.startswith("cuda"):
        return Budget(device="cpu", gpu_memory=gpu_memory, cores=cores())
    total = torch.cuda.get_device_properties(device).total_memory
    return Budget(gpu_memory=gpu_memory, device_memory=float(total // 10**9), cores=cores())


def host_memory() -> int:
    """Bytes of memory this process may use: the machine's, or its container's when that is less."""
    physical = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 10**9
    )
    return min([physical, *filter(None, map(_limit, _CGROUP_LIMITS))])


def _limit(path: Path) -> int | None:
    """Bytes that a file allows; None where it is absent or allows everything."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def resident_memory() -> int:
    """Bytes of memory that this process holds now; a usual value where the system does not say."""
    try:
        pages = int(_OWN_MEMORY.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return _USUAL_PROCESS
    return pages * os.sysconf("SC_PAGE_SIZE")


def keep_freed_memory() -> None:
    """Let this process use the memory of freed arrays again, instead of giving it back at once.

    The GNU C library keeps blocks as large as the largest that has been freed, up to 32 MiB (``mallopt(3)``,
    ``M_MMAP_THRESHOLD``). Until then every array of some megabytes costs a page fault for each 4 KiB of it,
    which can take longer than filling it.
    """
    np.empty(_KEPT, dtype=np.uint8)
