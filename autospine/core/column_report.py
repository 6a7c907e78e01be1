"""What was found in a scan: every vertebra with its name, place and certainty; written beside its mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from autospine.core.geometry import Triple

#: How names are decided: voxel by voxel, for the column as a whole, or by clustering and an anchor.
Decoding = Literal["argmax", "sequence", "clusters"]
#: What becomes of vertebrae that the border of the field of view cuts.
Partial = Literal["keep", "drop"]


@dataclass(frozen=True)
class FoundVertebra:
    """One vertebra of a scan.

    Args:
        label: Its value in the mask.
        name: Its name, ``"L1"``.
        centre: LPS world position (x, y, z) in mm of the centre of its body.
        volume: In mm³, as far as it is in view.
        visible: Estimated share of the vertebra that is in view; 1 when the border does not cut it.
        probability: That its name is right; None when names were decided voxel by voxel.
        alternatives: Probability of other names, the likelier first, down to 0.01.
    """

    label: int
    name: str
    centre: Triple
    volume: float
    visible: float = 1.0
    probability: float | None = None
    alternatives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ColumnReport:
    """The vertebrae of one scan.

    Args:
        decoding: How they were named.
        vertebrae: Those in the mask, from head to foot.
        dropped: Cut ones that were left out of the mask.
        shifted_up: Probability that every vertebra is truly the level above the one it is called.
        shifted_down: Likewise, the level below.
        doubts: Why a person should look again, in words; empty when nothing is doubtful.
        named: Whether names are names; else vertebrae are only numbered, from head to foot.
        version: Of this document's layout.
    """

    decoding: Decoding
    vertebrae: tuple[FoundVertebra, ...]
    dropped: tuple[FoundVertebra, ...] = ()
    shifted_up: float | None = None
    shifted_down: float | None = None
    doubts: tuple[str, ...] = ()
    named: bool = True
    version: int = 1
