"""MRU-Net: three mobile encoders look at the slices of a volume from three sides, one 3D decoder names them.

After Saeed et al., "An Automated Deep Learning Approach for Spine Segmentation and Vertebrae Recognition
Using Computed Tomography Images", Diagnostics 2023, 13(16):2658, and the same group's "3D MRU-Net", Biomed.
Signal Process. Control 2023, 86A. From their abstracts, all that we could read, we know of three encoders
after MobileNetV2 with residual and attention modules, one each for axial, sagittal and coronal slices, whose
features are put beside each other, and of a 3D U-Net's decoder behind them. The rest is ours:

* An encoder convolves slices, and from stage to stage averages neighbouring ones as its strides have it in
  plane. So the three encoders' maps have one shape in every stage, where they are joined.
* It normalises over all slices of a volume. Slice by slice, as a 2D network would, each would lose its
  brightness relative to the others, a slice without bone would show its noise as strongly as another its
  vertebrae, and ribs, shoulders and pelvis, which tell the vertebrae apart, stand in some slices only. Over
  the slices of all volumes, as MobileNetV2's batch normalisation, statistics of two volumes would be noisy.
* It weighs its channels slice by slice, which is then a judgement of what kind of slice it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.network_options import MobileOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import NEGATIVE_SLOPE, ConvBlock, convolution
from autospine.networks.unet import Decoder, Join, UNet, check_stages

#: Along both axes of a slice.
Size = tuple[int, int]


class SliceConv(nn.Module):
    """A convolution of each slice, padded so that stride one keeps its size; no bias.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        kernel: Odd kernel size along both axes of a slice.
        stride: Along both axes of a slice.
        depthwise: Whether each channel is convolved by itself.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Size = (1, 1),
        stride: Size = (1, 1),
        *,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.in_float32_on_cpu = depthwise and max(stride) > 1
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding=(kernel[0] // 2, kernel[1] // 2),
            groups=inputs if depthwise else 1,
            bias=False,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, slices, height, width) to (b, outputs, slices, *(height, width) / stride)."""
        return slicewise(self._convolved, x)

    def _convolved(self, slices: Tensor) -> Tensor:
        if not (self.in_float32_on_cpu and slices.device.type == "cpu"):
            convolved: Tensor = self.conv(slices)
            return convolved
        # The gradient of a strided depthwise convolution takes oneDNN several times longer in bfloat16.
        with torch.autocast("cpu", enabled=False):
            convolved = self.conv(slices.to(self.conv.weight.dtype))
        return convolved.to(slices.dtype)


class VolumeNorm(nn.Module):
    """Instance normalisation over all slices of a volume, with learnt scale and shift.

    Args:
        channels: Number of channels.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each sample of x (b, channels, slices, height, width)."""
        # Batch normalisation of one sample is instance normalisation. Where channels are the last in memory,
        # it is up to twenty times faster on a CPU than group normalisation.
        return torch.cat([self._normalised(sample) for sample in torch.split(x, 1)])

    def _normalised(self, sample: Tensor) -> Tensor:
        return F.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)


class SliceAttention(nn.Module):
    """Weighs the channels of each slice by what the averages of all its channels say.

    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018. The rectifier is leaky, lest the few channels
    inside stay closed once they are.

    Args:
        channels: Channels that come in and go out.
        inside: Channels in between.
    """

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            convolution(channels, inside, (1, 1)),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            convolution(inside, channels, (1, 1)),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, slices, height, width) to the same shape."""
        return slicewise(lambda slices: slices * self.weights(slices), x)


class InvertedResidual(nn.Module):
    """Widens, convolves each channel of each slice by itself, and narrows.

    The input is added where the block keeps its shape. Sandler et al., "MobileNetV2: Inverted Residuals and
    Linear Bottlenecks", CVPR 2018.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        kernel: Odd kernel size along both axes of a slice.
        stride: Along both axes of a slice.
        expansion: How many times wider than its input the block is inside.
        squeeze: Whether the channels inside are weighed.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Size,
        stride: Size,
        expansion: int,
        *,
        squeeze: bool,
    ) -> None:
        super().__init__()
        inside = expansion * inputs
        self.adds_input = inputs == outputs and max(stride) == 1
        self.layers = nn.Sequential()
        if expansion > 1:
            self.layers.append(_rectified(SliceConv(inputs, inside), inside))
        depthwise = SliceConv(inside, inside, kernel, stride, depthwise=True)
        self.layers.append(_rectified(depthwise, inside))
        if squeeze:
            self.layers.append(SliceAttention(inside, max(inputs // 4, 1)))
        self.layers.append(SliceConv(inside, outputs))
        self.layers.append(VolumeNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, slices, height, width) to (b, outputs, slices, *(height, width) / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.adds_input else y


class SliceStage(nn.Module):
    """A stage of one encoder: averages neighbouring slices, then convolves what remains.

    Args:
        axis: The axis, 0, 1 or 2, on which the slices lie.
        averaged: How many slices become one.
        blocks: What each slice then goes through.
    """

    def __init__(self, axis: int, averaged: int, blocks: nn.Sequential) -> None:
        super().__init__()
        self.axis = axis
        self.averaged = averaged
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, inputs, depth, height, width) to (b, outputs, *(depth, height, width) / stride)."""
        x = x.movedim(2 + self.axis, 2)
        if self.averaged > 1:
            x = torch.unflatten(x, 2, (-1, self.averaged)).mean(3)
        result: Tensor = self.blocks(x)
        return result.movedim(2, 2 + self.axis)


