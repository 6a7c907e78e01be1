"""Images of any size for networks that need divisible ones: padded before, cropped after."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def padded(image: Tensor, divisors: Sequence[int]) -> Tensor:
    """The image (b, c, *size) with its last voxels repeated behind it up to a multiple of ``divisors``."""
    missing = [-n % d for n, d in zip(image.shape[2:], divisors, strict=True)]
    if not any(missing):
        return image
    pads = [length for n in reversed(missing) for length in (0, n)]
    return F.pad(image, pads, mode="replicate")


def cropped(outputs: Tensor, size: Sequence[int]) -> Tensor:
    """Outputs (b, c, *padded) without what ``padded`` has added, (b, c, *size)."""
    for axis, n in enumerate(size, start=2):
        if outputs.shape[axis] != n:  # a cut costs a copy on the way back
            outputs = outputs.narrow(axis, 0, n)
    return outputs


def enough(size: Sequence[int], divisors: Sequence[int]) -> tuple[int, ...]:
    """What an image of a size is padded to a multiple of, so that its coarsest map has two voxels or more.

    Instance normalisation has nothing to do on a single one, and raises in training.
    """
    if all(n <= d for n, d in zip(size, divisors, strict=True)):
        return (2 * divisors[0], *divisors[1:])
    return tuple(divisors)
