"""The Unbalanced-UNet: a U-Net whose encoder is heavier than its decoder.

No publication of that name could be found; what stands here is this project's design. Most of the time of
a U-Net goes into the finest stages, where a decoder's convolutions see twice the encoder's channels: one
convolution there, and half the width, make inference fast, and more convolutions in the encoder pay for it.
"""

from __future__ import annotations

from torch import nn

from autospine.core.errors import UsageError
from autospine.core.network_options import UnbalancedOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.attention import skip_attention
from autospine.networks.blocks import ResidualBlock
from autospine.networks.unet import Decoder, Join, Size, UNet, check_stages, conv_stage, encoder_stages


def unbalanced_unet(spec: NetworkSpec, in_channels: int, outputs: int) -> UNet:
    """A U-Net with ``spec.encoder_blocks`` and ``spec.decoder_blocks`` convolutions per stage.

    Args:
        spec: The network's shape; its options are ``UnbalancedOptions``. The decoder may also be the
            heavier half.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out.

    Raises:
        UsageError: The specification contradicts itself.
    """
    check_stages(spec)
    options = options_of(spec, UnbalancedOptions)
    if options.decoder_width <= 0:
        raise UsageError(
            f"{spec.name}'s decoder has the width {options.decoder_width:g}.",
            remedy="Give the option decoder_width a positive share of the encoder's features.",
        )

    def join(_channels: int, skip: int, dimensions: int) -> Join:
        return Join(skip_attention(options.attention, skip, dimensions))

    features = tuple(max(1, round(f * options.decoder_width)) for f in spec.features[:-1])
    encoder = encoder_stages(spec, in_channels, paired_stage if options.residual else conv_stage)
    return UNet(spec, encoder, outputs, Decoder(features, join=join))


def paired_stage(inputs: int, outputs: int, kernel: Size, convolutions: int, stride: Size) -> nn.Sequential:
    """As many convolutions as ``conv_stage`` has, but with additions around pairs of them.

    The first convolution changes resolution and width, so nothing can be added around it; of the others
    each two are a residual block, and one that is left over stays plain. Fewer than three convolutions
    thus have no addition, and an addition has no weights.
    """
    plain = 2 - convolutions % 2
    stage = conv_stage(inputs, outputs, kernel, plain, stride)
    stage.extend(ResidualBlock(outputs, outputs, kernel) for _ in range((convolutions - 1) // 2))
    return stage
