"""The vertebral column: names, labels, regions and the successions anatomy allows.

Two codings meet here. *Labels* are autospine's own and consecutive, as nnU-Net demands:
1..25 are C1..L6 exactly as in VerSe, 26 is T13. *VerSe ids* put T13 at 28, behind the sacrum (26)
and the coccyx (27), neither of which VerSe annotates (Sekuboyina et al., MedIA 2021).
"""

from __future__ import annotations

from typing import Final

CERVICAL: Final = tuple(f"C{i}" for i in range(1, 8))
THORACIC: Final = tuple(f"T{i}" for i in range(1, 14))
LUMBAR: Final = tuple(f"L{i}" for i in range(1, 7))

#: All vertebrae from head to foot.
COLUMN: Final = CERVICAL + THORACIC + LUMBAR

T13: Final = 26
_VERSE_T13: Final = 28

_LABELS: Final[dict[str, int]] = {
    name: label for label, name in enumerate([name for name in COLUMN if name != "T13"], start=1)
} | {"T13": T13}
_NAMES: Final[dict[int, str]] = {label: name for name, label in _LABELS.items()}

#: All labels from head to foot: 1..19, 26 (T13), 20..25.
COLUMN_LABELS: Final = tuple(_LABELS[name] for name in COLUMN)
_RANKS: Final[dict[int, int]] = {label: rank for rank, label in enumerate(COLUMN_LABELS)}

_EXTRA_SUCCESSORS: Final[dict[str, tuple[str, ...]]] = {
    "T11": ("T12", "L1"),  # a missing twelfth thoracic vertebra is real anatomy
    "T12": ("L1", "T13"),
    "L6": (),
}


def label_of(name: str) -> int:
    """Label of a vertebra's name, ``"T13"`` -> 26.

    Raises:
        KeyError: The name is not one of ``COLUMN``.
    """
    return _LABELS[name]


def name_of(label: int) -> str:
    """Name of a label, 20 -> ``"L1"``.

    Raises:
        KeyError: The label is not in 1..26.
    """
    return _NAMES[label]


def rank_of(label: int) -> int:
    """Position of a label counted from the head: C1 is 0, T13 stands between T12 and L1.

    Raises:
        KeyError: The label is not in 1..26.
    """
    return _RANKS[label]


def region_of(label: int) -> str:
    """``"cervical"``, ``"thoracic"`` or ``"lumbar"``."""
    return {"C": "cervical", "T": "thoracic", "L": "lumbar"}[name_of(label)[0]]


def from_verse(verse_id: int) -> int | None:
    """Label of a VerSe id; None for what VerSe does not annotate (sacrum 26, coccyx 27, anything else)."""
    if 1 <= verse_id <= 25:
        return verse_id
    return T13 if verse_id == _VERSE_T13 else None


def to_verse(label: int) -> int:
    """VerSe id of a label, 26 -> 28.

    Raises:
        KeyError: The label is not in 1..26.
    """
    name_of(label)
    return _VERSE_T13 if label == T13 else label


def successors(label: int) -> tuple[int, ...]:
    """Labels that may stand directly below a vertebra, most usual first where anatomy varies.

    L5 may be followed by L6 or by nothing; T12 by T13 or L1; T11 by T12 or, without a T12, by L1.
    """
    name = name_of(label)
    if name in _EXTRA_SUCCESSORS:
        return tuple(_LABELS[below] for below in _EXTRA_SUCCESSORS[name])
    return (COLUMN_LABELS[_RANKS[label] + 1],)
