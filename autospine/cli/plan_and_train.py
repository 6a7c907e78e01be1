"""``autospine plan-and-train``: everything from a data set to the chosen ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from autospine.cli.overrides import ScheduleOverrides


def plan_and_train(
    dataset: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    planner: str = "spine",
    configurations: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    folds: Annotated[tuple[int, ...], Parameter(consume_multiple=True, negative=())] = (),
    split: int = 5,
    device: str = "auto",
    gpu_memory: float | None = None,
    step_seconds: float = 0.5,
    workers: int | None = None,
    schedule: Annotated[ScheduleOverrides, Parameter(show_default=False)] = ScheduleOverrides(),  # type: ignore[valid-type] # noqa: B008
    use_plan: bool = False,
    force: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Fingerprint, plan, preprocess, train all folds, choose the best ensemble; goes on where it stopped.

    Args:
        dataset: Folder of a converted (or any nnU-Net v2 raw) data set.
        output: Run folder; made if need be, resumed if it is there.
        planner: A planner's name (autospine plan --list), or your own as ./file.py:function.
        configurations: Train only these: the planner's own, e.g. 2d 3d_fullres, and systems with or without
            options, e.g. segnet caeb7_unet:variant=b3 (autospine plan --list); a stage brings the one before.
        folds: Train only these folds, e.g. 0 1.
        split: Number of folds of the cross-validation.
        device: auto, cpu, cuda or cuda:1.
        gpu_memory: GB of GPU memory to plan for.
        step_seconds: On a CPU, how long a training step may take.
        workers: Processes for work on whole cases; one per core by default.
        schedule: Any field of the training schedule.
        use_plan: Train the plan.json in the run folder as it stands, edited by hand perhaps.
        force: Replace what the run folder holds from other data or options.
        quiet: Say nothing but the result.
        json: Print the result as JSON.
    """
    from dataclasses import replace

    from autospine.cli.console import say, say_json
    from autospine.cli.overrides import override
    from autospine.core.errors import UsageError
    from autospine.core.plan import Configuration
    from autospine.hardware import choose_device, measure_budget
    from autospine.pipeline import Run, TrainingOptions
    from autospine.pipeline import plan_and_train as run_all
    from autospine.planning import PlanOptions
    from autospine.reporting import Reporter

    def adapt(configuration: Configuration) -> Configuration:
        return replace(configuration, schedule=override(configuration.schedule, schedule))

    if use_plan and (configurations or schedule != ScheduleOverrides()):
        raise UsageError(
            "With --use-plan the plan.json counts as it stands.",
            remedy="Leave out --configurations and --schedule.*, or edit plan.json.",
        )
    chosen_device = choose_device(device)
    budget = replace(measure_budget(chosen_device, gpu_memory), step_seconds=step_seconds)
    run = Run.open(output, Reporter(quiet=quiet), dataset, workers=workers, force=force)
    choice = run_all(
        run,
        PlanOptions(planner, budget, configurations, adapt),
        TrainingOptions(chosen_device, folds, split, use_plan),
    )
    if choice is None:
        trained = " ".join(map(str, folds))
        say(f"Trained the folds {trained}. Train the others, then: autospine find-best {output}")
    elif json:
        say_json(choice.ensemble)
    else:
        say(choice.table())
        say(f"\nPredict new scans: autospine predict -m {output} -i SCANS -o PREDICTIONS")
    return 0
