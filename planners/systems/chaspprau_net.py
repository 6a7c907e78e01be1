"""Spine segmentation by cascaded pyramids of dilated convolutions, then recognition from three views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from autospine.core.network_options import ChasppOptions, MobileOptions
from autospine.core.plan import Configuration, NetworkSpec

from ..rules import Topology
from .system import Load, Site, System, spec, widths

_CHASPP_LOAD: Final = Load(memory=1.3, work=1.7)
_MOBILE_LOAD: Final = Load(memory=1.6, work=2.3)
_STAGES: Final = 5


@dataclass(frozen=True)
class ChasppChoices:
    """What can be chosen about ``chaspprau_net``.

    Args:
        dimensions: Sagittal slices, or volumes.
        target: Every level, so that it can stand alone, or vertebra or not, as published.
    """

    dimensions: int = 3
    target: Literal["classes", "foreground"] = "classes"


@dataclass(frozen=True)
class MruChoices:
    """What can be chosen about ``mru_net``.

    Args:
        feed: What of the first stage enters: vertebra or not, as published, or every class.
    """

    feed: Literal["foreground", "classes"] = "foreground"


def _segmentation(site: Site, choices: ChasppChoices, options: ChasppOptions) -> tuple[Configuration, ...]:
    def network(shape: Topology) -> NetworkSpec:
        stages = min(_STAGES, shape.stages)
        features = widths(site.width, stages, 512)
        return spec("chaspprau_net", shape, features, (1,) * stages, (1,) * (stages - 1), options)

    flat, names = choices.dimensions == 2, choices.target == "classes"
    designer = site.designer(_CHASPP_LOAD, centres=names)
    planned = (designer.sagittal if flat else designer.volume)(site.name, network)
    return (replace(planned, target=choices.target),)


def _recognition(site: Site, choices: MruChoices, options: MobileOptions) -> tuple[Configuration, ...]:
    widest = (16, 24, 32, 96, 320) if site.on_gpu else (16, 24, 32, 64, 96)

    def network(shape: Topology) -> NetworkSpec:
        stages = min(len(widest), shape.stages)
        return spec("mru_net", shape, widest[:stages], (1,) * stages, (1,) * (stages - 1), options)

    first = _segmentation(replace(site, name=CHASPPRAU_NET.name), ChasppChoices(), ChasppOptions())
    planned = site.designer(_MOBILE_LOAD).volume(site.name, network)
    return (*first, replace(planned, previous_stage=first[0].name, feed=choices.feed))


CHASPPRAU_NET: Final = System(
    name="chaspprau_net",
    summary="residual attention U-Net with cascaded hierarchical pyramids of dilated convolutions",
    source="Saeed et al., Diagnostics 2023, 13(16):2658",
    dimensions=(2, 3),
    choices=ChasppChoices(),
    network=ChasppOptions(),
    design=_segmentation,
)
MRU_NET: Final = System(
    name="mru_net",
    summary="recognition from axial, sagittal and coronal views, fed with chaspprau_net's mask",
    source="Saeed et al., Diagnostics 2023, 13(16):2658; Biomed. Signal Process. Control 2023, 86A",
    dimensions=(3,),
    choices=MruChoices(),
    network=MobileOptions(),
    design=_recognition,
)
