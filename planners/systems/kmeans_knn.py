"""A binary network; vertebrae are told apart by clustering and named from an anchor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from autospine.core.plan import Configuration, NetworkSpec

from ..rules import Topology
from .system import Load, Site, System, spec, widths, without_deep_supervision

_LOAD: Final = Load(memory=0.3, work=2.0)
_STAGES: Final = 5
_KERNEL: Final = 5


@dataclass(frozen=True)
class KmeansChoices:
    """What can be chosen about ``kmeans_knn``.

    Args:
        features: Of the V-Net's first stage; the authors' code has 8, its class 16.
    """

    features: int = 8


def _design(site: Site, choices: KmeansChoices, options: None) -> tuple[Configuration, ...]:
    def network(shape: Topology) -> NetworkSpec:
        stages = min(_STAGES, shape.stages)
        features = widths(choices.features, stages, 1024)
        encoder, decoder = (1, 2, 3, 3, 3)[:stages], (3, 3, 2, 1)[5 - stages :]
        made = spec("vnet", shape, features, encoder, decoder)
        wide = tuple(tuple(_KERNEL if k > 1 else 1 for k in kernel) for kernel in made.kernels)
        return replace(made, kernels=wide)

    planned = site.designer(_LOAD, centres=False).volume(site.name, network)
    return (without_deep_supervision(replace(planned, target="foreground")),)


KMEANS_KNN: Final = System(
    name="kmeans_knn",
    summary="binary 3D V-Net; k-means and k-NN tell vertebrae apart, an anchor names them",
    source="Altini et al., Informatics 2021, 8(2):40",
    dimensions=(3,),
    choices=KmeansChoices(),
    network=None,
    design=_design,
)
