"""Plain and residual-encoder U-Nets, two- and three-dimensional, built from a plan.

The architectures are nnU-Net's (Isensee et al., Nature Methods 2021; "nnU-Net Revisited", MICCAI 2024):
for the same plan they have the same layers and the same number of parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import ConvBlock, ResidualBlock, convolution, initialise, upsampling


class UNet(nn.Module):
    """An encoder, and a decoder with one head per stage.

    All heads exist whether or not coarse stages are trained, so that weights fit in either case.

    Args:
        spec: Features, kernels and strides of the stages.
        encoder: One module per stage, finest first; each begins with the stage's stride.
        outputs: Channels that come out.
    """

    def __init__(self, spec: NetworkSpec, encoder: list[nn.Module], outputs: int) -> None:
        super().__init__()
        self.divisors = spec.divisors
        self.encoder = nn.ModuleList(encoder)
        self.upsamplings = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.heads = nn.ModuleList()
        coarse_to_fine = reversed(range(len(spec.features) - 1))
        for stage, blocks in zip(coarse_to_fine, spec.decoder_blocks, strict=True):
            features, kernel = spec.features[stage], spec.kernels[stage]
            self.upsamplings.append(upsampling(spec.features[stage + 1], features, spec.strides[stage + 1]))
            self.decoder.append(_conv_stage(2 * features, features, kernel, blocks))
            self.heads.append(convolution(features, outputs, [1] * len(kernel)))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *patch) of images (b, channels, *patch); the coarse heads are not computed."""
        return self._logits(x, every_stage=False)[0]

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Outputs of every decoder stage, finest first, each in the stage's own resolution."""
        return self._logits(x, every_stage=True)

    def _logits(self, x: Tensor, *, every_stage: bool) -> list[Tensor]:
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        logits = []
        for upsample, stage, head in zip(self.upsamplings, self.decoder, self.heads, strict=True):
            # Each skip is let go of as soon as it is used.
            x = stage(torch.cat((upsample(x), skips.pop()), dim=1))
            if every_stage or not skips:
                logits.append(head(x))
        return logits[::-1]


def plain_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net whose encoder stages are stacks of convolutions.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    _check(spec)
    inputs = (in_channels, *spec.features[:-1])
    stages = zip(inputs, spec.features, spec.kernels, spec.encoder_blocks, spec.strides, strict=True)
    return UNet(spec, [_conv_stage(*stage) for stage in stages], outputs)


def residual_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net whose encoder stages are stacks of residual blocks, behind one convolution as stem.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    _check(spec)
    inputs = (spec.features[0], *spec.features[:-1])
    stages = zip(inputs, spec.features, spec.kernels, spec.encoder_blocks, spec.strides, strict=True)
    encoder = [_residual_stage(*stage) for stage in stages]
    encoder[0].insert(0, ConvBlock(in_channels, spec.features[0], spec.kernels[0]))
    return UNet(spec, list(encoder), outputs)


def _conv_stage(
    inputs: int, outputs: int, kernel: tuple[int, ...], blocks: int, stride: tuple[int, ...] | None = None
) -> nn.Sequential:
    first = ConvBlock(inputs, outputs, kernel, stride)
    return nn.Sequential(first, *(ConvBlock(outputs, outputs, kernel) for _ in range(blocks - 1)))


def _residual_stage(
    inputs: int, outputs: int, kernel: tuple[int, ...], blocks: int, stride: tuple[int, ...]
) -> nn.Sequential:
    first = ResidualBlock(inputs, outputs, kernel, stride)
    return nn.Sequential(first, *(ResidualBlock(outputs, outputs, kernel) for _ in range(blocks - 1)))


def _check(spec: NetworkSpec) -> None:
    """Refuse a specification that a plan edited by hand may hold."""
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
    else:
        return
    raise UsageError(problem, where=spec.name, remedy="Correct the network in plan.json, or plan again.")
