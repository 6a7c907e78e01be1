"""A network's outputs for a whole case from overlapping patches with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from autospine.core.plan import Configuration
from autospine.inference.prediction import to_half

Network = Callable[[Tensor], Tensor]


def predict_outputs(
    networks: Sequence[Network],
    image: NDArray[np.floating],
    configuration: Configuration,
    device: torch.device,
    *,
    mirror: bool = True,
    overlap: float = 0.5,
) -> NDArray[np.float16]:
    """Mean outputs of several networks (the folds) over a preprocessed case.

    Args:
        networks: Modules on ``device`` in evaluation mode; each maps (b, c, *patch) to (b, channels, *patch).
        image: Shape (c, *stored shape), previous-stage channels included.
        configuration: Patch, padding and the axes that may be mirrored.
        device: Where the networks run.
        mirror: Average over all mirrorings of the permitted axes.
        overlap: Share of a patch by which neighbours overlap.

    Returns:
        Outputs of shape (channels, *stored shape), clipped to the range of half precision.
    """
    padded, inner = _pad(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)), configuration)
    weight = torch.from_numpy(gaussian_weights(configuration.patch)).to(device)
    flips = mirrorings(configuration.mirror_axes if mirror else ())
    total: Tensor | None = None
    weights = torch.zeros(padded.shape[1:], dtype=torch.float32)
    for box in windows(padded.shape[1:], configuration.patch, overlap):
        patch = _network_input(padded, box, configuration).to(device)
        outputs = mean_outputs(networks, patch, flips, vectors=configuration.centres)[0] * weight
        if total is None:
            total = _accumulator((outputs.shape[0], *padded.shape[1:]), device)
        target = total[(slice(None), *box)]
        target += outputs.reshape(target.shape).to(total.device)
        weights[box] += weight.reshape(weights[box].shape).cpu()
    assert total is not None, "a case has at least one window"
    total /= weights.to(total.device)
    return to_half(total[(slice(None), *inner)].cpu().numpy())


def _accumulator(shape: Sequence[int], device: torch.device) -> Tensor:
    """Zeros of ``shape`` on the GPU while they leave it half of its free memory, else on the CPU."""
    if device.type == "cuda" and 8 * math.prod(shape) > torch.cuda.mem_get_info(device)[0]:
        device = torch.device("cpu")
    return torch.zeros(tuple(shape), dtype=torch.float32, device=device)


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
