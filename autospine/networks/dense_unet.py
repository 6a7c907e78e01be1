"""Dense-U-Nets, two- and three-dimensional: U-Nets whose levels keep their input beside their output.

Cheng et al., "Automatic vertebrae localization and segmentation in CT with a two-stage Dense-U-Net",
Scientific Reports 2021, name the network; its layers stood in no text that we could read. So ``"kolarik"``
blocks are those of Kolarik et al., "Optimized High Resolution 3D Dense-U-Net Network for Brain and Spine
Segmentation", Applied Sciences 2019, 9(3):404, and ``"densenet"`` blocks those of Huang et al., "Densely
Connected Convolutional Networks", CVPR 2017. Kolarik et al. normalise nothing. Here instance normalisation
follows (``"densenet"``: precedes) every convolution, so that the learning rates of the other networks hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.network_options import DenseOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import ConvBlock, InstanceNorm, convolution, initialise, upsampling
from autospine.networks.fitting import cropped, enough, padded
from autospine.networks.unet import check_stages


class KolarikBlock(nn.Module):
    """Convolutions that each see the level's input beside what the one before has put out.

    Args:
        inputs: Channels that come in.
        features: Channels of each convolution.
        kernel: Odd kernel size per axis.
        layers: Number of convolutions; Kolarik et al. have two.
        whole_skip: Whether the skip connection takes the whole output, or the last convolution's.
    """

    def __init__(
        self, inputs: int, features: int, kernel: Sequence[int], layers: int, *, whole_skip: bool = False
    ) -> None:
        super().__init__()
        self.whole_skip = whole_skip
        self.channels = inputs + features
        self.skip_channels = self.channels if whole_skip else features
        seen = [inputs] + [inputs + features] * (layers - 1)
        self.layers = nn.ModuleList(_rectified(n, features, kernel) for n in seen)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (b, inputs, *spatial) to what the skip connection and what the next level takes."""
        whole = x
        for layer in self.layers:
            y = layer(whole)
            whole = torch.cat((x, y), dim=1)
        return whole if self.whole_skip else y, whole


class DenseNetBlock(nn.Module):
    """Convolutions that each see everything before them, and a 1x1 convolution that thins the result.

    Args:
        inputs: Channels that come in.
        kernel: Odd kernel size per axis.
        options: Number of convolutions, channels each adds, and the share of all that is kept.
    """

    def __init__(self, inputs: int, kernel: Sequence[int], options: DenseOptions) -> None:
        super().__init__()
        self.skip_channels = inputs + options.layers * options.growth
        self.channels = max(1, int(options.transition * self.skip_channels))
        seen = range(inputs, self.skip_channels, options.growth)
        self.layers = nn.ModuleList(_preactivated(n, options.growth, kernel) for n in seen)
        self.transition = _preactivated(self.skip_channels, self.channels, [1] * len(kernel))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (b, inputs, *spatial) to what the skip connection and what the next level takes."""
        for layer in self.layers:
            x = torch.cat((x, layer(x)), dim=1)
        return x, self.transition(x)


class DenseUNet(nn.Module):
    """An encoder of dense blocks with max pooling between them, and a decoder of dense blocks.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image.
        outputs: Channels that come out.
        options: Which blocks.
    """

    def __init__(self, spec: NetworkSpec, in_channels: int, outputs: int, options: DenseOptions) -> None:
        super().__init__()
        kolarik = options.dense == "kolarik"
        pooling: Callable[..., nn.Module] = nn.MaxPool3d if spec.dimensions == 3 else nn.MaxPool2d
        self.divisors = spec.divisors
        self.stem = nn.Identity() if kolarik else convolution(in_channels, spec.features[0], spec.kernels[0])
        self.poolings = nn.ModuleList(pooling(stride) for stride in spec.strides)
        self.encoder = nn.ModuleList()
        self.upsamplings = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = in_channels if kolarik else spec.features[0]
        skips = []
        for stage, layers in enumerate(spec.encoder_blocks):
            block = _block(spec, options, channels, stage, layers)
            self.encoder.append(block)
            skips.append(block.skip_channels)
            channels = block.channels
        for stage, layers in zip(reversed(range(len(skips) - 1)), spec.decoder_blocks, strict=True):
            width = spec.features[stage] if kolarik else channels
            self.upsamplings.append(upsampling(channels, width, spec.strides[stage + 1]))
            block = _block(spec, options, width + skips[stage], stage, layers)
            self.decoder.append(block)
            channels = block.channels
        self.head = convolution(channels, outputs, [1] * spec.dimensions)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *size) of images (b, channels, *size), whatever their size."""
        size = x.shape[2:]
        x = self.stem(padded(x, enough(size, self.divisors)))
        skips = []
        for pooling, block in zip(self.poolings, self.encoder, strict=True):
            skip, x = block(pooling(x))
            skips.append(skip)
        skips.pop()
        for upsample, block in zip(self.upsamplings, self.decoder, strict=True):
            x = block(torch.cat((upsample(x), skips.pop()), dim=1))[1]
        return cropped(self.head(x), size)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The outputs as a list of one: coarse stages are not supervised."""
        return [self(x)]


def dense_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> DenseUNet:
    """A Dense-U-Net.

    ``"kolarik"`` blocks have the features and the numbers of convolutions that the specification gives each
    stage. The deepest skip connection takes its level's whole output, the others the last convolution's.
    With ``"densenet"`` blocks the specification's features and blocks count for the first convolution only:
    the blocks' width follows from the options.

    Args:
        spec: The network's shape; its options are ``DenseOptions``.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself, or an option does not exist or is impossible.
    """
    check_stages(spec)
    options = options_of(spec, DenseOptions)
    if min(options.layers, options.growth) < 1 or not 0 < options.transition <= 1:
        raise UsageError(
            f"{spec.name} cannot have {options.layers} layers that add {options.growth} features each and "
            f"a transition that keeps {options.transition} of them.",
            remedy="Give it at least one layer, one feature each, and a transition in (0, 1].",
        )
    return DenseUNet(spec, in_channels, outputs, options)


def _block(
    spec: NetworkSpec, options: DenseOptions, inputs: int, stage: int, layers: int
) -> KolarikBlock | DenseNetBlock:
    kernel = spec.kernels[stage]
    if options.dense == "densenet":
        return DenseNetBlock(inputs, kernel, options)
    deepest = stage == len(spec.features) - 2
    return KolarikBlock(inputs, spec.features[stage], kernel, layers, whole_skip=deepest)


def _rectified(inputs: int, outputs: int, kernel: Sequence[int]) -> nn.Module:
    """A convolution, instance normalisation and a rectifier."""
    return ConvBlock(inputs, outputs, kernel, activation=False).append(nn.ReLU(inplace=True))


def _preactivated(inputs: int, outputs: int, kernel: Sequence[int]) -> nn.Module:
    """Instance normalisation, a rectifier and a convolution: the order of DenseNet."""
    # What a bias adds, the normalisation that follows everywhere takes away again.
    conv = convolution(inputs, outputs, kernel, bias=False)
    return nn.Sequential(InstanceNorm(inputs), nn.ReLU(inplace=True), conv)
