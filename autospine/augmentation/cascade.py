"""Damage to what a previous stage predicted, so that a cascade learns not to trust it blindly."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from autospine.augmentation.parameters import CascadeParameters

#: What may happen to a class's mask, as turns of growing (True) and shrinking (False) by the radius.
OPERATIONS: Final = ((True,), (False,), (False, True), (True, False))


def one_hot(classes: Tensor, count: int) -> Tensor:
    """Indicators (b, count - 1, *patch), float32, of the foreground classes in maps (b, *patch)."""
    foreground = torch.arange(1, count, device=classes.device, dtype=classes.dtype)
    return (classes.unsqueeze(1) == foreground.view(-1, *[1] * (classes.ndim - 1))).float()


def transform(parameters: CascadeParameters, classes: Tensor) -> Tensor:
    """Damage class maps (b, *patch), int8, in place, and return them one-hot without background.

    First the masks of some classes are dilated, eroded, opened or closed; what a mask gains is taken from
    the other classes, what it loses becomes background. Then small components of some classes vanish.
    """
    for sample, order in enumerate(parameters.order.tolist()):
        for column, label in enumerate(order):
            operation = int(parameters.operation[sample, column])
            if operation >= 0:
                _reshape(classes[sample], label, operation, int(parameters.radius[sample, column]))
        for column, label in enumerate(order):
            choice = float(parameters.removal[sample, column])
            if choice >= 0:
                _remove_component(classes[sample], label, choice, parameters.removal_size)
    return one_hot(classes, parameters.order.shape[1] + 1)


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow a mask (*patch) by a ball of ``radius`` voxels, as exactly as squared distances are whole.

    The squared distance to the mask is a minimum over shifts, axis by axis (Felzenszwalb and
    Huttenlocher, 2012), so no structuring element is needed.
    """
    far = radius**2 + 1
    distance = torch.where(mask, 0, far).to(torch.int32)
    for axis in range(mask.ndim):
        nearest = distance.clone()
        for shift in range(1, min(radius, mask.shape[axis] - 1) + 1):
            rest = mask.shape[axis] - shift
            lower, upper = distance.narrow(axis, 0, rest), distance.narrow(axis, shift, rest)
            for target, source in (
                (nearest.narrow(axis, 0, rest), upper),
                (nearest.narrow(axis, shift, rest), lower),
            ):
                torch.minimum(target, source + shift**2, out=target)
        distance = nearest
    return distance < far


def erode(mask: Tensor, radius: int) -> Tensor:
    """Shrink a mask (*patch) by a ball of ``radius`` voxels; the patch's border does not wear it down."""
    return ~dilate(~mask, radius)


def _reshape(classes: Tensor, label: int, operation: int, radius: int) -> None:
    before = classes == label
    if not before.any():
        return
    after = before
    for grow in OPERATIONS[operation]:
        after = dilate(after, radius) if grow else erode(after, radius)
    classes[before & ~after] = 0
    classes[after] = label


def _remove_component(classes: Tensor, label: int, choice: float, largest_share: float) -> None:
    mask = (classes == label).cpu().numpy()
    components, _ = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(components.ravel())
    small = 1 + np.flatnonzero(sizes[1:] <= largest_share * mask.size)
    if len(small) > 0:
        removed = components == small[int(choice * len(small))]
        classes[torch.from_numpy(removed).to(classes.device)] = 0
