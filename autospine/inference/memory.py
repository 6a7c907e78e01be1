"""How much memory the prediction of a scan takes at most, and what goes to the disk so that it is enough.

What is counted are the arrays that are alive at once, step by step; how large they are follows from the grid
of the scan and from the plan. The constants are measurements, see ``benchmarks/memory.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core.errors import ResourceError
from autospine.core.plan import Configuration, Plan
from autospine.core.trace import Trace
from autospine.inference.groups import most_voters
from autospine.inference.sliding_window import row_depth
from autospine.io.scratch import IN_MEMORY, Scratch
from autospine.resampling import resampling_values

#: Share of the machine's memory that a prediction takes at most where nobody says otherwise.
USUAL_SHARE: Final = 0.8
_SINGLE: Final = 4
_HALF: Final = 2
#: Arrays of a prediction up to this size stay in memory even when it goes to the disk.
_SMALL: Final = 64 * 2**20
#: Feature maps in single precision, of the finest stage, that are alive at once in a network.
_MAPS_AT_ONCE: Final = 5
#: Bytes per voxel of the scan while the mask is made and written: numbers of instances, kinds, and copies.
_MASK_BYTES: Final = 6
#: Bytes per voxel at model resolution while vertebrae are found and named.
_NAMING_BYTES: Final = 6
#: Bytes per voxel that votes for a vertebra's centre: two places and weights, and what they are made of.
_VOTER_BYTES: Final = 120
#: Blocks, worker buffers and what else does not grow with the scan.
_SMALL_CHANGE: Final = 200 * 2**20


@dataclass(frozen=True)
class MemoryPlan:
    """What a scan's prediction takes.

    Args:
        peak: Bytes at most, with what the process holds already.
        step: During which step.
        scratch: Where the networks' outputs go.
    """

    peak: int
    step: str
    scratch: Scratch

    def __str__(self) -> str:
        """One line for a person."""
        place = "" if self.scratch.folder is None else ", network outputs on disk"
        return f"up to {gigabytes(self.peak)} of memory ({self.step}){place}"


@dataclass(frozen=True)
class ScanMemory:
    """What the memory of a scan's prediction depends on.

    Args:
        base: Bytes that the process holds without the scan: libraries, networks.
        scan: Bytes of the scan as it was read.
        voxels: Of the scan.
        stages: Configurations in the order in which they predict.
        traces: Of each of them, by name.
        plan: Theirs.
        joined: Whether vertebrae are told apart as one class first, not voxel by voxel.
    """

    base: int
    scan: int
    voxels: int
    stages: Sequence[Configuration]
    traces: Mapping[str, Trace]
    plan: Plan
    joined: bool = True

    def steps(self, *, on_disk: bool) -> dict[str, int]:
        """Bytes of each step, with everything that is alive then."""
        held = self.base + self.scan
        steps: dict[str, int] = {"reading": self.base + 2 * self.scan}
        for stage in self.stages:
            trace = self.traces[stage.name]
            steps[f"preprocessing for {stage.name}"] = held + _SINGLE * resampling_values(trace)
            held += _SINGLE * math.prod(trace.shape) * self.plan.input_channels(stage)
            outputs = 0 if on_disk else _HALF * math.prod(trace.shape) * self.plan.output_channels(stage)
            steps[f"network {stage.name}"] = held + outputs + _network_bytes(stage, trace, self.plan)
            held += outputs
        images = sum(
            _SINGLE * math.prod(self.traces[s.name].shape) * self.plan.input_channels(s) for s in self.stages
        )
        rest = held - self.scan - images
        joined = sum(self._joined(stage, on_disk=on_disk) for stage in self.stages if self.joined)
        steps["naming and mask"] = rest + joined + _MASK_BYTES * self.voxels + _SMALL_CHANGE
        return steps

    def _joined(self, stage: Configuration, *, on_disk: bool) -> int:
        """Bytes of a stage's outputs with all vertebrae as one class, and of what is found in them."""
        trace = self.traces[stage.name]
        others = len(self.plan.classes) - len(self.plan.vertebra_channels)
        voters = most_voters(trace, self.plan) if stage.centres and self.plan.column else 0
        each = _NAMING_BYTES + (0 if on_disk else _SINGLE * (others + 1))
        return math.prod(trace.shape) * each + _VOTER_BYTES * voters


def plan_memory(scan: ScanMemory, ceiling: int, folder: Path) -> MemoryPlan:
    """Keep everything in memory if that fits, else let the networks' outputs go to a folder.

    Args:
        scan: What is to be predicted.
        ceiling: Bytes of memory that the process may take.
        folder: Where files go.

    Raises:
        ResourceError: It does not fit even so.
    """
    for scratch in (IN_MEMORY, Scratch(folder, _SMALL)):
        steps = scan.steps(on_disk=scratch.folder is not None)
        step = max(steps, key=lambda name: steps[name])
        if steps[step] <= ceiling:
            return MemoryPlan(steps[step], step, scratch)
    raise ResourceError(
        f"This scan takes {gigabytes(steps[step])} of memory ({step}), and {gigabytes(ceiling)} may be used.",
        remedy="Allow more with --memory, or predict with fewer or coarser configurations.",
    )


def gigabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e9:.1f} GB"


def _network_bytes(stage: Configuration, trace: Trace, plan: Plan) -> int:
    """Sums over a row of windows, and one window's way through the network."""
    outputs, patch = plan.output_channels(stage), math.prod(stage.patch)
    if stage.view != "windows":
        return _SINGLE * patch * (_MAPS_AT_ONCE * stage.network.features[0] + 4 * outputs)
    depth, following = row_depth(trace.shape, stage.patch)
    row = depth * math.prod(max(n, p) for n, p in zip(trace.shape[1:], stage.patch[-2:], strict=True))
    # What is finished is divided, clipped and halved in a copy.
    sums = _SINGLE * row * (outputs + 1) + (_SINGLE + _HALF) * (row * following // depth) * outputs
    return sums + _SINGLE * patch * (_MAPS_AT_ONCE * stage.network.features[0] + 3 * outputs)