class ViewStage(nn.Module):
    """A stage of all three encoders, which share no weights.

    Args:
        views: The stage of each encoder.
    """

    def __init__(self, views: Sequence[nn.Module]) -> None:
        super().__init__()
        self.views = nn.ModuleList(views)

    def forward(self, seen: Tensor | list[Tensor]) -> list[Tensor]:
        """The three maps (b, outputs, *spatial / stride) of an image, or of the three maps before."""
        maps = [seen] * len(self.views) if isinstance(seen, Tensor) else seen
        return [view(x) for view, x in zip(self.views, maps, strict=True)]


class ViewFusion(nn.Module):
    """Joins the maps of the three encoders: beside each other, then through a 1x1 convolution.

    Args:
        features: Channels of each map, and of the result.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv = ConvBlock(3 * features, features, (1, 1, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map three tensors (b, features, *spatial) to one."""
        # The decoder is fastest where channels are not the last in memory.
        result: Tensor = self.conv(torch.cat(maps, dim=1).contiguous())
        return result


def mru_net(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net whose encoder is three mobile encoders, of axial, coronal and sagittal slices.

    Args:
        spec: The network's shape; its encoder blocks are inverted residuals, and its options
            ``MobileOptions``.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself or is two-dimensional, or an option does not exist
            or is impossible.
    """
    check_stages(spec)
    options = options_of(spec, MobileOptions)
    if spec.dimensions != 3:
        raise UsageError(
            f"{spec.name} looks at volumes from three sides.",
            remedy="Give its kernels and strides three axes, or choose another network.",
        )
    if options.expansion < 1:
        raise UsageError(
            f"{spec.name} cannot make its blocks {options.expansion} times as wide inside.",
            remedy="Choose an expansion of at least 1.",
        )
    encoder: list[nn.Module] = [
        ViewStage([_slice_stage(spec, in_channels, axis, stage, options) for axis in range(3)])
        for stage in range(len(spec.features))
    ]
    encoder[-1] = nn.Sequential(encoder[-1], ViewFusion(spec.features[-1]))
    return UNet(spec, encoder, outputs, Decoder(spec.features[:-1], join=_fused_join))


def slicewise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What ``function`` makes of each slice of a volume.

    Args:
        function: Maps slices (n, channels, height, width), their channels last in memory.
        x: Volumes (b, channels, slices, height, width); nothing is copied if theirs are, too.
    """
    slices = x.movedim(2, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return torch.unflatten(function(slices), 0, (x.shape[0], x.shape[2])).movedim(1, 2)


def _slice_stage(
    spec: NetworkSpec, in_channels: int, axis: int, stage: int, options: MobileOptions
) -> SliceStage:
    """A stage of the encoder of one axis; the finest begins as MobileNetV2 does.

    That is with a convolution, and with inverted residuals that widen nothing.
    """
    features = spec.features[stage]
    kernel, stride = _in_plane(spec.kernels[stage], axis), _in_plane(spec.strides[stage], axis)
    expansion = options.expansion if stage else 1
    before = spec.features[max(stage - 1, 0)]
    blocks = nn.Sequential() if stage else _rectified(SliceConv(in_channels, before, kernel), before)
    for _ in range(spec.encoder_blocks[stage]):
        blocks.append(InvertedResidual(before, features, kernel, stride, expansion, squeeze=options.squeeze))
        before, stride = features, (1, 1)
    return SliceStage(axis, spec.strides[stage][axis], blocks)


def _fused_join(_features: int, skip: int, _dimensions: int) -> Join:
    """A skip connection of the three encoders' maps."""
    return Join(ViewFusion(skip))


def _in_plane(sizes: Sequence[int], axis: int) -> Size:
    """Sizes along the other two axes."""
    height, width = (size for other, size in enumerate(sizes) if other != axis)
    return height, width


def _rectified(conv: SliceConv, features: int) -> nn.Sequential:
    return nn.Sequential(conv, VolumeNorm(features), nn.ReLU6(inplace=True))
