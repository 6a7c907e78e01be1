"""The arithmetic of nnU-Net v2.8.1's planning: target spacing, first patch, network topology.

Formulas follow Isensee et al., Nature Methods 2021, and version 2.8.1 of the software, down to the
rounding. Lengths are mm, shapes and spacings in array order; every function is pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.geometry import Triple
from autospine.core.plan import NetworkSpec

FloatArray = NDArray[np.float64]
#: Lengths or numbers of voxels, one per axis.
Axes = Sequence[float] | FloatArray

#: Ratio of spacings (and of sizes) beyond which an axis counts as coarse.
ANISOTROPY: Final = 3.0
#: Smallest edge of a feature map, in voxels.
MIN_EDGE: Final = 4
#: Edge of the cube (3D) or square (2D) whose voxels the first patch has, before it is cut to the data.
_FIRST_EDGE: Final = {2: 2048, 3: 256}
#: Axes whose spacing is less than this many times the finest one are pooled and convolved together.
_SIMILAR: Final = 2


@dataclass(frozen=True)
class Topology:
    """A U-Net's pooling scheme and the patch it was made for.

    Args:
        spacing: mm along the network's axes.
        patch: Voxels, divisible by ``divisors``.
        strides: Stride at the beginning of each stage; the first is all ones.
        kernels: Kernel size of each stage.
        divisors: Product of the strides along each axis.
    """

    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    divisors: tuple[int, ...]

    @property
    def stages(self) -> int:
        """Number of resolutions."""
        return len(self.strides)

    @property
    def extent(self) -> tuple[float, ...]:
        """The patch's edges in mm."""
        return tuple(n * s for n, s in zip(self.patch, self.spacing, strict=True))


