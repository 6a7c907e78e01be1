"""Devices to calculate on, and what a planner may spend on them."""

from __future__ import annotations

import torch

from autospine.core.errors import UsageError
from autospine.core.plan import Budget, Device
from autospine.io.parallel import cores


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
