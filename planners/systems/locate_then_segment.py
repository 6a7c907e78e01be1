"""A coarse network finds the spine; a full-resolution network works inside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from autospine.core.plan import Configuration

from .system import Load, Site, System

_LOAD: Final = Load()
_COARSE: Final = "3d_lowres"


@dataclass(frozen=True)
class LocateChoices:
    """What can be chosen about ``locate_then_segment``: nothing so far."""


def _design(site: Site, choices: LocateChoices, options: None) -> tuple[Configuration, ...]:
    designer = site.designer(_LOAD)
    planned = [c for c in site.plan.configurations if c.name == _COARSE]
    locator = planned[0] if planned else designer.coarse(f"{site.name}_locator")
    inside = replace(designer.volume(site.name), crop="spine", previous_stage=locator.name, feed="none")
    return locator, inside


LOCATE_THEN_SEGMENT: Final = System(
    name="locate_then_segment",
    summary="a coarse 3D U-Net finds the spine, a full-resolution one works inside",
    source="Janssens et al., arXiv 1712.01509; Lu et al., JACMP 2023, 24(6):e13996",
    dimensions=(3,),
    choices=LocateChoices(),
    network=None,
    design=_design,
)
