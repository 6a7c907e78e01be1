"""How far two label maps agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean_dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mean Dice over the labels above 0 that occur in either map; 1 if there are none.

    Args:
        first: Label values, of any shape; those below 0 count as background.
        second: Label values of the same shape.
    """
    a, b = (np.maximum(labels, 0).ravel().astype(np.intp) for labels in (first, second))
    classes = int(max(a.max(), b.max())) + 1
    in_a, in_b = np.bincount(a, minlength=classes)[1:], np.bincount(b, minlength=classes)[1:]
    in_both = np.bincount(a[a == b], minlength=classes)[1:]
    occurs = (in_a + in_b) > 0
    return float(np.mean(2 * in_both[occurs] / (in_a + in_b)[occurs])) if occurs.any() else 1.0


def differing_share(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Share of the voxels in which two maps of the same shape differ."""
    return float(np.mean(first != second))
