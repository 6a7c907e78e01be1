"""What a published system is to a plan: a few configurations, planned for a data set by named options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from autospine.core.errors import DataError, UsageError
from autospine.core.fingerprint import Fingerprint
from autospine.core.network_options import options_of_text
from autospine.core.plan import Configuration, NetworkSpec, Plan

from ..allowance import Allowance
from ..designer import Designer
from ..rules import Topology
from ..survey import Survey


@dataclass(frozen=True)
class Load:
    """What a network takes beside the U-Net that the planner would build for the same topology.

    Counted by ``networks.measuring.size_of`` for the plans of ``core.nominal_fingerprint``.

    Args:
        memory: Times its feature maps, on a GPU.
        work: Times its seconds a step, on a CPU.
    """

    memory: float = 1.0
    work: float = 1.0


@dataclass(frozen=True)
class Site:
    """Where a system is to be planned.

    Args:
        name: Of the configuration that the system is asked for by.
        fingerprint: Of the data set.
        plan: What has been planned already; gives classes, labels, column and budget.
        given: Names of the options that the user has chosen; no rule overrules them.
    """

    name: str
    fingerprint: Fingerprint
    plan: Plan
    given: frozenset[str] = frozenset()

    @property
    def on_gpu(self) -> bool:
        """Whether the networks will run on a GPU."""
        return self.plan.budget.device == "cuda"

    @property
    def width(self) -> int:
        """Features of a U-Net's first stage: as published on a GPU, what fills a vector register on a CPU."""
        return 32 if self.on_gpu else 16

    @cached_property
    def survey(self) -> Survey:
        """The data set in numbers."""
        return Survey.of(self.fingerprint)

    def designer(self, load: Load, *, centres: bool = True) -> Designer:
        """Designs configurations for networks of some load.

        Args:
            load: Of the network.
            centres: Whether 3D networks may learn the bodies' centres, where the plan's others do.
        """
        plan = self.plan
        allowance = Allowance(
            plan.budget,
            len(self.fingerprint.channels),
            len(plan.classes),
            centres and plan.column is not None,
            load.memory if self.on_gpu else load.work,
        )
        return Designer(self.survey, allowance)

    def require_levels(self) -> None:
        """Refuse a data set whose labels do not tell vertebrae apart.

        Raises:
            DataError: They do not.
        """
        if len(self.plan.labels.vertebrae) < 2:
            raise DataError(
                f"{self.name} learns from vertebrae that have names; {self.fingerprint.dataset} has none.",
                remedy="Choose a system that needs none, as kmeans_knn.",
            )

    def require_ct(self) -> None:
        """Refuse channels without an absolute scale.

        Raises:
            DataError: One is not CT.
        """
        if any(channel.casefold() != "ct" for channel in self.fingerprint.channels):
            raise DataError(
                f"{self.name} needs intensities with an absolute scale, and these are not CT.",
                remedy="Choose another system.",
            )


Design = Callable[[Site, Any, Any], tuple[Configuration, ...]]


@dataclass(frozen=True)
class System:
    """A published system.

    Args:
        name: In the registry.
        summary: What it does, in one line.
        source: Who published it.
        dimensions: Of its networks.
        choices: Defaults of what a plan lets one choose.
        network: Defaults of what its network lets one choose, one of ``core.network_options``; None nothing.
        design: ``design(site, choices, network)`` plans its configurations, previous stages first.
    """

    name: str
    summary: str
    source: str
    dimensions: tuple[int, ...]
    choices: Any
    network: Any
    design: Design

    def __call__(
        self, name: str, options: Mapping[str, str], fingerprint: Fingerprint, plan: Plan
    ) -> tuple[Configuration, ...]:
        """Plan the system.

        Args:
            name: What its last configuration is to be called.
            options: As text, by name.
            fingerprint: The data set's.
            plan: What has been planned already.

        Raises:
            UsageError: There is no such option or value.
            DataError: The data set does not suit the system.
        """
        choices, network = options_of_text((self.choices, self.network), options, self.name)
        dimensions = getattr(choices, "dimensions", self.dimensions[0])
        if dimensions not in self.dimensions:
            raise UsageError(
                f"{self.name} has no {dimensions} dimensions.",
                remedy=f"Choose from: {', '.join(map(str, self.dimensions))}.",
            )
        return self.design(Site(name, fingerprint, plan, frozenset(options)), choices, network)


def spec(
    name: str,
    shape: Topology,
    features: tuple[int, ...],
    encoder_blocks: tuple[int, ...],
    decoder_blocks: tuple[int, ...],
    options: Any = None,
) -> NetworkSpec:
    """A network with as many stages as there are features, for a topology with any number of them.

    Stages that the topology lacks keep the size; those beyond are left out.
    """
    stages, axes = len(features), len(shape.patch)
    ones, threes = (1,) * axes, (3,) * axes
    return NetworkSpec(
        name=name,
        features=features,
        kernels=(*shape.kernels, *[threes] * stages)[:stages],
        strides=(*shape.strides, *[ones] * stages)[:stages],
        encoder_blocks=encoder_blocks,
        decoder_blocks=decoder_blocks,
        options={} if options is None else asdict(options),
    )


def widths(base: int, stages: int, largest: int) -> tuple[int, ...]:
    """Features that double from stage to stage."""
    return tuple(min(base * 2**stage, largest) for stage in range(stages))


def without_deep_supervision(configuration: Configuration) -> Configuration:
    """For networks that have one head only."""
    return replace(configuration, schedule=replace(configuration.schedule, deep_supervision=False))
