"""A U-Net whose encoder is heavier than its decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from autospine.core.network_options import UnbalancedOptions
from autospine.core.plan import Configuration, NetworkSpec

from ..rules import Topology
from .system import Load, Site, System, spec, widths

_LOAD: Final = Load(memory=0.7, work=1.15)


@dataclass(frozen=True)
class UnbalancedChoices:
    """What can be chosen about ``unbalanced_unet``.

    Args:
        dimensions: Sagittal slices, or volumes.
        encoder_blocks: Convolutions of an encoder stage.
        decoder_blocks: Convolutions of a decoder stage; more than the encoder's is the other reading.
    """

    dimensions: int = 3
    encoder_blocks: int = 3
    decoder_blocks: int = 1


def _design(site: Site, choices: UnbalancedChoices, options: UnbalancedOptions) -> tuple[Configuration, ...]:
    flat = choices.dimensions == 2

    def network(shape: Topology) -> NetworkSpec:
        stages = shape.stages
        features = widths(site.width, stages, 512 if flat else 320)
        blocks = (choices.encoder_blocks,) * stages, (choices.decoder_blocks,) * (stages - 1)
        return spec("unbalanced_unet", shape, features, *blocks, options)

    designer = site.designer(_LOAD)
    return ((designer.sagittal if flat else designer.volume)(site.name, network),)


UNBALANCED_UNET: Final = System(
    name="unbalanced_unet",
    summary="U-Net with a heavy encoder and a light decoder",
    source="no publication was found; the design is this project's",
    dimensions=(2, 3),
    choices=UnbalancedChoices(),
    network=UnbalancedOptions(),
    design=_design,
)
