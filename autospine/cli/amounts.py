"""Amounts on the command line, with their units."""

from __future__ import annotations

import re
from typing import Final

from autospine.core.errors import UsageError

_BYTES: Final = {"": 10**9, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(text: str, option: str) -> int:
    """Bytes in an amount such as ``8GB``, ``512 MB`` or ``8``, which means gigabytes.

    Args:
        text: What was given.
        option: Which option it was given for, to say so when it means nothing.

    Raises:
        UsageError: It is no positive amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]B)?\s*", text.upper())
    amount = round(float(found[1]) * _BYTES[found[2] or ""]) if found else 0
    if amount == 0:
        raise UsageError(f"{option} {text} is no amount.", remedy="Give a number and a unit, such as 8GB.")
    return amount
