"""SegNet: up-sampling by the indices of the max pooling; regions and levels as two heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from autospine.core.network_options import SegNetOptions
from autospine.core.plan import Configuration, NetworkSpec

from ..rules import Topology
from .system import Load, Site, System, spec, widths, without_deep_supervision

_FLAT_LOAD: Final = Load(memory=0.9, work=1.05)
_SOLID_LOAD: Final = Load(memory=0.6, work=1.9)
_MOST: Final = 10.0


@dataclass(frozen=True)
class SegNetChoices:
    """What can be chosen about ``segnet``.

    Args:
        dimensions: Sagittal slices, or volumes.
        balancing: Whether classes are weighted by their median frequency.
    """

    dimensions: int = 2
    balancing: bool = True


def _design(site: Site, choices: SegNetChoices, options: SegNetOptions) -> tuple[Configuration, ...]:
    flat = choices.dimensions == 2
    base = (64 if flat else 32) if site.on_gpu else 16
    chosen = options
    if not flat and "norm" not in site.given:
        chosen = replace(chosen, norm="instance")  # batches of volumes are too small to normalise by

    def network(shape: Topology) -> NetworkSpec:
        features = (*widths(base, 4, 512), *[min(8 * base, 512)] * 2)
        return spec("segnet", shape, features, (2, 2, 3, 3, 3, 0), (3, 3, 3, 2, 2), chosen)

    designer = site.designer(_FLAT_LOAD if flat else _SOLID_LOAD, centres=False)
    planned = (designer.sagittal if flat else designer.volume)(site.name, network)
    weights = _median_frequency(site) if choices.balancing else ()
    return (without_deep_supervision(replace(planned, class_weights=weights)),)


def _median_frequency(site: Site) -> tuple[float, ...]:
    """Weights after Eigen and Fergus (ICCV 2015), as SegNet was trained with, capped.

    A class's frequency is its share of the voxels of those scans that show it; its weight is the median
    frequency over its own.
    """
    shares: dict[int, list[float]] = {value: [] for value in site.plan.classes}
    for case in site.fingerprint.cases:
        whole = float(np.prod(case.shape_body) * np.prod(case.spacing))
        shares[0].append(1 - min(sum(case.volumes.values()) / whole, 0.99))
        for value in set(case.volumes) & set(shares):
            shares[value].append(case.volumes[value] / whole)
    frequency = {value: float(np.mean(found)) for value, found in shares.items() if found}
    middle = float(np.median(list(frequency.values())))
    return tuple(min(middle / frequency[v], _MOST) if v in frequency else 1.0 for v in site.plan.classes)


SEGNET: Final = System(
    name="segnet",
    summary="max-pooling indices carried to the decoder; a region head and a level head",
    source="Badrinarayanan et al., TPAMI 2017; a record of its use on xVertSeg was not found",
    dimensions=(2, 3),
    choices=SegNetChoices(),
    network=SegNetOptions(),
    design=_design,
)
