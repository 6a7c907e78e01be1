"""One vertebra at a time, from head to foot, with a memory of those already found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from autospine.core.plan import Configuration

from .system import Load, Site, System, without_deep_supervision

_LOAD: Final = Load()


@dataclass(frozen=True)
class IterativeChoices:
    """What can be chosen about ``iterative``.

    Args:
        extent: Edge of the patch in mm; it shows one vertebra whole wherever it lies in the patch.
    """

    extent: float = 128.0


def _design(site: Site, choices: IterativeChoices, options: None) -> tuple[Configuration, ...]:
    site.require_levels()
    planned = site.designer(_LOAD, centres=False).volume(site.name, extent=[choices.extent] * 3)
    # Without its memory a patch would have another vertebra as its answer.
    augmentation = replace(planned.schedule.augmentation, cascade_removal_probability=0.0)
    schedule = replace(planned.schedule, augmentation=augmentation)
    return (without_deep_supervision(replace(planned, view="walk", schedule=schedule)),)


ITERATIVE: Final = System(
    name="iterative",
    summary="one vertebra at a time with an instance memory, a name and whether it is whole",
    source="Lessmann et al., arXiv 1804.04383",
    dimensions=(3,),
    choices=IterativeChoices(),
    network=None,
    design=_design,
)
