"""What names vertebrae that were found without names: one of them, known from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from autospine.core import anatomy
from autospine.core.errors import UsageError

_REMEDY: Final = "Write the first whole vertebra's name, as T12, or the last one's, as last=L5."


@dataclass(frozen=True)
class Anchor:
    """The name of the first or the last vertebra in a mask.

    Args:
        label: Anatomical label, 1..26.
        position: Whether it is the first from the head, or the last.
    """

    label: int
    position: Literal["first", "last"] = "first"

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Read ``T12``, ``first=T12`` or ``last=L5``.

        Raises:
            UsageError: It reads otherwise, or there is no such vertebra.
        """
        position, equals, name = text.strip().rpartition("=")
        if name.upper() not in anatomy.COLUMN:
            raise UsageError(f"{name!r} is no vertebra.", remedy=_REMEDY)
        label = anatomy.label_of(name.upper())
        if not equals or position == "first":
            return cls(label)
        if position == "last":
            return cls(label, "last")
        raise UsageError(f"{text!r} is no anchor.", remedy=_REMEDY)


@dataclass(frozen=True)
class Anchors:
    """The anchors of several scans.

    Args:
        common: Of every scan that has none of its own; None leaves those unnamed.
        by_scan: By the scan's name.
    """

    common: Anchor | None = None
    by_scan: Mapping[str, Anchor] = field(default_factory=dict)

    def of(self, scan: str) -> Anchor | None:
        """A scan's anchor, if there is one."""
        return self.by_scan.get(scan, self.common)


NO_ANCHORS: Final = Anchors()
