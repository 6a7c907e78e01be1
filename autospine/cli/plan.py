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
    configurations: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
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
        configurations: Plan only these, the planner's own or systems, e.g. 3d_fullres caeb7_unet:variant=b3.
        device: Where the networks will run: auto, cpu, cuda or cuda:1.
        gpu_memory: GB of GPU memory to plan for; the planner's reference by default.
        step_seconds: On a CPU, how long a training step may take.
        list_plugins: List the planners, systems and networks there are, with what they would cost for the
            fingerprint (or for a usual data set), and do nothing else.
        force: Replace another plan.
        quiet: Print nothing.
        json: Print the plan as JSON.
    """
    from dataclasses import replace

    from autospine.cli.catalogue import catalogue
    from autospine.cli.console import say, say_json
    from autospine.cli.documents import replaceable
    from autospine.core.cost import cost_table
    from autospine.core.errors import UsageError
    from autospine.core.fingerprint import Fingerprint
    from autospine.core.nominal_fingerprint import nominal_fingerprint
    from autospine.hardware import choose_device, measure_budget
    from autospine.io import documents
    from autospine.networks.measuring import size_of
    from autospine.planning import PlanOptions, plan_for

    path = source / "fingerprint.json" if source is not None and source.is_dir() else source
    budget = replace(measure_budget(choose_device(device), gpu_memory), step_seconds=step_seconds)
    if list_plugins:
        known = nominal_fingerprint() if path is None else documents.load(path, Fingerprint)
        say(catalogue(plan_for(known, PlanOptions(planner, budget)), known))
        return 0
    if path is None:
        raise UsageError("No fingerprint is given.", remedy="Name fingerprint.json or its run folder.")
    fingerprint = documents.load(path, Fingerprint)
    made = plan_for(fingerprint, PlanOptions(planner, budget, configurations))
    target = output or path.with_name("plan.json")
    replaceable(target, documents.to_json(made), force=force)
    documents.save(target, made)
    if json:
        say_json(made)
    elif not quiet:
        cost = cost_table(made, fingerprint, 1, size_of)
        say(f"{_configurations(made)}\n\n{_reasons(made)}\n\n{cost}\n\n{target}")
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
