"""What one batch's augmentation is made of, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from autospine.augmentation.affine import (
    Floats,
    affine_matrices,
    reached_margins,
    rotation_limits,
    turns_in_plane,
)
from autospine.core.plan import Augmentation, Configuration


@dataclass(frozen=True)
class CascadeParameters:
    """How the classes that a previous stage predicted are damaged; (b, classes - 1) throughout.

    Args:
        order: Foreground classes, from 1, in the order they are worked on.
        operation: Index into `cascade.OPERATIONS`, -1 for none; column k belongs to ``order``'s k-th class.
        radius: Of the operation's ball, voxels.
        removal: Which connected component is removed, as a fraction of those eligible; negative for none.
        removal_size: Largest share of the patch that a removed component may cover.
    """

    order: Tensor
    operation: Tensor
    radius: Tensor
    removal: Tensor
    removal_size: float


@dataclass(frozen=True)
class Parameters:
    """What was drawn for a batch of b samples of c channels and d axes. All tensors are on the CPU.

    A value that changes nothing (identity, zero or one, as it may be) stands where nothing was drawn.

    Args:
        patch: Size of the final patch.
        padding: Normalised intensity outside the patch that was loaded, per channel.
        moved: Which samples are rotated or scaled (b,).
        matrix: From a voxel's offset to the centre of the final patch to the one to the centre of the
            loaded patch (b, d, d).
        noise: Standard deviation of additive Gaussian noise (b,).
        noise_seed: Seed of that noise (b,).
        blur: Standard deviation of a Gaussian filter, voxels (b, c, d).
        brightness: Factor of the intensities (b, c).
        contrast: Factor of the deviation from the mean intensity (b, c).
        zoom: Size of a simulated low resolution relative to the patch (b, c, d).
        inverted_gamma: Exponent on the inverted intensities (b, c).
        gamma: Exponent on the intensities (b, c).
        mirror: Which axes are reversed (b, d).
        cascade: Damage to a previous stage's classes; None without one.
    """

    patch: tuple[int, ...]
    padding: tuple[float, ...]
    moved: Tensor
    matrix: Tensor
    noise: Tensor
    noise_seed: Tensor
    blur: Tensor
    brightness: Tensor
    contrast: Tensor
    zoom: Tensor
    inverted_gamma: Tensor
    gamma: Tensor
    mirror: Tensor
    cascade: CascadeParameters | None


def draw_parameters(
    configuration: Configuration, batch_size: int, generator: Generator, classes: int | None = None
) -> Parameters:
    """Draw what happens to one batch.

    The number of random values drawn depends on the arguments only, never on the values themselves.

    Args:
        configuration: Patch, spacing, padding and mirrored axes; its schedule holds the augmentation.
        batch_size: Number of samples.
        generator: Random source, on the CPU.
        classes: Number of classes, background included, for a configuration with a previous stage.
    """
    a = configuration.schedule.augmentation
    draw = _Draw(generator)
    b, c, d = batch_size, len(configuration.padding), configuration.dimensions
    slices = 2 * configuration.context + 1  # neighbouring slices change alike
    moved, matrix = _spatial(configuration, b, draw)
    per_channel = a.per_channel_probability
    noise = draw.chance((b,), a.noise_probability) * draw.uniform((b,), a.noise)
    noise_seed = torch.randint(2**31, (b,), generator=generator)
    blurred = draw.chance((b, 1), a.blur_probability) & draw.chance((b, c), per_channel)
    blur = blurred[..., None] * draw.uniform((b, c, d), a.blur)
    brightness = draw.factors(b, c, a.brightness_probability, a.brightness)
    contrast = draw.factors(b, c, a.contrast_probability, a.contrast)
    coarse = draw.chance((b, 1), a.low_resolution_probability) & draw.chance((b, c), per_channel)
    zoom = np.where(coarse, draw.uniform((b, c), a.low_resolution), np.float32(1))
    zoom = np.repeat(zoom[..., None], d, axis=2)
    if turns_in_plane(configuration):
        zoom[..., 0] = 1

    def per_slice(values: Floats) -> Tensor:
        return torch.from_numpy(np.concatenate([values] * slices, axis=1))

    return Parameters(
        configuration.patch,
        configuration.padding * slices,
        torch.from_numpy(moved),
        torch.from_numpy(matrix),
        torch.from_numpy(noise),
        noise_seed,
        per_slice(blur),
        per_slice(brightness),
        per_slice(contrast),
        per_slice(zoom),
        inverted_gamma=per_slice(draw.factors(b, c, a.inverted_gamma_probability, a.gamma)),
        gamma=per_slice(draw.factors(b, c, a.gamma_probability, a.gamma)),
        mirror=torch.from_numpy(draw.chance((b, d), a.mirror_probability) & _listed(configuration, d)),
        cascade=None if classes is None else _cascade(a, b, classes - 1, draw),
    )


def draw_margins(
    configuration: Configuration, batch_size: int, generator: Generator
) -> list[tuple[int, ...]]:
    """How much to load around each final patch of the batch that `draw_parameters` draws.

    Args:
        configuration: As for `draw_parameters`.
        batch_size: As for `draw_parameters`.
        generator: In the state in which `draw_parameters` gets it.

    Returns:
        Voxels on either side of each of d axes, for each sample; 0 for those neither rotated nor scaled.
    """
    _, matrix = _spatial(configuration, batch_size, _Draw(generator))  # drawn before everything else
    return reached_margins(configuration, matrix)


@dataclass(frozen=True)
class _Draw:
    """Random values from one generator; in numpy, which is quicker with few values than torch."""

    generator: Generator

    def uniform(self, shape: tuple[int, ...], bounds: tuple[float, float]) -> Floats:
        low, high = bounds
        return (low + (high - low) * self._unit(shape)).astype(np.float32, copy=False)

    def chance(self, shape: tuple[int, ...], probability: float) -> NDArray[np.bool_]:
        chosen: NDArray[np.bool_] = self._unit(shape) < probability
        return chosen

    def factors(self, b: int, c: int, probability: float, bounds: tuple[float, float]) -> Floats:
        """Factors (b, c) with as many below one as above, whatever the bounds; one where none is drawn."""
        low, high = bounds
        below = self.chance((b, c), 0.5) & (low < 1)
        shrink = self.uniform((b, c), (low, min(high, 1.0)))
        grow = self.uniform((b, c), (max(low, 1.0), high))
        drawn = self.chance((b, 1), probability)
        return np.where(drawn, np.where(below, shrink, grow), np.float32(1))

    def _unit(self, shape: tuple[int, ...]) -> Floats:
        values: Floats = torch.rand(shape, generator=self.generator).numpy()
        return values


def _spatial(configuration: Configuration, b: int, draw: _Draw) -> tuple[NDArray[np.bool_], Floats]:
    a = configuration.schedule.augmentation
    limits = np.radians(np.array(rotation_limits(configuration), dtype=np.float32))
    rotated = draw.chance((b, 1), a.rotation_probability)
    angles = rotated * limits * draw.uniform((b, len(limits)), (-1, 1))
    scaled = draw.chance((b,), a.scale_probability)
    scale = np.where(scaled, draw.uniform((b,), a.scale), np.float32(1))
    return rotated[:, 0] | scaled, affine_matrices(configuration, angles, scale)


def _cascade(a: Augmentation, b: int, classes: int, draw: _Draw) -> CascadeParameters:
    shape = (b, classes)
    low, high = a.cascade_radius
    applied = draw.chance((b, 1), a.cascade_morphology_probability) & draw.chance(
        shape, a.cascade_label_probability
    )
    removed = draw.chance((b, 1), a.cascade_removal_probability) & draw.chance(
        shape, a.cascade_label_probability
    )
    operation = torch.randint(4, shape, generator=draw.generator)
    return CascadeParameters(
        order=1 + torch.rand(shape, generator=draw.generator).argsort(1),
        operation=torch.where(torch.from_numpy(applied), operation, -1),
        radius=torch.randint(low, high + 1, shape, generator=draw.generator),
        removal=torch.from_numpy(np.where(removed, draw.uniform(shape, (0, 1)), np.float32(-1))),
        removal_size=a.cascade_removal_size,
    )


def _listed(configuration: Configuration, dimensions: int) -> NDArray[np.bool_]:
    return np.array([axis in configuration.mirror_axes for axis in range(dimensions)])
