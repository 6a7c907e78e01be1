"""Memory of the machine and of this process; without torch, for processes that need none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

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
