"""Rotation, scaling and mirroring of images and of class maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autospine.augmentation.interpolation import positions, sample_classes, sample_image
from autospine.augmentation.parameters import Parameters


def transform(
    parameters: Parameters, image: Sequence[Tensor], maps: Sequence[Sequence[Tensor]]
) -> tuple[Tensor, list[Tensor]]:
    """Rotate, scale and mirror the samples for which that was drawn; of the others, cut out the middle.

    Outside lies the padding in the image and class 0 in the maps. Images are interpolated linearly; a
    map takes the class whose indicator, interpolated linearly, is the largest. All that decides what is
    done is known to the host, so it never waits for the device.

    Args:
        parameters: What was drawn.
        image: b samples (c, *size), each of its own size.
        maps: Class maps of the same sizes, each as b samples (*size).

    Returns:
        The image (b, c, *patch) in float32 and the maps (b, *patch); none shares memory with its origin.
    """
    patch, first = parameters.patch, image[0]
    result = first.new_empty((len(image), len(first), *patch), dtype=torch.float32)
    result_maps = [classes[0].new_empty((len(classes), *patch)) for classes in maps]
    for sample, moved in enumerate(parameters.moved.tolist()):
        targets = [result[sample], *(classes[sample] for classes in result_maps)]
        sources = [image[sample], *(classes[sample] for classes in maps)]
        if moved:
            _move(parameters, sample, sources, targets)
        else:
            for source, target in zip(sources, targets, strict=True):
                cut = _centre(source, patch).to(target.dtype)  # halves are slow to reverse
                target.copy_(_mirrored(cut, parameters.mirror[sample]))
    return result, result_maps


def move_points(parameters: Parameters, points: Tensor) -> Tensor:
    """Where points of the loaded patches lie after rotation, scaling and mirroring.

    Args:
        parameters: What was drawn.
        points: Offsets in voxels from the middle of the loaded patch (b, n, d); NaN stays NaN.

    Returns:
        Offsets in voxels from the middle of the final patch, of the same shape.
    """
    # The matrix leads from the final patch to the loaded one; points go the other way.
    inverse = torch.linalg.inv(parameters.matrix).to(points)
    sign = 1 - 2 * parameters.mirror.to(points)
    moved: Tensor = (points @ inverse.transpose(1, 2)) * sign.unsqueeze(1)
    return moved


def _move(parameters: Parameters, sample: int, sources: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Sample an image (c, *size) and class maps (*size) into (c, *patch) and (*patch)."""
    image, *maps = sources
    matrix = parameters.matrix[sample] * (1 - 2 * parameters.mirror[sample].float())
    where = positions(matrix.tolist(), parameters.patch, image.shape[1:], image.device)
    for source, target, padding in zip(image, targets[0], parameters.padding, strict=True):
        sample_image(source, padding, where, target.view(-1))
    for classes, target in zip(maps, targets[1:], strict=True):
        target.copy_(sample_classes(classes, where).view_as(target))


def _centre(values: Tensor, patch: Sequence[int]) -> Tensor:
    """A view of the middle of (..., *size)."""
    for axis, length in enumerate(patch, start=values.ndim - len(patch)):
        if values.shape[axis] < length:
            raise ValueError(f"A loaded patch of shape {tuple(values.shape)} is smaller than {tuple(patch)}.")
        values = values.narrow(axis, (values.shape[axis] - length) // 2, length)
    return values


def _mirrored(values: Tensor, axes: Tensor) -> Tensor:
    """The values (..., *patch) with those axes reversed that ``axes`` (d,) marks."""
    reversed_axes = [axis - len(axes) for axis in axes.nonzero().squeeze(1).tolist()]
    return values.flip(reversed_axes) if reversed_axes else values
