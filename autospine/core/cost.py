"""What a configuration costs: parameters, seconds a step, hours, memory and disk space.

Estimates to choose by, good to about a factor of two; the constants are measurements whose origin
stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from autospine.core.fingerprint import Fingerprint
from autospine.core.network_size import Size, family, unet_size
from autospine.core.plan import CENTRE_CHANNELS, Budget, Configuration, NetworkSpec, Plan
from autospine.core.table import duration, number, table

#: Counts what a network takes for one patch: ``(spec, patch, channels, outputs)``.
SizeOf = Callable[[NetworkSpec, Sequence[int], int, int], Size]

#: Seconds of one CPU core per training step: for loading, augmentation and loss; for 10^6 values of
#: feature maps (memory traffic of normalisation and activation); and for 10^9 multiply-adds of the
#: forward pass, the backward pass included. Fitted to plain U-Nets of 16 and 32 features, 2D and 3D,
#: trained in bfloat16 with torch 2.13 on one core of an AMD EPYC with AVX-512; within 25 %. Without
#: bfloat16 it takes twice as long.
_CPU_SECONDS_PER_STEP: Final = 0.05
_CPU_SECONDS_PER_MEGA_MAPS: Final = 0.010
_CPU_SECONDS_PER_GIGA_MULTIPLY_ADDS: Final = 0.022
#: Floating-point operations a second that training reaches on an A100 in mixed precision: nnU-Net's
#: documentation (resenc_presets.md) states 9, 12, 35 and 66 hours for its plain network and the presets
#: M, L and XL, whose plans for liver CT take 5.7, 8.6, 28 and 52 teraflop a step: 47 to 60 teraflop/s.
_GPU_FLOPS: Final = 5.0e13
#: Forward and backward pass, a multiplication and an addition each.
_FLOPS_PER_MULTIPLY_ADD: Final = 6
#: Values of feature maps that fit one GB, by network and dimensions, all patches of the batch together:
#: nnU-Net's reference numbers (85 and 135 million in 2D at batch 12, 560 and 680 million in 3D at
#: batch 2) at 8 GB.
MAPS_PER_GB: Final = {
    ("plain_unet", 2): 85e6 * 12 / 8,
    ("plain_unet", 3): 560e6 * 2 / 8,
    ("residual_unet", 2): 135e6 * 12 / 8,
    ("residual_unet", 3): 680e6 * 2 / 8,
}
#: Stored voxels: half-precision image and logits, one byte for the label.
_IMAGE_BYTES: Final = 2
_LABEL_BYTES: Final = 1
_LOGIT_BYTES: Final = 2


@dataclass(frozen=True)
class Cost:
    """What one fold of a configuration costs.

    Args:
        parameters: Of the network.
        step_seconds: One training step.
        training_hours: The whole schedule, validation steps included.
        memory_gb: GB on the GPU (or of host memory when training on a CPU) while training.
        disk_gb: GB of preprocessed cases and of out-of-fold logits before compression, all folds together.
    """

    parameters: int
    steps: int
    step_seconds: float
    training_hours: float
    memory_gb: float
    disk_gb: float


def estimate(
    plan: Plan, configuration: Configuration, fingerprint: Fingerprint, size_of: SizeOf = unet_size
) -> Cost:
    """Cost of one fold of ``configuration``.

    Args:
        plan: Of the configuration.
        configuration: What to train.
        fingerprint: Of the data set.
        size_of: Counts a network; the default takes all for plain or residual U-Nets.
    """
    channels, outputs = plan.input_channels(configuration), plan.output_channels(configuration)
    network, patch, schedule = configuration.network, configuration.patch, configuration.schedule
    size = size_of(network, patch, channels, outputs)
    seconds = seconds_for(size, configuration.batch_size, plan.budget)
    # A validation step is a forward pass, a third of the work.
    steps = schedule.epochs * (schedule.steps + schedule.validation_steps / 3)
    maps = size.feature_maps * configuration.batch_size
    voxels = math.prod(configuration.median_shape) * len(fingerprint.cases)
    stored = len(plan.classes) + (CENTRE_CHANNELS if configuration.locates else 0)
    bytes_a_voxel = _IMAGE_BYTES * len(configuration.normalisation) + _LABEL_BYTES + _LOGIT_BYTES * stored
    return Cost(
        parameters=size.parameters,
        steps=schedule.epochs * schedule.steps,
        step_seconds=seconds,
        training_hours=steps * seconds / 3600,
        memory_gb=maps / MAPS_PER_GB[family(network), network.dimensions],
        disk_gb=voxels * bytes_a_voxel / 1e9,
    )


def cost_table(plan: Plan, fingerprint: Fingerprint, folds: int, size_of: SizeOf = unet_size) -> str:
    """The cost of training ``folds`` folds of every configuration, as lines of text.

    Args:
        plan: What to train.
        fingerprint: Of the data set.
        folds: Number of folds.
        size_of: Counts a network; the default takes all for plain or residual U-Nets.
    """
    header = ("configuration", "parameters", "steps", "s/step", "time/fold", "GB memory", "GB disk")
    costs = [estimate(plan, configuration, fingerprint, size_of) for configuration in plan.configurations]
    rows = [
        (
            configuration.name,
            f"{cost.parameters / 1e6:.2f} M",
            str(cost.steps),
            number(cost.step_seconds, 2),
            duration(cost.training_hours * 3600),
            number(cost.memory_gb, 2),
            number(cost.disk_gb, 2),
        )
        for configuration, cost in zip(plan.configurations, costs, strict=True)
    ]
    total = duration(3600 * folds * sum(cost.training_hours for cost in costs))
    disk = sum(cost.disk_gb for cost in costs)
    return (
        f"{table(header, rows)}\nabout {total} to train {folds} folds of each, at most {disk:.2f} GB on disk"
    )


def step_seconds(
    network: NetworkSpec, patch: Sequence[int], channels: int, outputs: int, batch: int, budget: Budget
) -> float:
    """Seconds of one training step of a U-Net, forward and backward pass."""
    return seconds_for(unet_size(network, patch, channels, outputs), batch, budget)


def seconds_for(size: Size, batch: int, budget: Budget) -> float:
    """Seconds of one training step with a batch of ``batch`` patches of a network of some size."""
    work = size.multiply_adds * batch
    if budget.device == "cuda":
        return work * _FLOPS_PER_MULTIPLY_ADD / _GPU_FLOPS
    maps = size.feature_maps * batch
    traffic = maps / 1e6 * _CPU_SECONDS_PER_MEGA_MAPS
    arithmetic = work / 1e9 * _CPU_SECONDS_PER_GIGA_MULTIPLY_ADDS
    return (_CPU_SECONDS_PER_STEP + traffic + arithmetic) / budget.cores
