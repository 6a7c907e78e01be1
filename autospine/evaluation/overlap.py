"""Volume overlap of two label maps: voxel counts and Dice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autospine.core.errors import LabelError

_LARGEST: Final = 65535


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label in one case.

    Args:
        intersection: Voxels that carry the label in both.
        prediction: Voxels that carry it in the prediction.
        reference: Voxels that carry it in the reference.
    """

    intersection: int
    prediction: int
    reference: int

    @property
    def dice(self) -> float:
        """Dice (1945) coefficient 2 |P ∩ R| / (|P| + |R|): 1 for equal masks, 0 without overlap.

        Raises:
            ZeroDivisionError: The label is in neither mask.
        """
        return 2 * self.intersection / (self.prediction + self.reference)


def overlaps(
    prediction: NDArray[Any], reference: NDArray[Any], labels: Sequence[int], ignore: int | None = None
) -> dict[int, Overlap]:
    """Voxel counts of every label that occurs in either map.

    Both maps are read once; labels are told apart by counting, not by one mask per label.

    Args:
        prediction: Label map (z, y, x) of non-negative integers.
        reference: Label map of the same shape.
        labels: Values to count; other values count as background.
        ignore: Reference value of voxels that are not scored.

    Raises:
        LabelError: A map holds negative values or values above 65535.
    """
    relevant = (reference != 0) | (prediction != 0)
    if ignore is not None:
        relevant &= reference != ignore
    p, r = _checked(prediction[relevant]), _checked(reference[relevant])
    bins = max(int(p.max(initial=0)), int(r.max(initial=0)), *labels, 0) + 1
    both = np.bincount(r[r == p], minlength=bins)
    predicted, true = np.bincount(p, minlength=bins), np.bincount(r, minlength=bins)
    return {
        label: Overlap(int(both[label]), int(predicted[label]), int(true[label]))
        for label in labels
        if predicted[label] or true[label]
    }


def _checked(values: NDArray[Any]) -> NDArray[Any]:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > _LARGEST:
        raise LabelError(
            f"The mask holds the value {low if low < 0 else high}.",
            remedy=f"Label values lie between 0 and {_LARGEST}.",
        )
    return values
