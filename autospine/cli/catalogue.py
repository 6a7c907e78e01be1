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
    from autospine.registry import names

    planned = ", ".join(c.name for c in plan.configurations)
    systems = "\n".join(_systems(plan, fingerprint))
    return (
        f"planners: {', '.join(names('planners'))}\n"
        f"configurations of {plan.planner}: {planned}\n"
        f"networks: {', '.join(names('networks'))}\n\n"
        f"{systems}\n\n"
        f"Cost on {plan.budget.device} for {fingerprint.dataset}, all stages together: parameters, seconds a "
        f"training step, memory.\n"
        f"Options follow a system's name, as caeb7_unet:variant=b3,dimensions=3."
    )


def _systems(plan: Plan, fingerprint: Fingerprint) -> Iterator[str]:
    from autospine.core.cost import estimate
    from autospine.core.errors import DataError
    from autospine.networks.measuring import size_of
    from autospine.registry import find, names
    from autospine.systems import with_systems

    for name in names("systems"):
        system = find("systems", name)
        try:
            made, _ = with_systems(plan, fingerprint, [name])
        except DataError as error:
            yield f"{name:20} not for this data set"
            yield f"    {error.message}"
            continue
        costs = [estimate(made, c, fingerprint, size_of) for c in _stages(made, name)]
        dimensions = " ".join(f"{d}D" for d in getattr(system, "dimensions", ()))
        millions = sum(cost.parameters for cost in costs) / 1e6
        seconds, memory = sum(c.step_seconds for c in costs), max(c.memory_gb for c in costs)
        yield f"{name:20} {dimensions:6} {millions:7.2f} M {seconds:6.2f} s {memory:6.2f} GB"
        for line in (getattr(system, "summary", ""), getattr(system, "source", "")):
            yield f"    {line}"


def _stages(made: Plan, name: str) -> list[Configuration]:
    """A system's last configuration and the stages before it."""
    found, stage = [], name
    while stage:
        found.append(made.configuration(stage))
        stage = found[-1].previous_stage or ""
    return found
