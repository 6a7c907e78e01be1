"""What a training step may take: memory on a GPU, time on a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from autospine.core.cost import MAPS_PER_GB, step_seconds
from autospine.core.network_size import feature_maps
from autospine.core.plan import CENTRE_CHANNELS, Budget, NetworkSpec

from . import rules
from .rules import Topology

#: The rest of a card's memory goes to the driver, the optimiser and fragmentation.
_SHARE_OF_A_CARD: Final = 0.85
#: GB planned for when the GPU's memory is not given: nnU-Net's reference.
REFERENCE_GB: Final = 8.0
_MIN_BATCH: Final = 2
#: A batch holds at most this share of the data set's voxels (nnU-Net).
_DATASET_SHARE: Final = 0.05
#: Larger batches make steps longer, not better; on a CPU, where steps are few, nnU-Net's reference
#: batches are not exceeded. By device and dimensions.
_LARGEST_BATCH: Final = {("cuda", 2): 48, ("cuda", 3): 16, ("cpu", 2): 12, ("cpu", 3): 2}
#: Channels of a CPU network's first stage: one full vector register. Twelve run slower than sixteen.
_CPU_FEATURES: Final = 16


@dataclass(frozen=True)
class Allowance:
    """A budget, applied to networks.

    Args:
        budget: What may be spent.
        channels: Of the image.
        classes: Background and labels.
        centres: Whether 3D networks learn the bodies' centres as well.
        load: What another network takes, times what the U-Net of the same topology does.
    """

    budget: Budget
    channels: int
    classes: int
    centres: bool = False
    load: float = 1.0

    @property
    def gpu_memory(self) -> float:
        """GB of GPU memory to plan for: what the user says, else most of what the card has."""
        if self.budget.gpu_memory is not None:
            return self.budget.gpu_memory
        if self.budget.device_memory is not None:
            return self.budget.device_memory * _SHARE_OF_A_CARD
        return REFERENCE_GB

    @property
    def limit(self) -> str:
        """The limit in words."""
        if self.budget.device == "cuda":
            return f"{self.gpu_memory:g} GB of GPU memory"
        return f"{self.budget.step_seconds:g} s a step on {self.budget.cores} CPU cores"

    def network(self, shape: Topology) -> NetworkSpec:
        """The network for a topology: residual on a GPU, plain and light on a CPU."""
        if self.budget.device == "cuda":
            return rules.unet("residual_unet", shape, (1, 3, 4, 6), 1)
        return rules.unet("plain_unet", shape, (1, 2), 1, _CPU_FEATURES)

    def outputs(self, dimensions: int) -> int:
        """Output channels of a network with two or three dimensions."""
        return self.classes + (CENTRE_CHANNELS if self.centres and dimensions == 3 else 0)

    def share(self, shape: Topology, batch: int) -> float:
        """The part of the budget that a step of ``batch`` patches takes; up to 1 is affordable."""
        network, outputs = self.network(shape), self.outputs(len(shape.patch))
        if self.budget.device == "cuda":
            maps = feature_maps(network, shape.patch, outputs, all_heads=True) * batch * self.load
            return maps / (MAPS_PER_GB[network.name, network.dimensions] * self.gpu_memory)
        seconds = step_seconds(network, shape.patch, self.channels, outputs, batch, self.budget)
        return seconds * self.load / self.budget.step_seconds

    def affords(self, shape: Topology) -> bool:
        """Whether the smallest batch fits."""
        return self.share(shape, _MIN_BATCH) <= 1

    def batch(self, shape: Topology, dataset_voxels: float) -> int:
        """The batch size that fits and covers no more than a twentieth of the data set, at least two."""
        one, two = self.share(shape, 1), self.share(shape, 2)
        fitting = 1 + int((1 - one) / (two - one))  # a step has a fixed cost, too
        covered = round(dataset_voxels * _DATASET_SHARE / math.prod(shape.patch))
        largest = _LARGEST_BATCH[self.budget.device, len(shape.patch)]
        return max(min(fitting, covered, largest), _MIN_BATCH)
