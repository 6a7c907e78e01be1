"""From a fingerprint to a plan: a planner's own configurations and published systems, as the user chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from autospine.core.fingerprint import Fingerprint
from autospine.core.plan import Budget, Configuration, Plan
from autospine.registry import find
from autospine.systems import with_systems


@dataclass(frozen=True)
class PlanOptions:
    """What the user decides about the plan.

    Args:
        planner: Name in the registry.
        budget: What the planner may spend.
        configurations: The planner's own, and systems with or without options, to keep; empty keeps all of
            the planner's own. Previous stages are kept along.
        adapt: Last word on every configuration, for instance to set fields of its schedule.
    """

    planner: str = "spine"
    budget: Budget = field(default_factory=Budget)
    configurations: tuple[str, ...] = ()
    adapt: Callable[[Configuration], Configuration] = lambda configuration: configuration


def plan_for(fingerprint: Fingerprint, options: PlanOptions) -> Plan:
    """The plan for a data set.

    Raises:
        UnknownPluginError: There is no such planner or system.
        UsageError: There is no such configuration or option.
        DataError: The data set does not suit the planner or a system.
    """
    made: Plan = find("planners", options.planner)(fingerprint, options.budget)
    made, chosen = with_systems(made, fingerprint, options.configurations)
    selected = _selected(made, chosen)
    return replace(selected, configurations=tuple(options.adapt(c) for c in selected.configurations))


def _selected(plan: Plan, names: Sequence[str]) -> Plan:
    """The plan with only these configurations and their previous stages, in the plan's order."""
    if not names:
        return plan
    wanted: set[str] = set()
    for name in names:
        configuration: Configuration | None = plan.configuration(name)
        while configuration is not None:
            wanted.add(configuration.name)
            stage = configuration.previous_stage
            configuration = plan.configuration(stage) if stage else None
    return replace(plan, configurations=tuple(c for c in plan.configurations if c.name in wanted))
