"""What a machine has and lacks for training and prediction: the findings of ``autospine doctor``.

Torch is imported late, so that a missing torch is a finding and no crash.
"""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final, Literal

from packaging.requirements import Requirement
from packaging.version import Version

Verdict = Literal["ok", "warning", "problem"]

_GB: Final = 1e9
_OLDEST_PYTHON: Final = (3, 11)
#: About what one process needs to resample the logits of a long scan.
_MEMORY: Final = 8 * _GB
#: About what ten scans take, preprocessed for three configurations.
_DISK: Final = 20 * _GB
#: Loader processes hand batches over through shared memory; containers often grant 64 MB of it.
_SHARED: Final = 1 * _GB
_SHARED_FOLDER: Final = Path("/dev/shm")
#: What nnU-Net's default patches are planned for.
_GPU_MEMORY: Final = 8 * _GB
#: Mixed precision that is slower than this multiple of float32 points to a broken kernel.
_SLOWDOWN: Final = 1.2


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: What.
        verdict: ``"problem"`` keeps autospine from working, ``"warning"`` from working well.
        found: What was found.
        remedy: What to do about it; empty when all is well.
    """

    subject: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:<8} {self.subject}: {self.found}"
        return f"{line}\n{'':<9}-> {self.remedy}" if self.remedy else line


def examine(folder: Path | None = None) -> tuple[Finding, ...]:
    """Look at everything; only at the installation when that is incomplete.

    Args:
        folder: Where runs are to be kept; the current folder by default.
    """
    installation = (check_python(sys.version_info[:3]), *check_libraries())
    if any(finding.verdict == "problem" for finding in installation):
        return installation

    from autospine.host_memory import host_memory
    from autospine.io.parallel import cores

    return (
        *installation,
        check_torch(version("torch")),
        *check_device(),
        check_cores(cores()),
        check_memory(host_memory()),
        check_disk(folder or Path.cwd()),
        *check_shared_memory(),
    )


def check_python(found: tuple[int, int, int]) -> Finding:
    """Whether Python is new enough."""
    text = ".".join(map(str, found)) + f" on {platform.system()} {platform.machine()}"
    if found >= _OLDEST_PYTHON:
        return Finding("Python", "ok", text)
    return Finding("Python", "problem", text, "Install Python 3.11 or newer and autospine into it.")


def check_libraries(distribution: str = "autospine") -> Iterator[Finding]:
    """Whether everything an installed distribution requires is there, in a version that will do."""
    for line in requires(distribution) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            yield _check_requirement(requirement)


def _check_requirement(requirement: Requirement) -> Finding:
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return Finding(requirement.name, "problem", "not installed", remedy)
    if requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, "ok", found)
    return Finding(requirement.name, "problem", f"{found}, but {requirement.specifier} is needed", remedy)


def check_torch(found: str) -> Finding:
    """Whether this release of torch is known to be slow at 3D convolutions."""
    if Version(found).release[:2] == (2, 9):
        remedy = "pip install 'torch!=2.9.*'"
        return Finding("torch release", "warning", "2.9 slows 3D mixed precision down fourfold", remedy)
    return Finding("torch release", "ok", f"no known defect in {found}")


def check_device() -> Iterator[Finding]:
    """The device that ``--device auto`` takes, and the arithmetic it is good at."""
    import torch

    from autospine.precision import choose_precision

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        properties = torch.cuda.get_device_properties(0)
        yield check_gpu(properties.name, properties.total_memory)
    else:
        remedy = "Prediction and small trainings run on it; large ones need an NVIDIA GPU with its driver."
        yield Finding("device", "warning", "CPU only: there is no usable CUDA device", remedy)
    chosen = str(choose_precision("auto", torch.device(kind))).removeprefix("torch.")
    yield Finding("precision", "ok", f"--schedule.precision auto is {chosen} here")
    if kind == "cuda":
        yield check_mixed_precision(_convolution_seconds(half=True), _convolution_seconds(half=False))


def check_gpu(name: str, memory: int) -> Finding:
    """Whether a GPU holds the networks that are planned by default.

    Args:
        name: The card's.
        memory: Bytes.
    """
    found = f"{name}, {memory / _GB:.0f} GB"
    if memory >= _GPU_MEMORY:
        return Finding("device", "ok", found)
    return Finding("device", "warning", found, f"Plan for it with --gpu-memory {memory / _GB:.0f}.")


def check_mixed_precision(half: float, single: float) -> Finding:
    """Whether a 3D convolution in float16 is as fast as it should be.

    Args:
        half: Seconds it takes under autocast to float16.
        single: Seconds it takes in float32.
    """
    found = f"a float16 3D convolution takes {half / single:.2f} times as long as a float32 one"
    if half <= _SLOWDOWN * single:
        return Finding("mixed precision", "ok", found)
    remedy = "Train with --schedule.precision fp32, or install another release of torch."
    return Finding("mixed precision", "warning", found, remedy)


def _convolution_seconds(*, half: bool) -> float:
    import torch

    layer = torch.nn.Conv3d(32, 32, 3, padding=1, device="cuda")
    patch = torch.zeros(2, 32, 64, 64, 64, device="cuda")
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.float16, enabled=half):
        layer(patch)  # the first call chooses the algorithm
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            layer(patch)
        torch.cuda.synchronize()
    return time.perf_counter() - started


def check_cores(found: int) -> Finding:
    """Whether the loader has a core beside the training."""
    text = f"{found} usable"
    if found > 1:
        return Finding("cores", "ok", text)
    return Finding("cores", "warning", text, "Give the process or container at least two.")


def check_memory(found: int) -> Finding:
    """Whether the host memory, or the container's share of it, will do.

    Args:
        found: Bytes.
    """
    text = f"{found / _GB:.1f} GB usable"
    if found >= _MEMORY:
        return Finding("memory", "ok", text)
    remedy = "Use --workers 1, and give the container more (docker run --memory 16g) if it is one."
    return Finding("memory", "warning", text, remedy)


def check_disk(folder: Path) -> Finding:
    """Whether runs can be kept below ``folder``."""
    free = shutil.disk_usage(folder).free
    text = f"{free / _GB:.1f} GB free in {folder}"
    if free >= _DISK:
        return Finding("disk", "ok", text)
    return Finding("disk", "warning", text, "Free some space, or keep runs elsewhere with --output.")


def check_shared_memory(folder: Path = _SHARED_FOLDER) -> Iterator[Finding]:
    """Whether loader processes can hand over batches; nothing is found where there is no such folder."""
    if not folder.is_dir():
        return
    total = shutil.disk_usage(folder).total
    text = f"{total / _GB:.2f} GB"
    if total >= _SHARED:
        yield Finding("shared memory", "ok", text)
        return
    remedy = "Start the container with --shm-size=2g (or --ipc=host)."
    yield Finding("shared memory", "warning", text, remedy)
