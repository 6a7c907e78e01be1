"""CHASPPRAU-Net: a residual attention U-Net with cascaded pyramids of dilated convolutions.

After Saeed et al., "An Automated Deep Learning Approach for Spine Segmentation and Vertebrae Recognition
Using Computed Tomography Images", Diagnostics 13(16):2658, 2023. Known of it is what the abstract says:
cascaded spatial pyramid pooling, residual blocks for feature extraction, and attention. How these are put
together, and every number, is this project's design.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.network_options import ChasppOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.attention import AttentionGate
from autospine.networks.blocks import NEGATIVE_SLOPE, ConvBlock, InstanceNorm, convolution
from autospine.networks.unet import (
    Decoder,
    UNet,
    check_stages,
    encoder_stages,
    plain_join,
    residual_stage,
)


class DilatedBlock(nn.Module):
    """Dilated convolution that keeps the size, instance normalisation, leaky rectifier.

    Along an axis of n voxels the dilation is at most (n - 1) // 2, so that in the middle of small feature
    maps the kernel does not reach beyond them on both sides.

    Args:
        channels: Channels that come in and go out.
        kernel: Odd kernel size per axis.
        rate: Dilation on large feature maps.
    """

    def __init__(self, channels: int, kernel: Sequence[int], rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.conv = cast(nn.Conv2d | nn.Conv3d, convolution(channels, channels, kernel))
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, *spatial) to the same shape."""
        rates = [max(1, min(self.rate, (n - 1) // 2)) for n in x.shape[2:]]
        margins = [rate * (k // 2) for rate, k in zip(rates, self.conv.kernel_size, strict=True)]
        convolve = F.conv3d if len(rates) == 3 else F.conv2d
        y = convolve(x, self.conv.weight, self.conv.bias, padding=margins, dilation=rates)
        return F.leaky_relu_(self.norm(y), NEGATIVE_SLOPE)


class Pyramid(nn.Module):
    """Spatial pyramid pooling by dilated convolutions (Chen et al., DeepLab, TPAMI 2018), added to its input.

    The branches work on a quarter of the channels, and beside them stands the average over all voxels. It
    is the same everywhere, so that an instance normalisation right behind it would take it away: hence
    there is none, but a rectifier.

    Args:
        channels: Channels that come in and go out.
        kernel: Odd kernel size per axis.
        rates: Dilation of each branch.
        cascaded: Whether each branch sees, added to the input, what the one before has found.
    """

    def __init__(self, channels: int, kernel: Sequence[int], rates: Sequence[int], *, cascaded: bool) -> None:
        super().__init__()
        ones = [1] * len(kernel)
        inside = max(channels // 4, 1)
        self.cascaded = cascaded
        self.reduce = ConvBlock(channels, inside, ones)
        self.branches = nn.ModuleList(DilatedBlock(inside, kernel, rate) for rate in rates)
        self.pooled = convolution(channels, inside, ones)
        self.fuse = convolution((len(rates) + 1) * inside, channels, ones)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, *spatial) to the same shape."""
        found = torch.cat((*self._dilated(self.reduce(x)), self._average(x)), dim=1)
        return F.leaky_relu_(x + self.fuse(found), NEGATIVE_SLOPE)

    def _dilated(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for branch in self.branches:
            found.append(branch(x + found[-1] if self.cascaded and found else x))
        return found

    def _average(self, x: Tensor) -> Tensor:
        average = x.mean(tuple(range(2, x.dim())), keepdim=True)
        return F.leaky_relu_(self.pooled(average), NEGATIVE_SLOPE).expand(-1, -1, *x.shape[2:])


class GatedJoin(nn.Module):
    """Features from the coarser stage, and behind them the skip connection where they let it pass.

    Args:
        channels: Channels of the features from the coarser stage.
        skip: Channels of the skip connection.
        dimensions: Spatial axes, 2 or 3.
    """

    def __init__(self, channels: int, skip: int, dimensions: int) -> None:
        super().__init__()
        self.gate = AttentionGate(skip, channels, dimensions)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (b, c, *spatial) and skip (b, d, *spatial) to (b, c + d, *spatial)."""
        return torch.cat((x, self.gate(skip, x)), dim=1)


def chaspprau_net(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net of residual blocks, with pyramids in its coarse encoder stages and gated skip connections.

    Args:
        spec: The network's shape; blocks are residual blocks. Its options are ``ChasppOptions``. The
            coarsest stage has a pyramid however late the first is asked for.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    check_stages(spec)
    options = options_of(spec, ChasppOptions)
    _check_options(options, spec.name)
    encoder = encoder_stages(spec, in_channels, residual_stage)
    first = min(options.first_pyramid, len(encoder) - 1)
    for stage, channels, kernel in zip(
        encoder[first:], spec.features[first:], spec.kernels[first:], strict=True
    ):
        stage.extend(_pyramids(channels, kernel, options))
    join = GatedJoin if options.attention_gates else plain_join
    network = UNet(spec, encoder, outputs, Decoder(spec.features[:-1], residual_stage, join))
    _begin_as_identities(network)
    return network


def _pyramids(channels: int, kernel: Sequence[int], options: ChasppOptions) -> list[nn.Module]:
    if options.pyramid == "hierarchical":
        return [Pyramid(channels, kernel, options.rates, cascaded=True)]
    return [Pyramid(channels, kernel, options.rates, cascaded=False) for _ in range(2)]


def _begin_as_identities(network: nn.Module) -> None:
    """Let pyramids add nothing at first, as residual blocks do."""
    for module in network.modules():
        if isinstance(module, Pyramid):
            for parameter in module.fuse.parameters():
                nn.init.zeros_(parameter)


def _check_options(options: ChasppOptions, network: str) -> None:
    if not options.rates or min(options.rates) < 1:
        raise UsageError(
            f"{network}'s pyramid has the rates {options.rates}.", remedy="Give at least one, each positive."
        )
    if options.first_pyramid < 0:
        raise UsageError(
            f"{network}'s first pyramid is in stage {options.first_pyramid}.",
            remedy="Stages are counted from 0.",
        )
