"""U-Nets, two- and three-dimensional, built from a plan.

``UNet`` is any of them: its encoder is given stage by stage, and ``Decoder`` says how wide the decoder is,
what its stages are made of and what happens to the skip connections.

The plain and the residual-encoder U-Net are nnU-Net's (Isensee et al., Nature Methods 2021; "nnU-Net
Revisited", MICCAI 2024): for the same plan they have the same layers and the same number of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import ConvBlock, ResidualBlock, convolution, initialise, upsampling
from autospine.networks.fitting import cropped, enough, padded

Size = tuple[int, ...]


class Join(nn.Module):
    """Features from the coarser stage, and behind them those of the skip connection.

    Args:
        attention: What the skip connection goes through; it keeps the shape.
    """

    def __init__(self, attention: nn.Module | None = None) -> None:
        super().__init__()
        self.attention = attention or nn.Identity()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (b, c, *spatial) and skip (b, d, *spatial) to (b, c + d, *spatial)."""
        return torch.cat((x, self.attention(skip)), dim=1)


def plain_join(_channels: int, _skip: int, _dimensions: int) -> Join:
    """Skip connections as they are."""
    return Join()


def conv_stage(
    inputs: int, outputs: int, kernel: Size, blocks: int, stride: Size | None = None
) -> nn.Sequential:
    """A stack of convolution blocks, the first of which has the stride."""
    first = ConvBlock(inputs, outputs, kernel, stride)
    return nn.Sequential(first, *(ConvBlock(outputs, outputs, kernel) for _ in range(blocks - 1)))


def residual_stage(
    inputs: int, outputs: int, kernel: Size, blocks: int, stride: Size | None = None
) -> nn.Sequential:
    """A stack of residual blocks, the first of which has the stride."""
    first = ResidualBlock(inputs, outputs, kernel, stride)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, kernel) for _ in range(blocks - 1)))


@dataclass(frozen=True)
class Decoder:
    """What a U-Net's decoder is made of.

    Args:
        features: Channels of each stage, finest first.
        stage: Makes a stage from its input and output channels, its kernel and its number of blocks.
        join: Makes what brings both inputs of a stage together, from the channels of the upsampled
            features, the channels of the skip connection, and the number of axes.
    """

    features: tuple[int, ...]
    stage: Callable[[int, int, Size, int], nn.Module] = conv_stage
    join: Callable[[int, int, int], nn.Module] = plain_join


class UNet(nn.Module):
    """An encoder, and a decoder with one head per stage; images may have any size.

    All heads exist whether or not coarse stages are trained, so that weights fit in either case.

    Args:
        spec: Features, kernels and strides of the stages.
        encoder: One module per stage, finest first; each begins with the stage's stride.
        outputs: Channels that come out.
        decoder: How the decoder is made; None is a plain one as wide as the encoder.
    """

    def __init__(
        self, spec: NetworkSpec, encoder: Sequence[nn.Module], outputs: int, decoder: Decoder | None = None
    ) -> None:
        super().__init__()
        made = decoder or Decoder(spec.features[:-1])
        self.scales = tuple(accumulate(spec.strides, _product))
        self.encoder = nn.ModuleList(encoder)
        self.upsamplings = nn.ModuleList()
        self.joins = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.heads = nn.ModuleList()
        below = spec.features[-1]
        coarse_to_fine = reversed(range(len(spec.features) - 1))
        for stage, blocks in zip(coarse_to_fine, spec.decoder_blocks, strict=True):
            features, skip, kernel = made.features[stage], spec.features[stage], spec.kernels[stage]
            self.upsamplings.append(upsampling(below, features, spec.strides[stage + 1]))
            self.joins.append(made.join(features, skip, spec.dimensions))
            self.decoder.append(made.stage(features + skip, features, kernel, blocks))
            self.heads.append(convolution(features, outputs, [1] * spec.dimensions))
            below = features
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *size) of images (b, channels, *size); the coarse heads are not computed."""
        return self._logits(x, every_stage=False)[0]

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Outputs of every decoder stage, finest first, each in the stage's own resolution."""
        return self._logits(x, every_stage=True)

    def _logits(self, x: Tensor, *, every_stage: bool) -> list[Tensor]:
        size = x.shape[2:]
        x = padded(x, enough(size, self.scales[-1]))
        fits = x.shape[2:] == size
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        logits = []
        parts = zip(self.upsamplings, self.joins, self.decoder, self.heads, strict=True)
        for upsample, join, stage, head in parts:
            # Each skip is let go of as soon as it is used.
            x = stage(join(upsample(x), skips.pop()))
            if every_stage or not skips:
                logits.append(head(x))
        logits.reverse()
        # Cropping to the whole would be free forward, but a copy of the gradient per axis backward.
        return logits if fits else list(self._cropped(logits, size))

    def _cropped(self, logits: list[Tensor], size: Sequence[int]) -> Iterator[Tensor]:
        """The stages' outputs without what padding has added, as many voxels as cover the image."""
        for stage, scale in zip(logits, self.scales, strict=False):
            yield cropped(stage, [-(-n // s) for n, s in zip(size, scale, strict=True)])


def plain_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net whose encoder stages are stacks of convolutions.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    check_stages(spec)
    return UNet(spec, encoder_stages(spec, in_channels, conv_stage), outputs)


def residual_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net whose encoder stages are stacks of residual blocks, behind one convolution as stem.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    check_stages(spec)
    encoder = encoder_stages(spec, spec.features[0], residual_stage)
    encoder[0].insert(0, ConvBlock(in_channels, spec.features[0], spec.kernels[0]))
    return UNet(spec, encoder, outputs)


def encoder_stages(
    spec: NetworkSpec, in_channels: int, stage: Callable[[int, int, Size, int, Size], nn.Sequential]
) -> list[nn.Sequential]:
    """One encoder stage each, made by ``stage`` from inputs, outputs, kernel, blocks and stride."""
    inputs = (in_channels, *spec.features[:-1])
    settings = zip(inputs, spec.features, spec.kernels, spec.encoder_blocks, spec.strides, strict=True)
    return [stage(*setting) for setting in settings]


def check_stages(spec: NetworkSpec) -> None:
    """Refuse a specification that a plan edited by hand may hold.

    Raises:
        UsageError: The specification contradicts itself.
    """
    stages = len(spec.features)
    lengths = {len(spec.kernels), len(spec.strides), len(spec.encoder_blocks), len(spec.decoder_blocks) + 1}
    axes = {len(sizes) for sizes in (*spec.kernels, *spec.strides)}
    if stages < 2:
        problem = "A U-Net needs at least two stages."
    elif lengths != {stages}:
        problem = f"{stages} stages need as many kernels, strides and encoder blocks, and one decoder fewer."
    elif axes not in ({2}, {3}):
        problem = "Kernels and strides must all have two, or all have three axes."
    elif any(size % 2 == 0 for kernel in spec.kernels for size in kernel):
        problem = "Kernel sizes must be odd."
    elif set(spec.strides[0]) != {1}:
        problem = "The first stage must have stride one along every axis."
    elif min(*spec.features, *spec.encoder_blocks, *spec.decoder_blocks) < 1:
        problem = "Features and numbers of blocks must be at least one."
    else:
        return
    raise UsageError(problem, where=spec.name, remedy="Correct the network in plan.json, or plan again.")


def _product(scale: Size, stride: Size) -> Size:
    return tuple(a * b for a, b in zip(scale, stride, strict=True))
