"""What a training does when something goes wrong, and on a GPU."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from autospine import losses, pipeline
from autospine.core.errors import TrainingError
from autospine.core.plan import Augmentation, Budget
from autospine.planning import PlanOptions, plan_for
from autospine.reporting import Reporter
from autospine.splits import Fold, Splits
from autospine.trainers import compiling, default
from autospine.trainers.optimisation import make_optimiser, make_scaler
from autospine.trainers.patches import training_examples
from autospine.trainers.prefetching import Prefetcher
from autospine.weights import load_tensors

CPU = torch.device("cpu")
#: Nothing changes the one phantom.
PLAIN = Augmentation(
    **{name: 0.0 for name in Augmentation.__dataclass_fields__ if name.endswith("_probability")}
)
BRIEF = {
    "epochs": 2,
    "steps": 2,
    "validation_steps": 1,
    "warmup_steps": 0,
    "workers": 1,
    "precision": "fp32",
    "compile": "off",
    "augmentation": PLAIN,
}


@pytest.fixture(scope="module")
def prepared(one_phantom, tmp_path_factory):
    """A small network to be trained on one preprocessed phantom."""
    folder = tmp_path_factory.mktemp("training") / "run"
    run = pipeline.Run.open(folder, Reporter(quiet=True), one_phantom, workers=1)
    fingerprint = pipeline.make_fingerprint(run)
    plan = plan_for(fingerprint, PlanOptions("spine", Budget("cpu", cores=2, step_seconds=0.05), ()))
    configuration = plan.configuration("3d_lowres")
    plan = replace(plan, configurations=(configuration,))
    pipeline.preprocess(run, plan)
    case = fingerprint.cases[0].identifier
    splits = Splits((Fold((case,), (case,)),))
    return pipeline.fold_task(run, plan, splits, configuration, 0, "cpu")


@pytest.fixture
def task_with(prepared, tmp_path):
    """Makes the task of a brief training whose schedule differs."""

    def make(name="fold_0", **changes):
        schedule = replace(prepared.configuration.schedule, **(BRIEF | changes))
        configuration = replace(prepared.configuration, schedule=schedule)
        plan = replace(prepared.plan, configurations=(configuration,))
        return replace(prepared, plan=plan, configuration=configuration, output=tmp_path / name)

    return make


def log(task):
    return [json.loads(line) for line in (task.output / "log.jsonl").read_text().splitlines()]


def weights(task):
    return load_tensors(task.output / "model.safetensors")[0]


def same_weights(first, second):
    first, second = weights(first), weights(second)
    return all(torch.equal(first[name], second[name]) for name in first)


def fail(*_):
    raise RuntimeError("no compiler found\nand much more that nobody reads")


def without_compiler(_):
    fail()


def compiler_that_fails_at_the_first_call(_):
    return fail


def compiler_that_fails_at_the_first_backward_pass(network):
    def run(image):
        stages = network(image)
        if torch.is_grad_enabled():
            stages[0].register_hook(fail)
        return stages

    return run


def compiler_that_fails_in_validation(network):
    return lambda image: network(image) if torch.is_grad_enabled() else fail()


@pytest.mark.parametrize(
    "compiler",
    [
        without_compiler,
        compiler_that_fails_at_the_first_call,
        compiler_that_fails_at_the_first_backward_pass,
        compiler_that_fails_in_validation,
    ],
)
def test_a_compiler_that_fails_costs_one_line_and_nothing_else(task_with, monkeypatch, compiler):
    monkeypatch.setattr(torch, "compile", compiler)
    plain, compiled, said = task_with("plain"), task_with("compiled", compile="on"), []
    default.train(plain)
    default.train(compiled, say=said.append)
    assert same_weights(plain, compiled)
    (line,) = [line for line in said if "without compiling" in line]
    assert line.endswith("failed: no compiler found")


def test_a_compiler_that_works_is_used_and_an_error_of_the_network_is_none_of_it(task_with, monkeypatch):
    used = []
    monkeypatch.setattr(torch, "compile", lambda network: used.append(network) or network)
    default.train(task_with("compiled", compile="on"))
    assert len(used) == 1
    monkeypatch.setattr(compiling.AllStages, "forward", fail)
    with pytest.raises(RuntimeError, match="no compiler found"):
        default.train(task_with("broken"))


def out_of_memory(*_):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("compile_", ["off", "on"])
def test_a_gpu_that_is_too_small_is_an_error_that_names_the_remedy(task_with, monkeypatch, compile_):
    task, said = task_with(compile=compile_), []
    monkeypatch.setattr(torch, "compile", lambda network: network)
    first_epoch = [compiling.AllStages.forward] * (BRIEF["steps"] + BRIEF["validation_steps"])

    def forward(self, image):
        return (first_epoch.pop() if first_epoch else out_of_memory)(self, image)

    with monkeypatch.context() as patched:
        patched.setattr(compiling.AllStages, "forward", forward)
        with pytest.raises(TrainingError, match=r"3d_lowres.*batches of \d+ patches of \d+ x \d+") as error:
            default.train(task, say=said.append)
    assert "--gpu-memory" in error.value.remedy
    assert "another run folder" in error.value.remedy
    assert not [line for line in said if "compiling" in line]
    default.train(task)
    assert [record["epoch"] for record in log(task)] == [0, 1]


def test_the_ceiling_that_was_planned_for_is_named(task_with, monkeypatch):
    task = task_with()
    task = replace(task, plan=replace(task.plan, budget=Budget(gpu_memory=24.0)))
    monkeypatch.setattr(compiling.AllStages, "forward", out_of_memory)
    with pytest.raises(TrainingError, match="smaller --gpu-memory than 24"):
        default.train(task)


def loss_times(factors):
    """`_DiceCrossEntropyLoss` of training steps, multiplied."""
    plain, factors = losses.DeepSupervisionLoss.__call__, iter(factors)
    return lambda *arguments: plain(*arguments) * (next(factors) if torch.is_grad_enabled() else 1.0)


def test_steps_that_are_left_out_are_counted(task_with, monkeypatch):
    task = task_with()
    factors = [1.0, float("nan"), 1.0, 1.0]
    monkeypatch.setattr(losses.DeepSupervisionLoss, "__call__", loss_times(factors))
    default.train(task)
    assert [record["skipped_steps"] for record in log(task)] == [1, 0]
    assert all(value.isfinite().all() for value in weights(task).values())


def test_an_epoch_without_a_finite_step_ends_the_training(task_with, monkeypatch):
    task = task_with()
    monkeypatch.setattr(losses.DeepSupervisionLoss, "__call__", loss_times([1.0, 1.0] + [float("inf")] * 2))
    with pytest.raises(TrainingError, match="in epoch 2 no step had finite gradients"):
        default.train(task)
    assert len(log(task)) == 1


def test_settings_of_torch_are_as_before(task_with):
    def settings():
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    before = settings()
    default.train(task_with(epochs=1, deterministic=True))
    assert settings() == before


def test_the_log_tells_how_long_the_training_waited(task_with):
    task = task_with(epochs=1)
    default.train(task)
    (record,) = log(task)
    assert 0 <= record["waiting"] <= record["seconds"]


def gpu(task, name):
    return replace(task, device="cuda", output=task.output.with_name(name))


#: Operations for which the host waits for a GPU.
QUESTIONS = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh")


class Questions(TorchDispatchMode):
    """Notes what the host can only go on with when it knows a value that was computed."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if any(
            name in str(function)
            for name in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh")
        ):
            self.asked.append(str(function))
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_with_what_a_gpu_is_given_a_step_asks_for_no_value(task_with, optimiser):
    task = task_with(optimiser=optimiser)
    learner = default.prepare(task)
    learner.optimiser = make_optimiser(learner.network, learner.schedule, fused=True)
    learner.scaler = make_scaler(CPU, torch.float32, watching=True)
    with training_examples(task, 0, CPU) as examples:
        example = next(examples)
    with Questions() as questions:
        default.training_step(learner, example, learner.loss)
    assert questions.asked == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_no_step_on_a_gpu_makes_the_host_wait(task_with, precision, optimiser):
    task = gpu(task_with(precision=precision, optimiser=optimiser), "gpu")
    device = torch.device(task.device)
    learner = default.prepare(task)
    with training_examples(task, 0, device) as made:
        examples = Prefetcher.on(device, made)
        for _ in range(3):  # the first steps choose algorithms and reserve memory
            default.training_step(learner, next(examples), learner.loss)
        example = next(examples)
        torch.cuda.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode is a prototype, says torch
            torch.cuda.set_sync_debug_mode("error")
        try:
            loss, finite = default.training_step(learner, example, learner.loss)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
    assert finite.dtype == torch.bool


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_gpu_learns_as_much_as_a_cpu(task_with, precision):
    on_cpu = task_with("cpu", epochs=4, steps=10)
    on_gpu = gpu(task_with(epochs=4, steps=10, precision=precision), "gpu")
    default.train(on_cpu)
    default.train(on_gpu)
    first, last = log(on_cpu)[0]["training_loss"], log(on_cpu)[-1]["training_loss"]
    assert last < first
    assert log(on_gpu)[-1]["training_loss"] == pytest.approx(last, rel=0.15)
