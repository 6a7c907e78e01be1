"""Two stages: a 2D network finds the bodies' centres, a 3D network outlines one vertebra at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from autospine.core.network_options import DenseOptions
from autospine.core.plan import Configuration, NetworkSpec
from autospine.registry import find, names

from ..rules import Topology
from .system import Load, Site, System, spec, widths, without_deep_supervision

_FLAT_LOAD: Final = Load(memory=0.65, work=1.6)
_SOLID_LOAD: Final = Load(memory=0.8, work=1.5)
_STAGES: Final = 5
#: mm along z, y, x that show one vertebra with its processes.
_REGION: Final = (96.0, 128.0, 128.0)


@dataclass(frozen=True)
class TwoStageChoices:
    """What can be chosen about ``dense_unet_2stage``.

    Args:
        segmenter: Network of the second stage: any 3D one of the registry that needs no options.
    """

    segmenter: str = "dense_unet"


def _design(site: Site, choices: TwoStageChoices, options: DenseOptions) -> tuple[Configuration, ...]:
    site.require_levels()
    if choices.segmenter not in names("networks"):
        find("networks", choices.segmenter)  # a file's function, or an error that says what there is

    def dense(shape: Topology) -> NetworkSpec:
        stages = min(_STAGES, shape.stages)
        blocks = (2,) * stages, (2,) * (stages - 1)
        return spec("dense_unet", shape, widths(site.width, stages, 512), *blocks, options)

    def plugged(shape: Topology) -> NetworkSpec:
        blocks = (2,) * shape.stages, (2,) * (shape.stages - 1)
        return spec(choices.segmenter, shape, widths(site.width, shape.stages, 320), *blocks)

    locator = site.designer(_FLAT_LOAD).sagittal(f"{site.name}_locator", dense)
    locator = without_deep_supervision(replace(locator, target="centroids"))
    segmenter = site.designer(_SOLID_LOAD, centres=False).volume(
        site.name, dense if choices.segmenter == "dense_unet" else plugged, _REGION
    )
    segmenter = replace(segmenter, view="vertebrae", previous_stage=locator.name, feed="none")
    return locator, without_deep_supervision(segmenter)


DENSE_UNET_2STAGE: Final = System(
    name="dense_unet_2stage",
    summary="2D Dense-U-Net finds the centres, a 3D Dense-U-Net (or another) outlines each vertebra",
    source="Cheng et al., Sci. Rep. 2021, s41598-021-01296-1; Kolarik et al., Appl. Sci. 2019, 9(3):404",
    dimensions=(2, 3),
    choices=TwoStageChoices(),
    network=DenseOptions(),
    design=_design,
)
