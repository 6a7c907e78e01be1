"""The encoder of EfficientNet in two and three dimensions, from the specification's strides and kernels.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, without
the classifier and its convolution, which a segmentation has no use for. Three things differ from the
published networks:

* Stochastic depth is left out. It is a regulariser for ImageNet's long trainings, and off by default where
  EfficientNets serve as encoders.
* Strided convolutions are padded alike on both sides, not by one more voxel behind.
* Batch normalisation has PyTorch's momentum of 0.1, not 0.01: trainings here can be short, and would be
  evaluated with the statistics of their first weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor, nn

from autospine.core.efficientnet_scaling import BlockGroup, block_groups, stem_features
from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import InstanceNorm, convolution
from autospine.networks.fitting import padded

Norm = Literal["batch", "instance"]


class EfficientNetEncoder(nn.Module):
    """Stem and inverted residuals of an EfficientNet: features at stages 1 to 5 of the specification.

    A stage takes the specification's stride. Kernels have the size that EfficientNet's table says, but are
    1 along axes where the specification's kernel of the stage is 1.

    Args:
        spec: Kernels and strides of six stages; stage 0 is the image's own and has no encoder.
        in_channels: Channels of the image.
        variant: ``"b0"`` to ``"b7"``.
        norm: The normalisation after each convolution.
    """

    def __init__(self, spec: NetworkSpec, in_channels: int, variant: str, norm: Norm) -> None:
        super().__init__()
        features = stem_features(variant)
        kernel = _kernel(3, spec.kernels[1])
        self.stem = nn.Sequential(
            convolution(in_channels, features, kernel, spec.strides[1], bias=False),
            normalisation(norm, features, spec.dimensions),
            nn.SiLU(),
        )
        self.stages = nn.ModuleList()
        for stage, groups in groupby(block_groups(variant), key=lambda group: group.stage):
            # The stem has already taken the stride of stage 1.
            stride = spec.strides[stage] if stage > 1 else (1,) * spec.dimensions
            blocks = _stage(features, list(groups), spec.kernels[stage], stride, norm)
            self.stages.append(nn.Sequential(*blocks))
            features = blocks[-1].outputs

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of stages 1 to 5, finest first, of images (b, in_channels, *size)."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class InvertedResidual(nn.Module):
    """Widens, convolves each channel by itself, weighs the channels, and narrows: EfficientNet's MBConv.

    The input is added where the block keeps its shape. Sandler et al., "MobileNetV2", CVPR 2018; with
    squeeze and excitation and SiLU as in EfficientNet.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        expansion: How many times wider than its input the block is inside.
        kernel: Odd kernel size per axis of the depthwise convolution.
        stride: Of the depthwise convolution, per axis.
        norm: The normalisation after each convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        expansion: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        norm: Norm,
    ) -> None:
        super().__init__()
        dimensions = len(kernel)
        ones = [1] * dimensions
        inside = expansion * inputs
        self.outputs = outputs
        self.adds_input = inputs == outputs and max(stride) == 1
        self.widen = nn.Sequential()
        if expansion > 1:
            self.widen.append(convolution(inputs, inside, ones, bias=False))
            self.widen.append(normalisation(norm, inside, dimensions))
            self.widen.append(nn.SiLU())
        self.convolve = nn.Sequential(
            DepthwiseConv(inside, kernel, stride), normalisation(norm, inside, dimensions), nn.SiLU()
        )
        self.weigh = SqueezeExcitation(inside, max(inputs // 4, 1), dimensions)
        self.narrow = nn.Sequential(
            convolution(inside, outputs, ones, bias=False), normalisation(norm, outputs, dimensions)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, *spatial) to (b, outputs, *spatial / stride)."""
        y: Tensor = self.narrow(self.weigh(self.convolve(self.widen(x))))
        return x + y if self.adds_input else y


class DepthwiseConv(nn.Module):
    """A convolution of each channel by itself, padded so that stride one keeps the size; no bias.

    Args:
        channels: Channels that come in and go out.
        kernel: Odd kernel size per axis.
        stride: Per axis.
    """

    def __init__(self, channels: int, kernel: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        conv: Callable[..., nn.Conv2d | nn.Conv3d] = nn.Conv3d if len(kernel) == 3 else nn.Conv2d
        self.strided = max(stride) > 1
        self.conv = conv(
            channels,
            channels,
            tuple(kernel),
            tuple(stride),
            padding=tuple(k // 2 for k in kernel),
            groups=channels,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, *spatial) to (b, channels, *spatial / stride)."""
        if self.strided and x.device.type == "cpu":
            # Strided, their gradient is slower in bfloat16 than in float32 with both casts: 64 against 36 ms
            # for (2, 48, 32, 32, 32) with kernel 3, 70 against 35 for (2, 192, 128, 128), forward and
            # backward on one core with AVX-512 BF16 (torch 2.13). Without a stride it is the other way
            # round, 150 against 188 and 60 against 93.
            with torch.autocast("cpu", enabled=False):
                y: Tensor = self.conv(x.to(self.conv.weight.dtype)).to(x.dtype)
        else:
            y = self.conv(x)
        return y


class SqueezeExcitation(nn.Module):
    """Weighs each channel by what the averages of all channels say.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, with EfficientNet's SiLU.

    Args:
        channels: Channels that come in and go out.
        inside: Channels in between.
        dimensions: Spatial axes, 2 or 3.
    """

    def __init__(self, channels: int, inside: int, dimensions: int) -> None:
        super().__init__()
        ones = [1] * dimensions
        self.weights = nn.Sequential(
            convolution(channels, inside, ones),
            nn.SiLU(),
            convolution(inside, channels, ones),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, *spatial) to the same shape."""
        weights: Tensor = self.weights(x.mean(tuple(range(2, x.dim())), keepdim=True))
        return x * weights


def normalisation(kind: Norm, channels: int, dimensions: int) -> nn.Module:
    """Batch or instance normalisation with learnt scale and shift."""
    if kind == "instance":
        return InstanceNorm(channels)
    return nn.BatchNorm3d(channels) if dimensions == 3 else nn.BatchNorm2d(channels)


def fitted(
    image: Tensor, divisors: Sequence[int], scale: Sequence[int], kind: Norm, training: bool
) -> Tensor:
    """The image padded so that a network can divide it and normalise: one value has no deviation.

    Args:
        image: (b, channels, *size).
        divisors: What its size must be divisible by.
        scale: How many times smaller than the image the smallest normalised feature map is.
        kind: The normalisation.
        training: Whether batch normalisation takes the batch's statistics.

    Raises:
        UsageError: Batch normalisation would see a single value per channel.
    """
    image = padded(image, divisors)
    if any(n > s for n, s in zip(image.shape[2:], scale, strict=True)):
        return image
    if kind == "instance":
        return padded(image, (2 * divisors[0], *divisors[1:]))
    if training and image.shape[0] == 1:
        raise UsageError(
            "The coarsest feature map has a single value, too few for batch normalisation.",
            remedy="Choose a larger batch or patch, fewer strides, or the option norm=instance.",
        )
    return image


def _stage(
    inputs: int, groups: Sequence[BlockGroup], shape: Sequence[int], stride: Sequence[int], norm: Norm
) -> list[InvertedResidual]:
    """The blocks of one stage; the first takes the stride."""
    ones = (1,) * len(stride)
    blocks: list[InvertedResidual] = []
    for group in groups:
        for _ in range(group.repeats):
            kernel = _kernel(group.kernel, shape)
            before = blocks[-1].outputs if blocks else inputs
            step = ones if blocks else stride
            blocks.append(InvertedResidual(before, group.features, group.expansion, kernel, step, norm))
    return blocks


def _kernel(size: int, shape: Sequence[int]) -> tuple[int, ...]:
    """``size`` along each axis, but 1 where ``shape`` is."""
    return tuple(size if k > 1 else 1 for k in shape)