def target_spacing(spacings: Sequence[Triple], shapes: Sequence[Sequence[int]]) -> FloatArray:
    """The spacing to resample to: the median, but finer along an axis of thick slices.

    Where one axis is more than ``ANISOTROPY`` times coarser than both others and has as much fewer
    voxels, its 10th percentile replaces the median, yet never drops below the other axes.

    Args:
        spacings: Of each case, mm.
        shapes: Of each case after cropping, voxels.

    Returns:
        Three values in mm.
    """
    target = np.percentile(np.asarray(spacings, dtype=float), 50, axis=0)
    size = np.percentile(np.asarray(shapes, dtype=float), 50, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    finer = max(target[others])
    if target[worst] > ANISOTROPY * finer and size[worst] * ANISOTROPY < min(size[others]):
        thin = float(np.percentile(np.asarray(spacings)[:, worst], 10))
        # The small surplus keeps this axis the coarsest one, so that it is still the first after transposing.
        target[worst] = thin if thin >= finer else finer + 1e-5
    return np.asarray(target, dtype=float)


def resampled_shape(shape: Axes, spacing: Axes, target: Axes) -> tuple[int, ...]:
    """Voxels along each axis after resampling from ``spacing`` to ``target`` mm."""
    return tuple(round(s / t * n) for n, s, t in zip(shape, spacing, target, strict=True))


def median_shape(spacings: Sequence[Triple], shapes: Sequence[Sequence[int]], target: Axes) -> FloatArray:
    """Median shape of the cases after resampling to ``target`` mm; halves occur."""
    resampled = [resampled_shape(n, s, target) for n, s in zip(shapes, spacings, strict=True)]
    return np.asarray(np.median(resampled, axis=0), dtype=float)


def coarsest_first(spacing: Axes) -> tuple[int, int, int]:
    """Axis order that puts the axis of the largest spacing in front and keeps the others' order."""
    first = int(np.argmax(spacing))
    second, third = (axis for axis in range(3) if axis != first)
    return first, second, third


def first_patch(spacing: Axes, shape: Axes) -> tuple[float, ...]:
    """A patch of the data's aspect in mm, surely larger than memory allows, cut to the median ``shape``."""
    density = 1 / np.asarray(spacing, dtype=float)
    dimensions = len(density)
    voxels = _FIRST_EDGE[dimensions] ** dimensions
    scaled = density * (voxels / np.prod(density)) ** (1 / dimensions)
    return tuple(min(round(float(a)), float(b)) for a, b in zip(scaled, shape, strict=True))


def topology(spacing: Axes, size: Axes) -> Topology:
    """Strides and kernels for a patch of about ``size`` voxels, and the patch padded up to fit them.

    An axis is halved while it keeps ``MIN_EDGE`` voxels and its spacing is less than twice that of the
    finest axis that can still be halved. A lone axis is halved only from three times ``MIN_EDGE`` on.
    A kernel spans an axis (3 rather than 1) from the stage where that axis is similar to the finest.
    """
    axes = range(len(spacing))
    mm, voxels = [float(s) for s in spacing], [float(n) for n in size]
    kernel, divisors = [1] * len(mm), [1] * len(mm)
    strides, kernels = [tuple(kernel)], []
    while pooled := _poolable(mm, voxels):
        finest = min(mm)
        kernel = [3 if k == 3 or s / finest < _SIMILAR else 1 for k, s in zip(kernel, mm, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in pooled else 1 for axis in axes))
        for axis in pooled:
            mm[axis] *= 2
            voxels[axis] = math.ceil(voxels[axis] / 2)
            divisors[axis] *= 2
    kernels.append((3,) * len(mm))
    patch = tuple(math.ceil(n / d) * d for n, d in zip(size, divisors, strict=True))
    return Topology(tuple(float(s) for s in spacing), patch, tuple(strides), tuple(kernels), tuple(divisors))


def shrunk(current: Topology, axis: int) -> Topology:
    """The next smaller patch along one axis.

    The step is the divisor of the patch one old divisor smaller, not the old divisor itself: from 256
    with divisor 64 the next patch is 224 (divisor 32), not 192.
    """
    trial: list[float] = list(current.patch)
    trial[axis] -= current.divisors[axis]
    step = topology(current.spacing, trial).divisors[axis]
    smaller = list(current.patch)
    smaller[axis] -= step
    return topology(current.spacing, smaller)


def most_generous_axis(patch: Sequence[int], shape: Axes) -> int:
    """The axis along which the patch covers the largest share of ``shape``; the last one in a tie."""
    ratios = [p / n for p, n in zip(patch, shape, strict=True)]
    return max(range(len(ratios)), key=lambda axis: (ratios[axis], axis))


def coarsened(spacing: FloatArray, factor: float = 1.03) -> FloatArray:
    """One step coarser: only the axes more than twice as fine as the coarsest, or else all of them."""
    fine = spacing.max() / spacing > _SIMILAR
    return np.where(fine, spacing * factor, spacing) if fine.any() else spacing * factor


def unet(
    name: str, shape: Topology, encoder_blocks: Sequence[int], decoder_blocks: int, base: int = 32
) -> NetworkSpec:
    """The network of a topology; features double from ``base`` up to 320 (3D) or 512 (2D).

    Args:
        name: The network's name in the registry.
        shape: Strides and kernels.
        encoder_blocks: Blocks per encoder stage; the last number repeats.
        decoder_blocks: Convolutions per decoder stage.
        base: Features of the first stage.
    """
    largest = 512 if len(shape.patch) == 2 else 320
    blocks = [*encoder_blocks, *[encoder_blocks[-1]] * shape.stages]
    return NetworkSpec(
        name=name,
        features=tuple(min(base * 2**stage, largest) for stage in range(shape.stages)),
        kernels=shape.kernels,
        strides=shape.strides,
        encoder_blocks=tuple(blocks[: shape.stages]),
        decoder_blocks=(decoder_blocks,) * (shape.stages - 1),
    )


def _poolable(mm: Sequence[float], voxels: Sequence[float]) -> list[int]:
    large: list[Any] = [axis for axis, n in enumerate(voxels) if n >= 2 * MIN_EDGE]
    if not large:
        return []
    finest = min(mm[axis] for axis in large)
    similar = [axis for axis in large if mm[axis] / finest < _SIMILAR]
    if len(similar) == 1 and voxels[similar[0]] < 3 * MIN_EDGE:
        return []
    return similar
