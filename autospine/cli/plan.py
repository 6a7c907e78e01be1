"""``autospine plan``: what to train on a data set, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from autospine.core.plan import Configuration, Plan


def plan(
    source: Path | None = None,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    planner: str = "spine",
    device: str = "auto",
    gpu_memory: float | None = None,
    step_seconds: float = 0.5,
    list_plugins: Annotated[bool, Parameter(name="--list", negative=())] = False,
    force: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Decide on resolutions, patches, networks and training from a fingerprint; writes plan.json.

    Args:
        source: fingerprint.json, or the run folder that holds it.
        output: File to write; plan.json beside the fingerprint by default.
        planner: A planner's name (see --list), or your own as ./file.py:function.
        device: Where the networks will run: auto, cpu, cuda or cuda:1.
        gpu_memory: GB of GPU memory to plan for; the planner's reference by default.
        step_seconds: On a CPU, how long a training step may take.
        list_plugins: List the planners and networks there are, and do nothing else.
        force: Replace another plan.
        quiet: Print nothing.
        json: Print the plan as JSON.
    """
    from dataclasses import replace

    from autospine.cli.console import say, say_json
    from autospine.cli.documents import replaceable
    from autospine.core.cost import cost_table
    from autospine.core.errors import UsageError
    from autospine.core.fingerprint import Fingerprint
    from autospine.hardware import choose_device, measure_budget
    from autospine.io import documents
    from autospine.registry import find, names

    if list_plugins:
        say(f"planners: {', '.join(names('planners'))}\nnetworks: {', '.join(names('networks'))}")
        return 0
    if source is None:
        raise UsageError("No fingerprint is given.", remedy="Name fingerprint.json or its run folder.")
    path = source / "fingerprint.json" if source.is_dir() else source
    fingerprint = documents.load(path, Fingerprint)
    budget = replace(measure_budget(choose_device(device), gpu_memory), step_seconds=step_seconds)
    made: Plan = find("planners", planner)(fingerprint, budget)
    target = output or path.with_name("plan.json")
    replaceable(target, documents.to_json(made), force=force)
    documents.save(target, made)
    if json:
        say_json(made)
    elif not quiet:
        say(f"{_configurations(made)}\n\n{_reasons(made)}\n\n{cost_table(made, fingerprint, 1)}\n\n{target}")
    return 0


def _configurations(plan: Plan) -> str:
    from autospine.core.table import table

    header = ("configuration", "axes", "spacing mm", "patch", "batch", "network", "features", "stages")
    return table(header, [_row(configuration) for configuration in plan.configurations])


def _row(configuration: Configuration) -> tuple[str, ...]:
    network = configuration.network
    return (
        configuration.name,
        " ".join("zyx"[axis] for axis in configuration.axes),
        " x ".join("own" if mm is None else f"{mm:.3g}" for mm in configuration.spacing),
        " x ".join(map(str, configuration.patch)),
        str(configuration.batch_size),
        network.name,
        f"{network.features[0]}..{network.features[-1]}",
        str(len(network.features)),
    )


def _reasons(plan: Plan) -> str:
    return "\n".join(f"{r.decision}: {r.value}\n    {r.because}" for r in plan.reasons)
