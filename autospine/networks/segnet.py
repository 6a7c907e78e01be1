"""SegNet: an encoder of VGG16's convolutions, and a decoder that puts maxima back where they were found.

Badrinarayanan et al., "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation",
TPAMI 2017 39(12). How it told regions and levels of vertebrae apart with xVertSeg is not known; the two heads
are this project's choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autospine.core.errors import UsageError
from autospine.core.network_options import SegNetOptions, options_of
from autospine.core.plan import NetworkSpec
from autospine.networks.blocks import convolution, initialise
from autospine.networks.efficientnet import Norm, fitted, normalisation
from autospine.networks.fitting import cropped
from autospine.networks.unet import check_stages


class SegNet(nn.Module):
    """Convolutions and max pooling down, unpooling and convolutions up; no other skip connections.

    Args:
        spec: The network's shape; the last stage is no more than the last pooled map.
        options: Heads and normalisation.
        in_channels: Channels of the image.
        outputs: Channels that come out.
    """

    def __init__(self, spec: NetworkSpec, options: SegNetOptions, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.divisors = spec.divisors
        self.pools = spec.strides[1:]
        self.scale = tuple(n // s for n, s in zip(spec.divisors, spec.strides[-1], strict=True))
        self.norm = options.norm
        self.joint = options.heads == "region_and_level"
        self.encoder = nn.ModuleList()
        inputs = in_channels
        for features, kernel, blocks in zip(
            spec.features[:-1], spec.kernels[:-1], spec.encoder_blocks[:-1], strict=True
        ):
            self.encoder.append(_convolutions(inputs, [features] * blocks, kernel, options.norm))
            inputs = features
        self.decoder = nn.ModuleList()
        for stage, blocks in zip(reversed(range(len(spec.features) - 1)), spec.decoder_blocks, strict=True):
            features, kernel = spec.features[stage], spec.kernels[stage]
            # The last convolution gives as many features as the finer stage has; the finest's is the head.
            last = [spec.features[stage - 1]] if stage else []
            self.decoder.append(
                _convolutions(features, [features] * (blocks - 1) + last, kernel, options.norm)
            )
        self.head = convolution(spec.features[0], outputs, spec.kernels[0])
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (b, outputs, *size) of images (b, channels, *size) of any size.

        Raises:
            UsageError: Batch normalisation would see a single value per channel.
        """
        size = x.shape[2:]
        x = fitted(x, self.divisors, self.scale, self.norm, self.training)
        places = []
        for stage, pool in zip(self.encoder, self.pools, strict=True):
            x = stage(x)
            sizes = x.shape[2:]
            x, indices = max_pool(x, pool)
            places.append((indices, sizes))
        for stage in self.decoder:
            x = stage(max_unpool(x, *places.pop()))
        x = cropped(self.head(x), size)
        return joint_logits(x) if self.joint else x

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The output alone: only the finest stage has a head."""
        return [self(x)]


def segnet(spec: NetworkSpec, in_channels: int, outputs: int) -> SegNet:
    """A SegNet; see ``SegNetOptions``.

    The published one has features (64, 128, 256, 512, 512, 512), encoder blocks (2, 2, 3, 3, 3, 0) and
    decoder blocks (3, 3, 3, 2, 2), the last of which is the head: 29.45 million parameters for one channel
    and six outputs in two dimensions, with either choice of heads.

    Args:
        spec: The network's shape.
        in_channels: Channels of the image, and of a previous stage's one-hot prediction.
        outputs: Channels that come out; with a region head all are classes, there is none for the centres.

    Raises:
        UsageError: The specification contradicts itself.
    """
    options = options_of(spec, SegNetOptions)
    _check(spec)
    return SegNet(spec, options, in_channels, outputs)


def joint_logits(heads: Tensor) -> Tensor:
    """One set of logits that says what a region head and a level head say together.

    Channel 0 is the region head's logit r of being a vertebra, channels 1.. are the level head's logits.
    With p(vertebra) = sigmoid(r) and p(c | vertebra) = softmax(levels), the joint logits are::

        background    log p(no vertebra)
        level c       log p(vertebra) + log p(c | vertebra)

    They are log-probabilities that sum to one, so a softmax changes nothing and the joint cross-entropy of a
    voxel is the sum of both heads': that of the region head everywhere, plus that of the level head where
    there is a vertebra (a mean over all voxels counts the others as zero).

    The largest joint logit names a level only where p(vertebra) > 1/2, and then it is the level head's
    favourite: a level is never given where the region head sees none. The reverse does not hold. Where the
    level head hesitates, p(vertebra) p(c | vertebra) can stay below p(no vertebra) for every c though
    p(vertebra) > 1/2; with n levels it cannot above n / (n + 1).

    Args:
        heads: (b, 1 + levels, *size).

    Returns:
        Joint logits of the same shape, in float32: their sum to one does not survive bfloat16.
    """
    heads = heads.float()
    region, levels = heads[:, :1], heads[:, 1:]
    return torch.cat((F.logsigmoid(-region), F.logsigmoid(region) + F.log_softmax(levels, dim=1)), dim=1)


def max_pool(x: Tensor, stride: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The maxima of windows that do not overlap, and where they are.

    Args:
        x: (b, channels, *size).
        stride: Size of the windows per axis; divides the size.

    Returns:
        The maxima, and their flat indices within the size, both (b, channels, *size / stride).
    """
    pool = F.max_pool3d if x.dim() == 5 else F.max_pool2d
    maxima, indices = pool(x, tuple(stride), return_indices=True)
    return maxima, indices


def max_unpool(x: Tensor, indices: Tensor, size: Sequence[int]) -> Tensor:
    """Values where ``max_pool`` has found its maxima, and zeros elsewhere.

    The same as ``F.max_unpool2d`` and ``F.max_unpool3d``, which refuse to run when algorithms must be
    deterministic, also on a CPU. Windows that do not overlap give no index twice, so this is.

    Args:
        x: (b, channels, *pooled).
        indices: Of the same shape.
        size: Before pooling.

    Returns:
        (b, channels, *size).
    """
    empty = x.new_zeros(*x.shape[:2], math.prod(size))
    return empty.scatter(2, indices.flatten(2), x.flatten(2)).view(*x.shape[:2], *size)


def _convolutions(inputs: int, widths: Sequence[int], kernel: Sequence[int], norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(convolution(inputs, width, kernel))
        layers.append(normalisation(norm, width, len(kernel)))
        layers.append(nn.ReLU(inplace=True))
        inputs = width
    return nn.Sequential(*layers)


def _check(spec: NetworkSpec) -> None:
    """Refuse a specification that a plan edited by hand may hold."""
    check_stages(replace(spec, encoder_blocks=(*spec.encoder_blocks[:-1], 1)))
    if spec.encoder_blocks[-1] != 0 or spec.features[-1] != spec.features[-2]:
        raise UsageError(
            "The last stage of a SegNet is a pooled map: no blocks, and as many features as the one before.",
            where=spec.name,
            remedy="Correct the network in plan.json, or plan again.",
        )
