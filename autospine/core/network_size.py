"""Sizes of U-Nets, counted from their specification: feature maps, parameters, multiply-adds.

nnU-Net v2.8.1 judges a network's memory by the number of values that all convolutions of one forward
pass put out, and knows from experience how many fit a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autospine.core.plan import NetworkSpec


@dataclass(frozen=True)
class _Layer:
    """A convolution: its weights, how often each is applied, and its biases and normalisation."""

    weights: int
    applications: int
    extras: int


@dataclass(frozen=True)
class Size:
    """What a network takes for one patch.

    Args:
        parameters: Trainable ones.
        feature_maps: Values that its convolutions put out, all heads included.
        multiply_adds: Of one forward pass, all heads included.
    """

    parameters: int
    feature_maps: int
    multiply_adds: int


def unet_size(network: NetworkSpec, patch: Sequence[int], channels: int, outputs: int) -> Size:
    """Size of a plain or residual U-Net; ``networks.measuring.size_of`` knows those of others."""
    return Size(
        parameters(network, channels, outputs),
        feature_maps(network, patch, outputs, all_heads=True),
        multiply_adds(network, patch, channels, outputs),
    )


def family(network: NetworkSpec) -> str:
    """``"residual_unet"`` or ``"plain_unet"``; networks of other people count as plain."""
    return "residual_unet" if network.name == "residual_unet" else "plain_unet"


def stage_voxels(network: NetworkSpec, patch: Sequence[int]) -> tuple[int, ...]:
    """Voxels of each stage's feature maps for a patch of the given shape."""
    shape = list(patch)
    voxels = []
    for stride in network.strides:
        shape = [n // s for n, s in zip(shape, stride, strict=True)]
        voxels.append(math.prod(shape))
    return tuple(voxels)


def feature_maps(network: NetworkSpec, patch: Sequence[int], outputs: int, *, all_heads: bool = False) -> int:
    """Values that the convolutions put out for one patch.

    Args:
        network: A plain or residual U-Net.
        patch: Voxels along the network's axes, divisible by its divisors.
        outputs: Output channels, background included.
        all_heads: Count the outputs of every decoder stage (deep supervision) rather than the finest
            one's only, as nnU-Net does.

    Returns:
        The number of values.
    """
    voxels = stage_voxels(network, patch)
    encoder = _residual_maps if family(network) == "residual_unet" else _plain_maps
    total = encoder(network, voxels)
    for stage, blocks in enumerate(reversed(network.decoder_blocks)):
        # One more map than blocks: the transposed convolution that brings the coarser stage up.
        total += (blocks + 1) * network.features[stage] * voxels[stage]
        if all_heads or stage == 0:
            total += outputs * voxels[stage]
    return total


def multiply_adds(network: NetworkSpec, patch: Sequence[int], channels: int, outputs: int) -> int:
    """Multiply-adds of one forward pass over one patch, all heads included."""
    return sum(layer.weights * layer.applications for layer in _layers(network, patch, channels, outputs))


def parameters(network: NetworkSpec, channels: int, outputs: int) -> int:
    """Trainable parameters of a plain or residual U-Net."""
    layers = _layers(network, network.divisors, channels, outputs)
    return sum(layer.weights + layer.extras for layer in layers)


def _plain_maps(network: NetworkSpec, voxels: Sequence[int]) -> int:
    return sum(b * f * v for b, f, v in zip(network.encoder_blocks, network.features, voxels, strict=True))


def _residual_maps(network: NetworkSpec, voxels: Sequence[int]) -> int:
    total = network.features[0] * voxels[0]  # the stem
    previous = network.features[0]
    stages = zip(network.encoder_blocks, network.features, network.strides, voxels, strict=True)
    for blocks, channels, stride, count in stages:
        projected = channels != previous or max(stride) > 1
        total += (2 * blocks + projected) * channels * count
        previous = channels
    return total


def _layers(network: NetworkSpec, patch: Sequence[int], channels: int, outputs: int) -> Iterator[_Layer]:
    voxels = stage_voxels(network, patch)
    encoder = _residual_encoder if family(network) == "residual_unet" else _plain_encoder
    yield from encoder(network, voxels, channels)
    for stage, blocks in enumerate(reversed(network.decoder_blocks)):
        out, kernel = network.features[stage], math.prod(network.kernels[stage])
        below, stride = network.features[stage + 1], math.prod(network.strides[stage + 1])
        yield _Layer(below * out * stride, voxels[stage + 1], out)
        yield from _stack(2 * out, out, kernel, blocks, voxels[stage])
        yield _Layer(out * outputs, voxels[stage], outputs)


def _plain_encoder(network: NetworkSpec, voxels: Sequence[int], channels: int) -> Iterator[_Layer]:
    before = channels
    stages = zip(network.features, network.kernels, network.encoder_blocks, voxels, strict=True)
    for out, kernel, blocks, count in stages:
        yield from _stack(before, out, math.prod(kernel), blocks, count)
        before = out


def _residual_encoder(network: NetworkSpec, voxels: Sequence[int], channels: int) -> Iterator[_Layer]:
    before = network.features[0]
    yield from _stack(channels, before, math.prod(network.kernels[0]), 1, voxels[0])
    stages = zip(network.features, network.kernels, network.encoder_blocks, voxels, strict=True)
    for out, kernel, blocks, count in stages:
        yield from _stack(before, out, math.prod(kernel), 2 * blocks, count)
        if before != out:
            yield _Layer(before * out, count, 2 * out)
        before = out


def _stack(before: int, out: int, kernel: int, blocks: int, voxels: int) -> Iterator[_Layer]:
    """Convolutions with bias, each followed by a normalisation with scale and shift."""
    for block in range(blocks):
        yield _Layer((out if block else before) * out * kernel, voxels, 3 * out)
