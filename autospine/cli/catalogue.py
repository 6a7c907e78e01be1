"""What there is to choose from, with what it would cost: for ``autospine plan --list``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autospine.core.fingerprint import Fingerprint
    from autospine.core.plan import Configuration, Plan


def catalogue(plan: Plan, fingerprint: Fingerprint) -> str:
    """Planners, systems and networks, one line each.

    Args:
        plan: What the costs of systems are compared with.
        fingerprint: Of the data set that they are for.
    """
    from autospine.core.table import table
    from autospine.registry import names

    header = ("system", "dims", "parameters", "step", "memory", "what it is", "source")
    systems = table(header, list(_systems(plan, fingerprint)))
    planned = ", ".join(c.name for c in plan.configurations)
    return (
        f"planners: {', '.join(names('planners'))}\n"
        f"configurations of {plan.planner}: {planned}\n\n{systems}\n\n"
        f"Cost of a training step on {plan.budget.device}, all stages together, for {fingerprint.dataset}.\n"
        f"Options follow a system's name, as caeb7_unet:variant=b3,dimensions=3.\n\n"
        f"networks: {', '.join(names('networks'))}"
    )


def _systems(plan: Plan, fingerprint: Fingerprint) -> Iterator[tuple[str, ...]]:
    from autospine.core.cost import estimate
    from autospine.networks.measuring import size_of
    from autospine.registry import find, names
    from autospine.systems import with_systems

    for name in names("systems"):
        system = find("systems", name)
        made, _ = with_systems(plan, fingerprint, [name])
        costs = [estimate(made, c, fingerprint, size_of) for c in _stages(made, name)]
        yield (
            name,
            " ".join(f"{d}D" for d in getattr(system, "dimensions", ())),
            f"{sum(cost.parameters for cost in costs) / 1e6:.2f} M",
            f"{sum(cost.step_seconds for cost in costs):.2f} s",
            f"{max(cost.memory_gb for cost in costs):.2f} GB",
            getattr(system, "summary", ""),
            getattr(system, "source", ""),
        )


def _stages(made: Plan, name: str) -> list[Configuration]:
    """A system's last configuration and the stages before it."""
    found, stage = [], name
    while stage:
        found.append(made.configuration(stage))
        stage = found[-1].previous_stage or ""
    return found
