"""Noise, blur, brightness, contrast, low resolution and gamma.

Each function works in place on the channels that its parameters single out, and touches no other.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from autospine.augmentation.parameters import Parameters

#: Standard deviations after which a Gaussian is cut off, and the smallest range that is divided by.
_TRUNCATE: Final = 3.0
_EPS: Final = 1e-7


def transform(parameters: Parameters, image: Tensor) -> None:
    """Apply all intensity transforms in their order to an image (b, c, *patch) in float32, in place."""
    add_noise(image, parameters.noise, parameters.noise_seed)
    channels = image.flatten(0, 1)
    blur(channels, parameters.blur.flatten(0, 1))
    change_brightness(channels, parameters.brightness.flatten())
    change_contrast(channels, parameters.contrast.flatten())
    lower_resolution(channels, parameters.zoom.flatten(0, 1))
    change_gamma(channels, parameters.inverted_gamma.flatten(), inverted=True)
    change_gamma(channels, parameters.gamma.flatten())


def add_noise(image: Tensor, noise: Tensor, seeds: Tensor) -> None:
    """Add Gaussian noise of standard deviation ``noise`` (b,) to the samples of (b, c, *patch)."""
    for sample in noise.nonzero().squeeze(1).tolist():
        generator = torch.Generator(image.device).manual_seed(int(seeds[sample]))
        field = torch.randn(image.shape[1:], generator=generator, device=image.device)
        image[sample].add_(field, alpha=float(noise[sample]))


def blur(channels: Tensor, sigma: Tensor) -> None:
    """Filter channels (n, *patch) with Gaussians of ``sigma`` (n, d) voxels; the border is repeated."""
    for channel in sigma.any(1).nonzero().squeeze(1).tolist():
        values = channels[channel]
        for axis, width in enumerate(sigma[channel].tolist()):
            values = _blur_axis(values, axis, width)
        channels[channel] = values


def change_brightness(channels: Tensor, factors: Tensor) -> None:
    """Multiply channels (n, *patch) by ``factors`` (n,)."""
    for channel in _changed(factors):
        channels[channel].mul_(float(factors[channel]))


def change_contrast(channels: Tensor, factors: Tensor) -> None:
    """Multiply the deviation from the mean of channels (n, *patch), without leaving their range."""
    for channel in _changed(factors):
        values = channels[channel]
        low, high = values.aminmax()
        mean = values.mean()
        values.sub_(mean).mul_(float(factors[channel])).add_(mean)
        # Unlike clamp, fast with limits that are tensors.
        torch.maximum(torch.minimum(values, high, out=values), low, out=values)


def lower_resolution(channels: Tensor, zoom: Tensor) -> None:
    """Sample channels (n, *patch) at ``zoom`` (n, d) of their voxels, and interpolate back linearly."""
    for channel in (zoom != 1).any(1).nonzero().squeeze(1).tolist():
        values = channels[channel][None, None]
        size = values.shape[2:]
        small = [max(1, round(n * z)) for n, z in zip(size, zoom[channel].tolist(), strict=True)]
        coarse = F.interpolate(values, small, mode="nearest-exact")
        mode = "trilinear" if len(size) == 3 else "bilinear"
        channels[channel] = F.interpolate(coarse, size, mode=mode, align_corners=False)[0, 0]


def change_gamma(channels: Tensor, exponents: Tensor, *, inverted: bool = False) -> None:
    """Raise channels (n, *patch), scaled to [0, 1], to ``exponents`` (n,); mean and deviation are kept.

    Args:
        channels: (n, *patch).
        exponents: (n,).
        inverted: Whether the exponent acts on the negative of the image.
    """
    for channel in _changed(exponents):
        values = channels[channel]
        if inverted:
            values.neg_()
        mean = values.mean()
        deviation = _deviation(values - mean)
        low, high = values.aminmax()
        values.sub_(low).div_((high - low).clamp(min=_EPS))
        values.log2_().mul_(float(exponents[channel])).exp2_()  # a power in half the time of pow
        values.sub_(values.mean())
        values.mul_(deviation / _deviation(values).clamp(min=_EPS)).add_(mean)
        if inverted:
            values.neg_()


def _blur_axis(values: Tensor, axis: int, sigma: float) -> Tensor:
    radius = max(1, round(_TRUNCATE * sigma))
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    length = values.shape[axis]
    # A sum of shifted copies; a convolution with one channel is no faster.
    margins = [0, 0] * (values.ndim - axis - 1) + [radius, radius] + [0, 0] * axis
    padded = F.pad(values[None, None], margins, mode="replicate")[0, 0]
    result = torch.zeros_like(values)
    for shift, weight in enumerate(weights):
        result.add_(padded.narrow(axis, shift, length), alpha=weight / sum(weights))
    return result


def _deviation(centred: Tensor) -> Tensor:
    """Standard deviation of values whose mean is zero; ``torch.std`` takes many times as long on a CPU."""
    return centred.square().mean().sqrt()


def _changed(factors: Tensor) -> list[int]:
    changed: list[int] = (factors != 1).nonzero().squeeze(1).tolist()
    return changed
