"""A network's outputs for a whole case from overlapping patches with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from autospine.core.plan import Configuration
from autospine.io.scratch import IN_MEMORY, Scratch

Network = Callable[[Tensor], Tensor]

#: Every how manieth voxel tells in most windows that they have contrast.
_SPARSE: Final = 997


def predict_outputs(
    networks: Sequence[Network],
    image: NDArray[np.floating],
    configuration: Configuration,
    device: torch.device,
    *,
    mirror: bool = True,
    overlap: float = 0.5,
    scratch: Scratch = IN_MEMORY,
) -> NDArray[np.float16]:
    """Mean outputs of several networks (the folds) over a preprocessed case.

    Windows are gone through row by row along the first axis; single-precision sums exist for one row only.

    Args:
        networks: Modules on ``device`` in evaluation mode; each maps (b, c, *patch) to (b, channels, *patch).
        image: Shape (c, *stored shape), previous-stage channels included.
        configuration: Patch, padding and the axes that may be mirrored.
        device: Where the networks run.
        mirror: Average over all mirrorings of the permitted axes.
        overlap: Share of a patch by which neighbours overlap.
        scratch: Where the outputs go.

    Returns:
        Outputs of shape (channels, *stored shape), clipped to the range of half precision.

    Raises:
        StorageError: The outputs go to a disk that refuses.
    """
    padded, inner = _pad(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)), configuration)
    shape = tuple(padded.shape[1:])
    weight = torch.from_numpy(gaussian_weights(configuration.patch)).to(device)
    flips = mirrorings(configuration.mirror_axes if mirror else ())
    ask = _Windows(networks, flips, configuration, padded, _near(padded, device), device)
    rows = [list(row) for _, row in itertools.groupby(windows(shape, configuration.patch, overlap), _row)]
    sums: RowSums | None = None
    result: NDArray[np.float16] | None = None
    for row, following in itertools.zip_longest(rows, rows[1:]):
        for box in row:
            outputs = ask(box)
            if sums is None or result is None:
                depth = row[0][0].stop - row[0][0].start
                sums = RowSums.of(len(outputs), (depth, *shape[1:]), device)
                result = scratch.empty((len(outputs), *image.shape[1:]), np.float16)
            sums.add(outputs, weight, box)
        assert sums is not None, "a row has at least one window"
        assert result is not None, "it is made with the sums"
        first, last = row[0][0].start, following[0][0].start if following else shape[0]
        _store(sums.finished(last - first), first, inner, result)
    assert result is not None, "a case has at least one window"
    return result


@dataclass(frozen=True)
class _Windows:
    """Asks the networks about one window after the other.

    What they say about a window without any contrast, such as one full of air, depends on its intensity
    alone and is asked for only once.

    Args:
        networks: On ``device``.
        flips: See ``mirrorings``.
        configuration: Theirs.
        image: The padded case (c, *shape), on the CPU.
        near: The same on ``device`` if there is room, else ``image``.
        device: Where the networks run.
    """

    networks: Sequence[Network]
    flips: Sequence[tuple[int, ...]]
    configuration: Configuration
    image: Tensor
    near: Tensor
    device: torch.device
    _plain: dict[tuple[float, ...], Tensor] = field(default_factory=dict)

    def __call__(self, box: tuple[slice, ...]) -> Tensor:
        """Mean outputs (channels, *patch) for a window."""
        # On the CPU, for the answer decides what is done next, and a GPU would have to be waited for.
        intensities = _without_contrast(_network_input(self.image, box, self.configuration))
        if intensities is None:
            return self._ask(box)
        if intensities not in self._plain:
            self._plain.clear()  # one is enough: air has the same intensity everywhere
            self._plain[intensities] = self._ask(box)
        return self._plain[intensities]

    def _ask(self, box: tuple[slice, ...]) -> Tensor:
        patch = _network_input(self.near, box, self.configuration).to(self.device)
        return mean_outputs(self.networks, patch, self.flips, vectors=self.configuration.centres)[0]


def _near(image: Tensor, device: torch.device) -> Tensor:
    """The image on the GPU while it leaves three quarters of its free memory, else where it is."""
    if device.type == "cuda" and 4 * image.nbytes < _free(device):
        return image.to(device)
    return image


def _without_contrast(patch: Tensor) -> tuple[float, ...] | None:
    """The intensity of each channel of (1, c, *patch) if each has only one, else None."""
    flat = patch.flatten(2)[0]
    first = flat[:, :1]
    # Most windows are told by a few voxels; only what these leave open is looked at whole.
    if not torch.equal(flat[:, ::_SPARSE], first.expand(-1, len(range(0, flat.shape[1], _SPARSE)))):
        return None
    return tuple(first[:, 0].tolist()) if torch.equal(flat, first.expand_as(flat)) else None


@dataclass(frozen=True)
class RowSums:
    """Weighted sums over the windows that overlap one row, in single precision.

    Args:
        outputs: Shape (channels, depth, *the other axes).
        weights: Shape (depth, *the other axes).
    """

    outputs: Tensor
    weights: Tensor

    @classmethod
    def of(cls, channels: int, shape: tuple[int, ...], device: torch.device) -> RowSums:
        """Zeros, on the GPU while they leave it half of its free memory, else on the CPU."""
        size = 4 * (channels + 1) * math.prod(shape)
        if device.type == "cuda" and 2 * size > _free(device):
            device = torch.device("cpu")
        return cls(torch.zeros((channels, *shape), device=device), torch.zeros(shape, device=device))

    def add(self, outputs: Tensor, weight: Tensor, box: tuple[slice, ...]) -> None:
        """Add a window's outputs (channels, *patch), weighted by (*patch), at its place beside the others."""
        place = (slice(None), *box[1:])
        target = self.outputs[(slice(None), *place)]
        outputs, weight = outputs.to(target.device), weight.to(target.device).reshape(target.shape[1:])
        target.addcmul_(outputs.reshape(target.shape), weight)
        self.weights[place] += weight

    def finished(self, depth: int) -> Tensor:
        """Mean outputs (channels, depth, …) of the first slices, which no later window overlaps.

        The sums move on by as many slices.
        """
        mean = self.outputs[:, :depth] / self.weights[:depth]
        for sums, axis in ((self.outputs, 1), (self.weights, 0)):
            kept = sums.shape[axis] - depth
            # Slice by slice from the front, so that nothing is written before it has been read.
            for i in range(kept):
                sums.select(axis, i).copy_(sums.select(axis, i + depth))
            sums.narrow(axis, kept, depth).zero_()
        return mean


