"""What ITK's MetaImage reader trusts a header with: more axes than it has room for overwrite its memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from autospine.core.errors import ImageError

_LARGEST: Final = 10  # axes that MetaIO has room for
_HEAD: Final = 1 << 16
_NUMBER_OF_AXES: Final = re.compile(rb"^\s*NDims\s*[=:]\s*(\S*)", re.MULTILINE | re.IGNORECASE)


def is_metaimage(path: Path) -> bool:
    """Whether a file's ending is that of MetaImage."""
    return path.name.lower().endswith((".mha", ".mhd"))


def require_axes(path: Path) -> None:
    """Refuse a MetaImage header whose number of axes would end the process.

    Raises:
        ImageError: The header gives no number of axes between 1 and 10, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ImageError(f"The file cannot be read ({error}).", where=path) from error
    header = head.split(b"ElementDataFile")[0]
    counts = _NUMBER_OF_AXES.findall(header)
    if not counts or not all(n.isdigit() and len(n) < 3 and 1 <= int(n) <= _LARGEST for n in counts):
        raise ImageError(
            "The file is damaged or no MetaImage (its header gives no usable number of axes).",
            where=path,
            remedy="Copy or export it again.",
        )
