"""What the centre channels of a network are to say: where bodies have their centres, voxel by voxel.

Targets are made on the training device from the augmented labels and the equally moved centres, so that
no vector field has to be rotated, scaled or interpolated. NaN stands where nothing is to be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

#: mm that one unit of a network's vectors stands for; keeps outputs in the range that training starts in.
VECTOR_UNIT: Final = 10.0
#: Standard deviation of the heat around a centre in mm, and the least one in voxels of the coarsest axis.
_HEAT_MM: Final = 6.0
_HEAT_VOXELS: Final = 1.2


def centre_targets(labels: Tensor, points: Tensor, spacing: Sequence[float]) -> Tensor:
    """Heat of, and vectors to, the centres of the vertebral bodies.

    The heat is ``max_k exp(-|x - c_k|² / 2 sigma²)`` over all centres c_k of a sample. A labelled voxel's
    vector leads to the centre of its own vertebra.

    Args:
        labels: Class indices (b, *patch); 0 is background, below 0 nothing is known.
        points: Each class's centre as an offset in voxels from the patch's middle, (b, classes, d); NaN
            for classes that the sample does not show.
        spacing: mm along the patch's axes.

    Returns:
        float32 of shape (b, 1 + d, *patch): heat in 0..1, NaN where labels are below 0; vectors in units
        of ``VECTOR_UNIT`` mm, NaN on voxels without a known centre.
    """
    hot = heat(points, labels.shape[1:], spacing)
    hot.masked_fill_(labels < 0, torch.nan)
    own = _own_centres(labels, points * points.new_tensor(list(spacing)))
    places = [_places(n, s, points) for n, s in zip(labels.shape[1:], spacing, strict=True)]
    for axis, place in enumerate(places):
        shape = [1] * len(places)
        shape[axis] = -1
        own[:, axis] -= place.view(shape)
    return torch.cat([hot.unsqueeze(1), own / VECTOR_UNIT], dim=1)


def heat(points: Tensor, patch: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Largest of the Gaussians around the points of each sample, ``heat_sigma`` mm wide.

    Args:
        points: Offsets in voxels from the patch's middle (b, n, d); NaN for points that there are not.
        patch: Voxels along the patch's axes.
        spacing: mm along the patch's axes.

    Returns:
        Shape (b, *patch), of the points' type; zero in samples without a point.
    """
    places = [_places(n, s, points) for n, s in zip(patch, spacing, strict=True)]
    centres = points * points.new_tensor(list(spacing))
    return torch.stack([_heat(sample, places, heat_sigma(spacing)) for sample in centres])


def heat_sigma(spacing: Sequence[float]) -> float:
    """Standard deviation in mm of the heat around a centre: coarse voxels need a wider one."""
    return max(_HEAT_MM, _HEAT_VOXELS * max(spacing))


def _places(length: int, spacing: float, like: Tensor) -> Tensor:
    """Offsets in mm of an axis's voxels from the middle of the patch."""
    return (torch.arange(length, device=like.device, dtype=like.dtype) - (length - 1) / 2) * spacing


def _heat(centres: Tensor, places: Sequence[Tensor], sigma: float) -> Tensor:
    """Largest of the Gaussians around a sample's centres (classes, d) in mm; zero where there is none."""
    result = centres.new_zeros([len(place) for place in places])
    for centre in centres[centres.isfinite().all(1)]:
        profiles = [
            torch.exp(-((place - c) ** 2) / (2 * sigma**2)) for place, c in zip(places, centre, strict=True)
        ]
        heat = profiles[0]
        for profile in profiles[1:]:
            heat = heat.unsqueeze(-1) * profile
        torch.maximum(result, heat, out=result)
    return result


def _own_centres(labels: Tensor, centres: Tensor) -> Tensor:
    """Centre in mm (b, d, *patch) of each voxel's class; NaN on background and where nothing is known."""
    table = centres.clone()
    table[:, 0] = torch.nan
    index = labels.clamp(min=0).long().flatten(1)
    own = torch.stack([t.index_select(0, i) for t, i in zip(table, index, strict=True)])
    return own.transpose(1, 2).reshape(len(labels), -1, *labels.shape[1:]).contiguous()
