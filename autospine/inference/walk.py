"""From vertebra to vertebra, with a memory of those that were found.

Lessmann et al., "Iterative fully convolutional neural networks for automatic vertebra segmentation and
identification", Medical Image Analysis 53, 2019. A network outlines and names the first vertebra, from head
to foot, that its patch shows and its memory lacks. The patch is moved onto what it shows until it lies still;
the vertebra enters the memory, and the next one is looked for from the same place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autospine.core.geometry import Box, FloatArray
from autospine.core.plan import Configuration, Plan
from autospine.core.trace import Trace
from autospine.inference.instances import Instance, body_centre, merge_instances
from autospine.inference.prediction import Prediction
from autospine.inference.sliding_window import Network, mean_outputs, window_starts
from autospine.io.scratch import IN_MEMORY, Scratch
from autospine.patch_reading import centred_start, read_patch

Start = tuple[int, int, int]

#: How far air may lie from the padding, in normalised intensities: more than half precision rounds.
_AIR: Final = 0.01
#: Voxels kept around a vertebra, where its odds still matter to interpolation.
_RIM: Final = 2


@dataclass(frozen=True)
class WalkSettings:
    """When a walk stops at a vertebra, and when it goes on.

    Args:
        least_volume: mm³ that must be seen of a vertebra.
        least_voxels: Voxels that must be seen of it, where they are coarse.
        overlap: Share of a patch by which the places overlap that are looked at.
        settled: A patch that would move by fewer voxels than this lies still.
        moves: Times that it is moved, at most.
        most: Vertebrae that a scan has, at most.
        covered: Share of what is found that may be in memory already; what has more of it is no vertebra.
    """

    least_volume: float = 1000.0
    least_voxels: int = 15
    overlap: float = 0.5
    settled: float = 2.0
    moves: int = 8
    most: int = 40
    covered: float = 0.5

    def least(self, voxel_volume: float) -> int:
        """Voxels of so many mm³ that must be seen of a vertebra."""
        return max(self.least_voxels, int(np.ceil(self.least_volume / voxel_volume)))


_USUAL: Final = WalkSettings()


@dataclass(frozen=True, eq=False)
class Stop:
    """A vertebra at which a walk has stopped.

    Args:
        vertebra: The vertebra.
        whole: Probability that the scan shows all of it, as the network sees it.
    """

    vertebra: Instance
    whole: float


def walk(
    networks: Sequence[Network],
    image: NDArray[np.floating],
    trace: Trace,
    configuration: Configuration,
    plan: Plan,
    device: torch.device,
    settings: WalkSettings = _USUAL,
    scratch: Scratch = IN_MEMORY,
) -> Prediction:
    """All vertebrae of a scan as one prediction; see ``stops``.

    Vertebrae that the border cuts are kept: how much is in view of each one that reaches the border follows
    from its volume when the column is decoded.
    """
    found = stops(networks, image, trace, configuration, plan, device, settings)
    return merge_instances((stop.vertebra for stop in found), trace, plan, scratch)


def stops(
    networks: Sequence[Network],
    image: NDArray[np.floating],
    trace: Trace,
    configuration: Configuration,
    plan: Plan,
    device: torch.device,
    settings: WalkSettings = _USUAL,
) -> Iterator[Stop]:
    """Walk along the column; it ends whatever the networks say.

    Every fragment that is accepted or rejected adds voxels to the memory, a rejected one ends the stay at a
    place, and no more than ``settings.most`` are accepted.

    Args:
        networks: Modules on ``device`` in evaluation mode; each maps (b, c + 1, *patch), the last channel the
            memory, to (b, classes + 1, *patch), the last channel the logit of being in view as a whole.
        image: Shape (c, *trace.shape), previous-stage channels included.
        trace: From the scan to the image.
        configuration: Patch and padding; it is never mirrored.
        plan: Whose classes they are.
        device: Where the networks run.
        settings: When to stop and when to go on.

    Yields:
        The vertebrae, in the order they are found.
    """
    memory = np.zeros(trace.shape, dtype=bool)
    walker = _Walker(networks, image, memory, trace, configuration, plan, device, settings)
    count = 0
    for window in _places(trace, configuration.patch, settings.overlap):
        if walker.sees_air(window):
            continue
        place = window
        while count < settings.most:
            sight = walker.approach(place)
            if sight is None and place == window:
                break
            if sight is None:  # nothing more from where the walk has led: back to where it came from
                place = window
                continue
            stop = walker.remember(sight)
            if stop is None:
                break
            count += 1
            yield stop
            place = sight.start


@dataclass(frozen=True, eq=False)
class _Sight:
    """What the networks say about a patch, on the stored grid.

    Args:
        start: First voxel of the patch, which may reach over the border.
        box: What of it lies on the stored grid; all that follows is of its shape.
        outputs: Of the networks, on their device, (classes + 1, *shape).
        odds: Log-odds of belonging to the vertebra.
        fragment: The largest part of it that is not in memory.
    """

    start: Start
    box: Box
    outputs: Tensor
    odds: NDArray[np.float32]
    fragment: NDArray[np.bool_]

    @property
    def middle(self) -> FloatArray:
        """Of the fragment, in voxels of the stored grid."""
        return np.asarray(np.argwhere(self.fragment).mean(axis=0) + self.box.start)


@dataclass(frozen=True, eq=False)
class _Walker:
    """Who walks, where, and what is remembered: ``memory`` grows, bool of shape ``trace.shape``."""

    networks: Sequence[Network]
    image: NDArray[np.floating]
    memory: NDArray[np.bool_]
    trace: Trace
    configuration: Configuration
    plan: Plan
    device: torch.device
    settings: WalkSettings

    def sees_air(self, start: Start) -> bool:
        """Whether there is nothing but air in a patch."""
        padding = self.configuration.padding
        patch = read_patch(self.image, start, self.configuration.patch, padding)
        distance = np.abs(patch - np.reshape(padding, (-1, 1, 1, 1)))
        return bool((distance <= _AIR).all())

    def approach(self, start: Start) -> _Sight | None:
        """Move a patch onto the vertebra it shows; None where it shows none that is large enough."""
        sight = self._look(start)
        for _ in range(self.settings.moves):
            if sight is None:
                return None
            start = centred_start(sight.middle, self.configuration.patch)
            if max(abs(a - b) for a, b in zip(start, sight.start, strict=True)) < self.settings.settled:
                return sight
            sight = self._look(start)
        return sight

    def remember(self, sight: _Sight) -> Stop | None:
        """Put what is seen into the memory; None where most of it has been there before."""
        known = self.memory[sight.box.slices]
        found = sight.odds > 0
        covered = np.count_nonzero(known & found) / np.count_nonzero(found)
        known |= found
        return None if covered > self.settings.covered else self._stop(sight)

    def _look(self, start: Start) -> _Sight | None:
        patch = self.configuration.patch
        stop = tuple(a + n for a, n in zip(start, patch, strict=True))
        box = Box(start, stop).intersection(Box.whole(self.trace.shape))
        assert box is not None, "a place has something of the scan in it"
        outputs = mean_outputs(self.networks, self._network_input(start), [()])[0]
        outputs = outputs[(slice(None), *box.shifted(start).slices)]
        named = list(self.plan.vertebra_channels)
        others = [channel for channel in range(len(self.plan.classes)) if channel not in named]
        odds = (outputs[named].logsumexp(0) - outputs[others].logsumexp(0)).cpu().numpy()
        fragment = _largest_part((odds > 0) & ~self.memory[box.slices])
        least = self.settings.least(self.trace.stored_grid.voxel_volume)
        enough = np.count_nonzero(fragment) >= least
        return _Sight(start, box, outputs, odds, fragment) if enough else None

    def _network_input(self, start: Start) -> Tensor:
        patch, padding = self.configuration.patch, self.configuration.padding
        outside = (*padding, *(0.0,) * (len(self.image) - len(padding)))
        image = read_patch(self.image, start, patch, outside)
        memory = read_patch(self.memory, start, patch, 0)
        channels = np.concatenate([image, memory[None]]).astype(np.float32)
        return torch.from_numpy(channels)[None].to(self.device)

    def _stop(self, sight: _Sight) -> Stop:
        own = torch.from_numpy(sight.fragment).to(self.device)
        shares = sight.outputs[: len(self.plan.classes), own].softmax(0).mean(1).cpu().numpy()
        names = np.zeros(len(self.plan.classes))
        named = list(self.plan.vertebra_channels)
        names[named] = shares[named] / shares[named].sum()
        whole = float(sight.outputs[-1][own].mean().sigmoid())
        centre = body_centre(sight.fragment, sight.box, self.trace.stored_grid)
        tight = Box.around(sight.fragment)
        assert tight is not None, "a fragment has voxels"
        tight = tight.padded((_RIM,) * 3, sight.box.shape)
        box = tight.shifted([-a for a in sight.box.start])
        return Stop(Instance(box, sight.odds[tight.slices].copy(), names, centre), whole)


def _places(trace: Trace, patch: Sequence[int], overlap: float) -> Iterator[Start]:
    """Starts of patches that cover the stored scan, slab by slab from the head down."""
    starts = []
    for n, p in zip(trace.shape, patch, strict=True):
        missing = max(0, p - n)
        starts.append([start - missing // 2 for start in window_starts(n + missing, p, overlap)])
    head = trace.axes.index(0)
    for top in reversed(starts[head]):
        a, b, c = ([top] if axis == head else s for axis, s in enumerate(starts))
        yield from itertools.product(a, b, c)


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected component of a mask."""
    return np.asarray(cc3d.largest_k(mask, k=1, connectivity=26) > 0)
