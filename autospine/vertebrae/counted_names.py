"""Names of numbered vertebrae, counted from one that is known.

A mask of all vertebrae as one says nothing about levels. Without an anchor, nothing is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from autospine.core import anatomy
from autospine.core.anchor import Anchor
from autospine.core.errors import UsageError

#: The usual vertebra below each: L1 below T12 as below T13, and L6 below L5 where there is one more.
_BELOW: Final = {label: below[0] for label in anatomy.COLUMN_LABELS if (below := anatomy.successors(label))}
_ABOVE: Final = {below: label for label, below in _BELOW.items() if label != anatomy.T13} | {
    anatomy.T13: anatomy.label_of("T12")
}


def names_from_anchor(
    count: int, anchor: Anchor | None, whole: Sequence[bool] | None = None
) -> tuple[int, ...] | None:
    """Anatomical labels of vertebrae in their usual succession.

    Args:
        count: How many there are.
        anchor: The one that is known; None names nothing.
        whole: Which of them the border does not cut, from head to foot, (count,); the anchor is the first or
            last of these. All of them by default, and where it cuts all.

    Returns:
        One label a vertebra, 1..26, from head to foot; None without an anchor.

    Raises:
        UsageError: The anchor is no vertebra, or there are more vertebrae than the column has above or below
            it.
    """
    if anchor is None:
        return None
    if anchor.label not in anatomy.COLUMN_LABELS:
        raise UsageError(
            f"No vertebra has the label {anchor.label}.",
            remedy="Give the anchor's label as 1 (C1) to 25 (L6), or 26 (T13).",
        )
    if count == 0:
        return ()
    eligible = [i for i in range(count) if whole is None or whole[i]] or list(range(count))
    known = eligible[0 if anchor.position == "first" else -1]
    above, below = _walk(anchor, known, _ABOVE, count), _walk(anchor, count - 1 - known, _BELOW, count)
    return (*reversed(above), anchor.label, *below)


def _walk(anchor: Anchor, steps: int, following: Mapping[int, int], count: int) -> list[int]:
    """The labels of so many vertebrae after the anchor's."""
    labels = [anchor.label]
    for _ in range(steps):
        if labels[-1] not in following:
            name, end = anatomy.name_of(anchor.label), anatomy.name_of(labels[-1])
            raise UsageError(
                f"{count} vertebrae were found, but with {name} as the {anchor.position} one "
                f"the column ends at {end}.",
                remedy="Look at the numbered vertebrae and correct the anchor, or leave it out.",
            )
        labels.append(following[labels[-1]])
    return labels[1:]
