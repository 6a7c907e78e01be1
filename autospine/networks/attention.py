"""Attention on skip connections: which channels, and which places, are worth looking at."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.networks.blocks import convolution

#: How many times fewer channels are inside a channel attention, and how many are there at least.
_REDUCTION = 16
_FEWEST = 4


class ChannelAttention(nn.Module):
    """Weighs each channel of each sample by what the whole feature map says: ``x * sigmoid(M)``.

    ``"cbam"``: M = MLP(average of x) + MLP(maximum of x), both with the same weights (Woo et al., "CBAM:
    Convolutional Block Attention Module", ECCV 2018). ``"se"``: M = MLP(average of x) (Hu et al.,
    "Squeeze-and-Excitation Networks", CVPR 2018). The MLP has channels / 16, at least four, inside.

    Args:
        channels: Channels that come in and go out.
        dimensions: Spatial axes, 2 or 3.
        mode: Which pooled values are looked at.
    """

    def __init__(self, channels: int, dimensions: int, mode: Literal["cbam", "se"] = "cbam") -> None:
        super().__init__()
        self.mode = mode
        ones = [1] * dimensions
        inside = max(channels // _REDUCTION, _FEWEST)
        self.squeeze = convolution(channels, inside, ones)
        self.excite = convolution(inside, channels, ones)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, *spatial) to the same shape."""
        axes = tuple(range(2, x.dim()))
        weights = self._weights(x.mean(axes, keepdim=True))
        if self.mode == "cbam":
            weights = weights + self._weights(x.amax(axes, keepdim=True))
        return x * torch.sigmoid(weights)

    def _weights(self, pooled: Tensor) -> Tensor:
        result: Tensor = self.excite(F.relu(self.squeeze(pooled)))
        return result


class AttentionGate(nn.Module):
    """Weighs each place of a skip connection by it and by the coarser stage.

    The additive gate of Oktay et al., "Attention U-Net", MIDL 2018 (arXiv 1804.03999): for the skip
    connection x and the gating features g, x * sigmoid(psi(relu(W_x x + W_g g))), where W_x, W_g and psi
    are 1x1 convolutions. Here g has been brought to the resolution of x before, whereas Oktay et al. bring
    the weights up: interpolation has no repeatable gradient on CUDA in three dimensions.

    Args:
        channels: Channels of the skip connection.
        gating: Channels of the gating features.
        dimensions: Spatial axes, 2 or 3.
    """

    def __init__(self, channels: int, gating: int, dimensions: int) -> None:
        super().__init__()
        ones = [1] * dimensions
        inside = max(channels // 2, 1)
        self.of_skip = convolution(channels, inside, ones, bias=False)
        self.of_gating = convolution(gating, inside, ones)
        self.weight = convolution(inside, 1, ones)

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        """Weigh x (b, channels, *spatial) by itself and gating (b, gating, *spatial)."""
        return x * torch.sigmoid(self.weight(F.relu_(self.of_skip(x) + self.of_gating(gating))))


def skip_attention(kind: Literal["none", "cbam", "se"], channels: int, dimensions: int) -> nn.Module:
    """What a skip connection of ``channels`` channels goes through: nothing, or channel attention."""
    return nn.Identity() if kind == "none" else ChannelAttention(channels, dimensions, kind)
