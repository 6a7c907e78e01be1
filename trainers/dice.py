"""Dice of hard predictions on patches, to follow a training with."""

from __future__ import annotations

import torch
from torch import Tensor


def class_counts(logits: Tensor, labels: Tensor) -> Tensor:
    """Voxels of each class that are found, predicted and present in a batch.

    Args:
        logits: Shape (b, classes, *patch).
        labels: Shape (b, *patch); voxels below 0 are not counted.

    Returns:
        Integers of shape (3, classes).
    """
    classes = logits.shape[1]
    known = labels >= 0
    truth, predicted = labels[known].long(), logits.argmax(dim=1)[known]
    found = truth[truth == predicted]
    return torch.stack([torch.bincount(values, minlength=classes) for values in (found, predicted, truth)])


def pooled_dice(counts: Tensor) -> float:
    """Mean Dice of the foreground classes that are present; 0 when none is.

    Args:
        counts: Shape (3, classes), summed over batches.
    """
    found, predicted, present = counts[:, 1:].double()
    shown = present > 0
    if not shown.any():
        return 0.0
    return float((2 * found[shown] / (predicted[shown] + present[shown])).mean())
