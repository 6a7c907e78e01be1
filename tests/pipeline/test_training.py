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
from autospine.trainers import compiling, default, epochs
from autospine.trainers.optimisation import make_optimiser, make_scaler
from autospine.trainers.pace import ClockPace
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


def loss_after(changes):
    """`DeepSupervisionLoss` of training steps, changed by one function after the other, then no more."""
    plain, changes = losses.DeepSupervisionLoss.__call__, iter(changes)

    def changed(*arguments):
        value = plain(*arguments)
        return next(changes, same)(value) if torch.is_grad_enabled() else value

    return changed


def same(value):
    return value


def not_a_number(value):
    return value * float("nan")


def steep(value):
    """The same value, with gradients that are not finite."""
    return value + (value - value.detach()).sqrt()


def test_steps_that_are_left_out_are_counted(task_with, monkeypatch):
    task = task_with()
    monkeypatch.setattr(losses.DeepSupervisionLoss, "__call__", loss_after([same, steep]))
    default.train(task)
    assert [record["skipped_steps"] for record in log(task)] == [1, 0]
    assert all(value.isfinite().all() for value in weights(task).values())


@pytest.mark.parametrize("broken", [[same, not_a_number], [steep, steep]])
def test_an_epoch_in_vain_is_done_again_at_half_the_rate(task_with, monkeypatch, broken):
    task, said = task_with(), []
    halved = task_with("halved", learning_rate=task.configuration.schedule.learning_rate / 2)
    with monkeypatch.context() as patched:
        patched.setattr(losses.DeepSupervisionLoss, "__call__", loss_after(broken))
        default.train(task, say=said.append)
    default.train(halved)
    assert same_weights(task, halved)
    assert [record["learning_rate"] for record in log(task)] == [r["learning_rate"] for r in log(halved)]
    (line,) = [line for line in said if "again" in line]
    assert "epoch 1" in line
    assert "0.5 times" in line


def test_only_what_follows_a_setback_is_learnt_at_half_the_rate(task_with, monkeypatch):
    task, undisturbed = task_with(), task_with("undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(losses.DeepSupervisionLoss, "__call__", loss_after([same, same, not_a_number]))
        default.train(task)
    default.train(undisturbed)
    first, second = zip(*[[r["learning_rate"] for r in log(t)] for t in (task, undisturbed)], strict=True)
    assert first[0] == first[1]
    assert second[0] == second[1] / 2


def test_a_loss_that_is_never_finite_ends_the_training_and_keeps_what_was_learnt(task_with, monkeypatch):
    task, said = task_with(), []
    monkeypatch.setattr(
        losses.DeepSupervisionLoss, "__call__", loss_after([same, same, *[not_a_number] * 99])
    )
    with pytest.raises(TrainingError, match="in epoch 2 the loss was not finite in 2 of 2 steps"):
        default.train(task, say=said.append)
    assert len(log(task)) == 1
    assert len([line for line in said if "again" in line]) == 5


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9], lambda raw: raw[:-9] + bytes(9), lambda _: b""])
def test_a_damaged_checkpoint_costs_one_epoch_more(task_with, monkeypatch, damage):
    task, undisturbed, said = task_with(epochs=3), task_with("undisturbed", epochs=3), []
    with monkeypatch.context() as patched:
        patched.setattr(losses.DeepSupervisionLoss, "__call__", loss_after([same] * 4 + [fail]))
        with pytest.raises(RuntimeError):
            default.train(task)
    latest = task.output / "checkpoint" / "latest.safetensors"
    latest.write_bytes(damage(latest.read_bytes()))
    default.train(task, say=said.append)
    default.train(undisturbed)
    assert same_weights(task, undisturbed)
    assert [record["epoch"] for record in log(task)] == [0, 1, 2]
    assert len([line for line in said if "latest.safetensors" in line]) == 1


def test_a_training_whose_checkpoints_are_all_damaged_begins_again(task_with, monkeypatch):
    task, undisturbed, said = task_with(), task_with("undisturbed"), []
    with monkeypatch.context() as patched:
        patched.setattr(losses.DeepSupervisionLoss, "__call__", loss_after([same] * 2 + [fail]))
        with pytest.raises(RuntimeError):
            default.train(task)
    for path in (task.output / "checkpoint").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    default.train(task, say=said.append)
    default.train(undisturbed)
    assert same_weights(task, undisturbed)
    assert len([line for line in said if "goes back" in line]) == 2


class Clock:
    """Goes on by a fixed time whenever it is asked, later by another one."""

    def __init__(self, tick, slower_after=10**9, slower=1.0):
        self.now, self.asked = 1000.0, 0
        self.tick, self.slower_after, self.slower = tick, slower_after, slower

    def __call__(self):
        self.asked += 1
        self.now += self.tick * (self.slower if self.asked > self.slower_after else 1.0)
        return self.now


@pytest.mark.parametrize("slower", [1.0, 5.0])
def test_a_training_with_a_deadline_ends_there_with_its_learning_rate_at_the_end(
    task_with, monkeypatch, slower
):
    clock = Clock(0.5, slower_after=24, slower=slower)
    monkeypatch.setattr(default, "pace_of", lambda _, done: ClockPace(clock(), 1040.0, done, clock))
    task = replace(task_with(epochs=100, decay_every="step"), deadline=1050.0, validation_seconds=10.0)
    default.train(task)
    assert clock.now == pytest.approx(1040.0, abs=8 * slower)
    records = log(task)
    assert records[-1]["progress"] == 1.0
    rates = [record["learning_rate"] for record in records]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.3 * task.configuration.schedule.learning_rate


def test_an_interrupted_training_with_a_deadline_goes_on_to_its_end(task_with, monkeypatch):
    clock = Clock(1.0)
    monkeypatch.setattr(default, "pace_of", lambda _, done: ClockPace(clock(), 1040.0, done, clock))
    task = replace(task_with(epochs=100, decay_every="step"), deadline=1040.0)
    with monkeypatch.context() as patched:
        patched.setattr(losses.DeepSupervisionLoss, "__call__", loss_after([same] * 4 + [fail]))
        with pytest.raises(RuntimeError):
            default.train(task)
    known = log(task)
    clock.now = 2000.0
    later = ClockPace(2000.0, 2030.0, known[-1]["progress"], clock)
    monkeypatch.setattr(default, "pace_of", lambda *_: later)
    default.train(replace(task, deadline=2030.0))
    assert log(task)[: len(known)] == known
    rates = [record["learning_rate"] for record in log(task)]
    assert rates == sorted(rates, reverse=True)
    assert log(task)[-1]["progress"] == 1.0


def test_a_deadline_that_has_passed_leaves_time_for_one_step(task_with):
    task = replace(task_with(), deadline=0.0)
    default.train(task)
    assert [record["steps"] for record in log(task)] == [1]


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
        epochs.training_step(learner, example, learner.loss)
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
            epochs.training_step(learner, next(examples), learner.loss)
        example = next(examples)
        torch.cuda.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the mode is a prototype, says torch
            torch.cuda.set_sync_debug_mode("error")
        try:
            loss, finite = epochs.training_step(learner, example, learner.loss)
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
