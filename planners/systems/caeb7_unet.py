"""A U-Net whose encoder is an EfficientNet, with channel attention on the skip connections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from autospine.core.efficientnet_scaling import stage_blocks, stage_features
from autospine.core.network_options import EfficientNetOptions
from autospine.core.plan import Configuration, NetworkSpec

from ..rules import Topology
from .system import Load, Site, System, spec, without_deep_supervision

_LOAD: Final = Load(memory=1.7, work=1.6)


@dataclass(frozen=True)
class CaebChoices:
    """What can be chosen about ``caeb7_unet``.

    Args:
        dimensions: Sagittal slices, or volumes.
        context: Neighbouring slices on either side that enter with a slice.
    """

    dimensions: int = 2
    context: int = 1


def _design(site: Site, choices: CaebChoices, options: EfficientNetOptions) -> tuple[Configuration, ...]:
    flat = choices.dimensions == 2
    chosen = options
    if not flat and "norm" not in site.given:
        chosen = replace(chosen, norm="instance")  # batches of volumes are too small to normalise by
    if not site.on_gpu and "variant" not in site.given:
        chosen = replace(chosen, variant="b0")  # the published one takes a CPU minutes a step

    def network(shape: Topology) -> NetworkSpec:
        features = (chosen.decoder[-1], *stage_features(chosen.variant))
        blocks = (0, *stage_blocks(chosen.variant))
        return spec("efficientnet_unet", shape, features, blocks, (2,) * 5, chosen)

    designer = site.designer(_LOAD)
    planned = (designer.sagittal if flat else designer.volume)(site.name, network)
    schedule = replace(
        planned.schedule,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        warmup_steps=5 * planned.schedule.steps if site.on_gpu else planned.schedule.warmup_steps,
    )
    context = choices.context if flat or "context" in site.given else 0
    return (without_deep_supervision(replace(planned, context=context, schedule=schedule)),)


CAEB7_UNET: Final = System(
    name="caeb7_unet",
    summary="EfficientNet encoder (b0 to b7), channel attention on the skips, three slices at a time",
    source="CAEB7-UNet, IEEE Xplore document 10906566",
    dimensions=(2, 3),
    choices=CaebChoices(),
    network=EfficientNetOptions(),
    design=_design,
)
