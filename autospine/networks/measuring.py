"""What a network of any kind takes, counted by running it on tensors that have shapes but no values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autospine.core.network_size import Size, unet_size
from autospine.core.plan import NetworkSpec
from autospine.networks import build

_UNETS = ("plain_unet", "residual_unet")


def size_of(spec: NetworkSpec, patch: Sequence[int], channels: int, outputs: int) -> Size:
    """Parameters, feature maps and multiply-adds of a network for one patch, all heads included.

    Plain and residual U-Nets are counted from their specification, others by running them.

    Args:
        spec: The network.
        patch: Voxels along the network's axes.
        channels: That come in.
        outputs: That go out.
    """
    if spec.name in _UNETS:
        return unet_size(spec, patch, channels, outputs)
    with torch.device("meta"):
        network = build(spec, channels, outputs).eval()
        image = torch.empty(1, channels, *patch)
    counts: list[tuple[int, int]] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        counts.append((result.numel(), _multiply_adds(module, inputs[0], result)))

    for module in network.modules():
        if _convolves(module):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.forward_stages(image)  # type: ignore[operator]
    return Size(
        parameters=sum(p.numel() for p in network.parameters()),
        feature_maps=sum(maps for maps, _ in counts),
        multiply_adds=sum(work for _, work in counts),
    )


def _convolves(module: nn.Module) -> bool:
    """Whether a module's weight has an axis for outputs, one for inputs and those of a kernel."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim >= 4


def _multiply_adds(module: Any, image: Tensor, result: Tensor) -> int:
    """Of a convolution: each weight is applied once per voxel of the map it is slid over."""
    transposed = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d)
    slid_over = image if transposed else result
    # Slices of one patch may have been run as a batch.
    return int(module.weight.numel() * slid_over.shape[0] * math.prod(slid_over.shape[2:]))
