"""The class index each voxel is to get: of the vertebra, of vertebrae as such, or of balls around centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

#: Radius in mm of the ball around a body's centre, and the least one in voxels of the coarsest axis.
_BALL_MM: Final = 6.0
_BALL_VOXELS: Final = 1.5
#: Voxels around a label within which the background counts as near.
_NEAR: Final = 10
_UNKNOWN: Final = -1


def foreground_labels(labels: Tensor, channels: Sequence[int]) -> Tensor:
    """1 where a label is one of ``channels``, 0 elsewhere; labels below 0 stay.

    Args:
        labels: Class indices, int8, of any shape.
        channels: Classes taken as one.
    """
    joined = torch.isin(labels, torch.tensor(list(channels), dtype=labels.dtype, device=labels.device))
    return torch.where(labels < 0, labels, joined.to(labels.dtype))


def ball_labels(labels: Tensor, points: Tensor, spacing: Sequence[float]) -> Tensor:
    """Each class as a ball around its centre, wherever that reaches; nothing else is labelled.

    A slice beside the centre shows a disc, so that even one that misses all centres has something to learn
    ("dense labels", Cheng et al., Scientific Reports 2021). The nearest centre wins where balls overlap.

    Args:
        labels: Class indices (b, *patch), int8; voxels below 0 stay as they are.
        points: Each class's centre as an offset in voxels from the patch's middle, (b, classes, 3), the
            first component across the slices of a 2D patch; NaN for classes that the sample does not show.
        spacing: mm along the three stored axes.

    Returns:
        Class indices (b, *patch), int8.
    """
    mm = points.new_tensor(list(spacing))
    radius = max(_BALL_MM, _BALL_VOXELS * max(spacing))
    sizes = (1,) * (4 - labels.ndim) + labels.shape[1:]
    axes = [
        (torch.arange(n, device=points.device, dtype=points.dtype) - (n - 1) / 2) * s
        for n, s in zip(sizes, spacing, strict=True)
    ]
    result = torch.zeros_like(labels).view(len(labels), *sizes)
    for sample, centres in zip(result, points * mm, strict=True):
        nearest = torch.full(sizes, radius**2, device=points.device, dtype=points.dtype)
        for channel in centres.isfinite().all(1).nonzero().flatten().tolist():
            distance = _squared_distance(axes, centres[channel])
            closer = distance < nearest
            sample[closer] = channel
            nearest = torch.minimum(nearest, distance)
    return torch.where(labels < 0, labels, result.view_as(labels))


def undersampled(labels: Tensor, near: float, generator: torch.Generator) -> Tensor:
    """Leave out, at random, background that outnumbers the labelled voxels of a batch.

    As many voxels of the background stay as are labelled (in expectation, but at least one in a hundred of
    all voxels, for a batch without labels has to be learnt from as well).

    Args:
        labels: Class indices (b, *patch), int8; below 0 is left out already.
        near: Share of what stays of the background that lies within ten voxels of a label.
        generator: Random source, on the CPU.

    Returns:
        The same with -1 where a voxel is left out.
    """
    foreground, background = labels > 0, labels == 0
    close = background & _dilated(foreground, _NEAR)
    far = background & ~close
    wanted = max(int(foreground.sum()), labels.numel() // 100)
    there = int(close.sum()), int(far.sum())
    # What one part lacks the other gives.
    from_far = min((1 - near) * wanted, there[1])
    from_close = min(wanted - from_far, there[0])
    from_far = min(wanted - from_close, there[1])
    chance = torch.zeros(labels.shape, device=labels.device)
    for part, share, count in ((close, from_close, there[0]), (far, from_far, there[1])):
        chance[part] = share / max(count, 1)
    dropped = background & (torch.rand(labels.shape, generator=generator).to(labels.device) >= chance)
    return labels.masked_fill(dropped, _UNKNOWN)


def _squared_distance(axes: Sequence[Tensor], centre: Tensor) -> Tensor:
    total = centre.new_zeros(())
    for axis, place in enumerate(axes):
        shape = [1] * len(axes)
        shape[axis] = -1
        total = total + ((place - centre[axis]) ** 2).view(shape)
    return total


def _dilated(mask: Tensor, radius: int) -> Tensor:
    """A mask (b, *patch) grown by ``radius`` voxels along every axis."""
    pool = F.max_pool3d if mask.ndim == 4 else F.max_pool2d
    grown = mask.unsqueeze(1).float()
    for axis in range(mask.ndim - 1):  # one axis after the other: a large window at once is slow
        window, padding = [1] * (mask.ndim - 1), [0] * (mask.ndim - 1)
        window[axis], padding[axis] = 2 * radius + 1, radius
        grown = pool(grown, window, 1, padding)
    return grown.squeeze(1) > 0