def _free(device: torch.device) -> int:
    """Bytes of a GPU's memory that can still be had, those that torch has reserved without need included."""
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserved


def _row(box: tuple[slice, ...]) -> int:
    return int(box[0].start)


def _store(outputs: Tensor, first: int, inner: tuple[slice, ...], result: NDArray[np.float16]) -> None:
    """Write finished slices, which start at ``first`` of the padded case, as far as they are of the case."""
    start, stop = max(first, inner[0].start), min(first + outputs.shape[1], inner[0].stop)
    if start < stop:
        part = outputs[(slice(None), slice(start - first, stop - first), *inner[1:])]
        into = slice(start - inner[0].start, stop - inner[0].start)
        limit = float(np.finfo(np.float16).max)
        result[:, into] = part.clamp_(-limit, limit).half().cpu().numpy()


def windows(shape: Sequence[int], patch: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Boxes that cover an array of ``shape``: every slice of the leading axes, patches along the others.

    Windows are evenly spaced, at most ``1 - overlap`` of a patch apart, and end at the borders.
    """
    lead = len(shape) - len(patch)
    starts: list[list[int]] = [list(range(n)) for n in shape[:lead]]
    starts += [window_starts(n, p, overlap) for n, p in zip(shape[lead:], patch, strict=True)]
    sizes = (*(1,) * lead, *patch)
    for corner in itertools.product(*starts):
        yield tuple(slice(a, a + n) for a, n in zip(corner, sizes, strict=True))


def window_starts(length: int, patch: int, overlap: float) -> list[int]:
    """Evenly spaced starts of windows along one axis of at least ``patch`` voxels (nnU-Net's rule)."""
    steps = math.ceil((length - patch) / (patch * (1 - overlap))) + 1
    if steps == 1:
        return [0]
    return [round((length - patch) / (steps - 1) * i) for i in range(steps)]


def row_depth(shape: Sequence[int], patch: Sequence[int], overlap: float = 0.5) -> tuple[int, int]:
    """Slices of a row of windows over a case of ``shape``, and by how many rows follow each other at most."""
    if len(patch) < len(shape):
        return 1, 1
    depth = patch[0]
    starts = window_starts(max(depth, shape[0]), depth, overlap)
    return depth, max([depth] if len(starts) == 1 else [b - a for a, b in itertools.pairwise(starts)])


@lru_cache(maxsize=8)
def gaussian_weights(patch: tuple[int, ...]) -> NDArray[np.float32]:
    """Weight of each voxel of a patch: a Gaussian of sigma patch / 8 with maximum 10, nowhere zero."""
    impulse = np.zeros(patch, dtype=np.float64)
    impulse[tuple(n // 2 for n in patch)] = 1
    weight = ndimage.gaussian_filter(impulse, [n / 8 for n in patch], mode="constant")
    weight *= 10 / weight.max()
    weight[weight == 0] = weight[weight > 0].min()
    return np.asarray(weight, dtype=np.float32)


def mirrorings(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of the mirrored axes, as dimensions of a (b, c, *patch) tensor."""
    return [
        tuple(axis + 2 for axis in chosen)
        for count in range(len(axes) + 1)
        for chosen in itertools.combinations(axes, count)
    ]


def mean_outputs(
    networks: Sequence[Network], patches: Tensor, flips: Sequence[tuple[int, ...]], *, vectors: bool = False
) -> Tensor:
    """Mean over networks and mirrorings.

    Args:
        networks: Each maps (b, c, *patch) to (b, channels, *patch).
        patches: Shape (b, c, *patch).
        flips: Dimensions to mirror, see ``mirrorings``; the empty mirroring is always among them.
        vectors: Whether the last channels are the components of a vector.

    Returns:
        Single precision, (b, channels, *patch).
    """
    axes = patches.ndim - 2
    total: Tensor | None = None
    for flip in flips:
        view = patches.flip(flip) if flip else patches
        for network in networks:
            # Sums in single precision: half precision overflows where many logits agree.
            out = network(view).float()
            out = out.flip(flip) if flip else out
            for axis in flip if vectors else ():
                out[:, axis - 2 - axes].neg_()  # what points left points right in the mirror
            total = out if total is None else total.add_(out)
    assert total is not None, "the empty mirroring is always among the flips"
    return total / (len(flips) * len(networks))


def _network_input(image: Tensor, box: tuple[slice, ...], configuration: Configuration) -> Tensor:
    """A window of (c, *shape) as the network takes it, (1, channels, *patch).

    A 2D configuration's window is one slice, and the network takes it without the slice axis; its neighbours
    come as further channels of the image, but not of what a previous stage has said.
    """
    window = image[(slice(None), *box)]
    if configuration.context:
        scan = image[: len(configuration.padding)]
        reach = range(-configuration.context, configuration.context + 1)
        slices = [_slice(scan, box[0].start + offset, box[1:], configuration.padding) for offset in reach]
        window = torch.cat([*slices, window[len(scan) :, 0]])
    return window.reshape(1, -1, *configuration.patch)


def _slice(scan: Tensor, index: int, box: tuple[slice, ...], padding: Sequence[float]) -> Tensor:
    """Part of a slice of (c, z, y, x); outside the scan there is padding."""
    rows, columns = box
    if 0 <= index < scan.shape[1]:
        return scan[:, index, rows, columns]
    outside = scan.new_tensor(list(padding)).view(-1, 1, 1)
    return outside.expand(-1, rows.stop - rows.start, columns.stop - columns.start)


def _pad(image: Tensor, configuration: Configuration) -> tuple[Tensor, tuple[slice, ...]]:
    """Pad a case that is smaller than the patch, evenly on both sides; returns where the case lies."""
    lead = image.ndim - 1 - len(configuration.patch)
    size = [*image.shape[1 : 1 + lead], *configuration.patch]
    missing = [max(0, n - m) for n, m in zip(size, image.shape[1:], strict=True)]
    before = [m // 2 for m in missing]
    inner = tuple(slice(b, b + n) for b, n in zip(before, image.shape[1:], strict=True))
    if not any(missing):
        return image, inner
    shape = [n + m for n, m in zip(image.shape[1:], missing, strict=True)]
    padded = torch.zeros((image.shape[0], *shape), dtype=image.dtype)
    for channel, value in enumerate(configuration.padding):
        padded[channel] = value
    padded[(slice(None), *inner)] = image
    return padded, inner
