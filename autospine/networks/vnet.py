"""The V-Net that tells vertebrae from everything else, two- and three-dimensional.

The layers are those of Altini et al., "Segmentation and Identification of Vertebrae in CT Scans Using CNN,
k-Means Clustering and k-NN", Informatics 2021, 8(2):40: a narrow V-Net (Milletari et al., "V-Net", 3DV 2016)
with kernels of five voxels. Three things are ours. Instance normalisation stands where they have batch
normalisation, because batches of two patches make its statistics noisy. Behind the last convolution, where
they normalise the classes' outputs, nothing does: patch by patch, that would promise every patch the same
share of bone. And a stage's last rectifier follows the sum with the stage's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.core.network_options import options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import ConvBlock, InstanceNorm, convolution, initialise, upsampling
from autospine.networks.fitting import cropped, enough, padded
from autospine.networks.unet import check_stages


@dataclass(frozen=True)
class VNetOptions:
    """Of ``vnet``: there are none."""


class VStage(nn.Module):
    """Convolutions around which the input is added.

    Where the input has another number of channels than the output, as an image has, its channels are
    repeated in turn until they are enough; one channel is added to every one, as Altini et al. do.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        kernel: Odd kernel size per axis.
        blocks: Number of convolutions.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.repeats = -(-outputs // inputs)
        self.thickness = kernel[0]
        self.convs = nn.Sequential(ConvBlock(inputs, outputs, kernel, activation=False))
        for _ in range(blocks - 1):
            self.convs.append(nn.ReLU(inplace=True))
            self.convs.append(ConvBlock(outputs, outputs, kernel, activation=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, *spatial) to (b, outputs, *spatial)."""
        around = x if x.shape[1] == self.outputs else torch.cat([x] * self.repeats, 1)[:, : self.outputs]
        return F.relu(self._convolved(x) + around)

    def _convolved(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.shape[2] >= self.thickness:
            result: Tensor = self.convs(x)
            return result
        # Where maps are thinner than the kernel, the gradients of weights that oneDNN 3.12 computes in
        # bfloat16 contain uninitialised memory. The 4³ voxels that a patch of 64³ comes down to are.
        with torch.autocast("cpu", enabled=False):
            result = self.convs(x.float())
        return result.to(x.dtype)


class VNet(nn.Module):
    """Residual stages with strided convolutions between them, down and up again.

    A decoder stage works on what comes from below and on the skip connection, side by side, and so is
    twice as wide as the encoder's.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image.
        outputs: Channels that come out.
    """

    def __init__(self, spec: NetworkSpec, in_channels: int, outputs: int) -> None:
        super().__init__()
        features, kernels, strides = spec.features, spec.kernels, spec.strides
        self.divisors = spec.divisors
        self.encoder = nn.ModuleList([VStage(in_channels, features[0], kernels[0], spec.encoder_blocks[0])])
        for stage in range(1, len(features)):
            down = _downsampling(features[stage - 1], features[stage], strides[stage])
            convs = VStage(features[stage], features[stage], kernels[stage], spec.encoder_blocks[stage])
            self.encoder.append(nn.Sequential(*_rectified(down, features[stage]), convs))
        self.upsamplings = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = features[-1]
        for stage, blocks in zip(reversed(range(len(features) - 1)), spec.decoder_blocks, strict=True):
            up = upsampling(channels, features[stage], strides[stage + 1])
            self.upsamplings.append(nn.Sequential(*_rectified(up, features[stage])))
            channels = 2 * features[stage]
            self.decoder.append(VStage(channels, channels, kernels[stage], blocks))
        self.head = convolution(channels, outputs, [1] * spec.dimensions)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *size) of images (b, channels, *size), whatever their size."""
        size = x.shape[2:]
        x = padded(x, enough(size, self.divisors))
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for upsample, stage in zip(self.upsamplings, self.decoder, strict=True):
            x = stage(torch.cat((upsample(x), skips.pop()), dim=1))
        return cropped(self.head(x), size)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The outputs as a list of one: coarse stages are not supervised."""
        return [self(x)]


def vnet(spec: NetworkSpec, in_channels: int, outputs: int) -> VNet:
    """A V-Net.

    With features (8, 16, 32, 64, 128), kernels of 5, strides of 2, encoder blocks (1, 2, 3, 3, 3) and decoder
    blocks (3, 3, 2, 1) it is that of Altini et al.

    Args:
        spec: The network's shape; it has no options.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself, or names an option.
    """
    check_stages(spec)
    options_of(spec, VNetOptions)
    return VNet(spec, in_channels, outputs)


def _downsampling(inputs: int, outputs: int, stride: Sequence[int]) -> nn.Module:
    """A convolution whose kernel is its stride, so that no two inputs overlap."""
    conv: Callable[..., nn.Module] = nn.Conv3d if len(stride) == 3 else nn.Conv2d
    return conv(inputs, outputs, tuple(stride), tuple(stride))


def _rectified(conv: nn.Module, features: int) -> tuple[nn.Module, ...]:
    return conv, InstanceNorm(features), nn.ReLU(inplace=True)
