"""Vertebrae outlined in regions around them, each told by its centre which one is meant.

The second stage of Cheng et al., "Automatic vertebrae localization and segmentation in CT with a two-stage
Dense-U-Net", Scientific Reports 2021; any network may take its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autospine.core.findings import Located
from autospine.core.geometry import Box, FloatArray, Grid
from autospine.core.plan import Configuration
from autospine.core.trace import Trace
from autospine.inference.instances import Instance, body_centre, nearest_part
from autospine.inference.sliding_window import Network, mean_outputs, mirrorings
from autospine.patch_reading import centred_start, patch_middle, read_patch
from autospine.targets import heat

#: Regions that a network is given together.
_AT_ONCE: Final = 4
#: The centre of what was outlined is believed if it lies this near, in mm, to the one that was told.
_NEAR: Final = 15.0


def outlined(
    networks: Sequence[Network],
    image: NDArray[np.floating],
    located: Sequence[Located],
    trace: Trace,
    configuration: Configuration,
    device: torch.device,
    *,
    mirror: bool = True,
) -> Iterator[Instance]:
    """Outline each vertebra that was located, in a region of one patch; its names stay as they were told.

    Args:
        networks: Modules on ``device`` in evaluation mode; each maps (b, c + 1, *patch), the last channel the
            heat of the centre, to (b, 2, *patch).
        image: Shape (c, *trace.shape), previous-stage channels included.
        located: The vertebrae.
        trace: From the scan to the image.
        configuration: Patch, padding, and the axes that may be mirrored.
        device: Where the networks run.
        mirror: Average over all mirrorings of the permitted axes.
    """
    flips = mirrorings(configuration.mirror_axes if mirror else ())
    regions = _regions(located, trace, configuration.patch)
    for first in range(0, len(regions), _AT_ONCE):
        some = regions[first : first + _AT_ONCE]
        patches = torch.stack([_network_input(image, region, configuration) for region in some])
        outputs = mean_outputs(networks, patches.to(device), flips)
        odds = (outputs[:, 1] - outputs[:, 0]).cpu().numpy()
        for region, values in zip(some, odds, strict=True):
            yield _instance(region, values, trace.stored_grid)


@dataclass(frozen=True)
class _Region:
    """A patch around a located vertebra.

    Args:
        vertebra: Which one.
        centre: Its centre in voxels of the stored grid.
        start: First voxel of the patch, which may reach over the border.
        box: What of the patch lies on the stored grid.
    """

    vertebra: Located
    centre: FloatArray
    start: tuple[int, int, int]
    box: Box


def _regions(located: Sequence[Located], trace: Trace, patch: Sequence[int]) -> list[_Region]:
    """Regions of the vertebrae near which there is something of the stored scan."""
    regions = []
    for vertebra in located:
        centre = trace.stored_grid.to_index(vertebra.centre)
        start = centred_start(centre, patch)
        stop = tuple(a + n for a, n in zip(start, patch, strict=True))
        box = Box(start, stop).intersection(Box.whole(trace.shape))
        if box is not None:
            regions.append(_Region(vertebra, centre, start, box))
    return regions


def _network_input(image: NDArray[np.floating], region: _Region, configuration: Configuration) -> Tensor:
    """The region's patch and the heat of its centre, (c + 1, *patch)."""
    patch = configuration.patch
    padding = (*configuration.padding, *(0.0,) * (len(image) - len(configuration.padding)))
    values = read_patch(image, region.start, patch, padding).astype(np.float32)
    point = torch.tensor(region.centre - patch_middle(region.start, patch), dtype=torch.float32)
    spacing = [s for s in configuration.spacing if s is not None]
    return torch.cat([torch.from_numpy(values), heat(point.view(1, 1, 3), patch, spacing)])


def _instance(region: _Region, odds: NDArray[np.float32], grid: Grid) -> Instance:
    """What was outlined, with the centre of its body, or the one that was told if that is far away."""
    box, told = region.box, region.centre
    inside = odds[box.shifted(region.start).slices]
    a, b, c = (float(v) for v in told)
    centre = (a, b, c)
    if (likely := inside > 0).any():
        own = nearest_part(likely, told - box.start, grid.spacing)
        found = body_centre(own, box, grid)
        if np.linalg.norm((np.asarray(found) - told) * grid.spacing) <= _NEAR:
            centre = found
    return Instance(box, inside, np.asarray(region.vertebra.names), centre)
