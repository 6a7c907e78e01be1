"""What both VerSe challenges share: the coding, and the names under which a scan may have been predicted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from autospine.core import anatomy
from autospine.io.images import image_stem, is_image

#: VerSe id by our label: T13 goes back to 28.
CODING: Final = {label: anatomy.to_verse(label) for label in anatomy.COLUMN_LABELS}

_ID: Final = r"(?:verse|gl)\d+"
_IDS: Final = re.compile(rf"({_ID})(?:(-|_(?:split-)?)({_ID}))?")
_DIRECTION: Final = re.compile(r"(?:ct[_-]|dir-)(iso|sag|ax|cor)(?![a-z])")
_NO_SCAN: Final = re.compile(r"[_-](seg|msk|mask|snapshot)$")


def scan_name(path: Path) -> str | None:
    """The base name of a scan, ``"verse512_CT-iso"``; None for masks and for what is no image."""
    name = image_stem(path)
    return name if is_image(path) and not _NO_SCAN.search(name.lower()) else None


def aliases(name: str) -> tuple[str, ...]:
    """What the prediction of a scan may be called: after its file, or as ``convert-verse`` names cases."""
    ids = _IDS.search(name.lower())
    if ids is None:
        return (name,)
    # PATIENT_SERIES names the series last; a hyphen joins two names of one scan, the first is used.
    series = ids[3] if ids[3] and ids[2] != "-" else ids[1]
    direction = _DIRECTION.search(name.lower())
    converted = [f"{series}_{direction[1]}", series] if direction else [series]
    return (name, *(alias for alias in converted if alias != name))
