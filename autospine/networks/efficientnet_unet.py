"""A U-Net with an EfficientNet as encoder and channel attention on its skip connections.

The design follows what is known of CAEB7-UNet (IEEE Xplore 10906566): an EfficientNet-B7 encoder, channel
attention in the skip connections, an up-sampling decoder. Everything else is this project's choice and an
option.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from autospine.core.efficientnet_scaling import stage_blocks, stage_features
from autospine.core.errors import UsageError
from autospine.core.network_options import EfficientNetOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.attention import skip_attention
from autospine.networks.blocks import convolution, initialise
from autospine.networks.efficientnet import EfficientNetEncoder, Norm, fitted, normalisation
from autospine.networks.fitting import cropped
from autospine.networks.unet import check_stages

#: Stages of the encoder, and the image's own.
_STAGES = 6


class EfficientNetUNet(nn.Module):
    """An EfficientNet encoder, attended skip connections, and a decoder with a head at the finest stage.

    Args:
        spec: Features, kernels and strides of six stages; features of stage 0 are the decoder's finest.
        options: Variant, attention, normalisation and the decoder's features.
        in_channels: Channels of the image.
        outputs: Channels that come out.
    """

    def __init__(
        self, spec: NetworkSpec, options: EfficientNetOptions, in_channels: int, outputs: int
    ) -> None:
        super().__init__()
        self.divisors = spec.divisors
        self.norm = options.norm
        self.encoder = EfficientNetEncoder(spec, in_channels, options.variant, options.norm)
        self.upsamplings = nn.ModuleList()
        self.attentions = nn.ModuleList()
        self.decoder = nn.ModuleList()
        inputs = spec.features[-1]
        for stage, features, blocks in _coarse_to_fine(options.decoder, spec.decoder_blocks):
            self.upsamplings.append(_upsampling(spec.strides[stage + 1]))
            if stage > 0:
                self.attentions.append(
                    skip_attention(options.attention, spec.features[stage], spec.dimensions)
                )
                inputs += spec.features[stage]
            self.decoder.append(_convolutions(inputs, features, blocks, spec.kernels[stage], options.norm))
            inputs = features
        self.head = convolution(inputs, outputs, [1] * spec.dimensions)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *size) of images (b, channels, *size) of any size.

        Raises:
            UsageError: Batch normalisation would see a single value per channel.
        """
        size = x.shape[2:]
        x = fitted(x, self.divisors, self.divisors, self.norm, self.training)
        skips = self.encoder(x)
        x = skips.pop()
        for i, (upsample, stage) in enumerate(zip(self.upsamplings, self.decoder, strict=True)):
            x = upsample(x)
            # Each skip is let go of as soon as it is used; the image's own stage has none.
            if skips:
                x = torch.cat((x, self.attentions[i](skips.pop())), dim=1)
            x = stage(x)
        return cropped(self.head(x), size)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The output alone: only the finest stage has a head."""
        return [self(x)]


def efficientnet_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> EfficientNetUNet:
    """A U-Net whose encoder is an EfficientNet; see ``EfficientNetOptions``.

    Without attention, B7 and B0 have 65.4 and 5.8 million parameters in two dimensions, 77.0 and 11.0 in
    three (one channel, two outputs). MONAI's ``FlexibleUNet`` has the same encoder and counts 68.96, 7.06,
    78.67 and 11.09: among them 4.2 (B7) and 1.7 (B0) million of the ImageNet classifier, which it never
    uses; its decoder halves the features by a 1x1 convolution before each skip connection.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself or the variant.
    """
    options = options_of(spec, EfficientNetOptions)
    _check(spec, options)
    return EfficientNetUNet(spec, options, in_channels, outputs)


def _coarse_to_fine(features: Sequence[int], blocks: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Stage, features and number of convolutions of each decoder stage."""
    return zip(reversed(range(_STAGES - 1)), features, blocks, strict=True)


def _upsampling(stride: Sequence[int]) -> nn.Module:
    """To the nearest neighbour: the gradient of a linear interpolation is not repeatable on CUDA."""
    if max(stride) == 1:
        return nn.Identity()
    return nn.Upsample(scale_factor=tuple(float(s) for s in stride), mode="nearest")


def _convolutions(inputs: int, outputs: int, blocks: int, kernel: Sequence[int], norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for block in range(blocks):
        layers.append(convolution(outputs if block else inputs, outputs, kernel, bias=False))
        layers.append(normalisation(norm, outputs, len(kernel)))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _check(spec: NetworkSpec, options: EfficientNetOptions) -> None:
    """Refuse a specification that a plan edited by hand may hold."""
    check_stages(replace(spec, encoder_blocks=(1, *spec.encoder_blocks[1:])))
    features = (*options.decoder[-1:], *stage_features(options.variant))
    blocks = (0, *stage_blocks(options.variant))
    if len(spec.features) != _STAGES or len(options.decoder) != _STAGES - 1:
        problem = f"This network has {_STAGES} stages, and features for {_STAGES - 1} decoder stages."
    elif spec.features != features:
        problem = f"The features of {options.variant} with this decoder are {features}, not {spec.features}."
    elif spec.encoder_blocks != blocks:
        problem = f"The encoder blocks of {options.variant} are {blocks}, not {spec.encoder_blocks}."
    else:
        return
    raise UsageError(problem, where=spec.name, remedy="Correct the network in plan.json, or plan again.")
