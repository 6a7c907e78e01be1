from dataclasses import replace

import pytest
import torch

from autospine.core.plan import Schedule
from autospine.trainers.optimisation import (
    apply_gradients,
    centre_weight,
    learning_rate,
    make_optimiser,
    make_scaler,
    set_learning_rate,
)

DEFAULT = Schedule()


def rate_at(schedule, step):
    return learning_rate(schedule, step / (schedule.epochs * schedule.steps), step)


def test_the_default_decay_is_nnunets_polynomial_by_epoch():
    assert rate_at(DEFAULT, 0) == 0.01
    assert rate_at(DEFAULT, 249) == 0.01
    assert rate_at(DEFAULT, 250) == pytest.approx(0.01 * (1 - 1 / 1000) ** 0.9)
    assert rate_at(DEFAULT, 500 * 250) == pytest.approx(0.01 * 0.5**0.9)


def test_decay_by_step_ends_just_above_zero():
    schedule = replace(DEFAULT, epochs=4, steps=5, decay_every="step", decay_power=1.0)
    rates = [rate_at(schedule, step) for step in range(20)]
    assert rates == pytest.approx([0.01 * (1 - i / 20) for i in range(20)])


def test_warm_up_rises_from_nothing():
    schedule = replace(DEFAULT, warmup_steps=10)
    assert rate_at(schedule, 0) == pytest.approx(0.001)
    assert rate_at(schedule, 9) == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimisers_have_the_schedules_numbers(name):
    network = torch.nn.Linear(2, 2)
    optimiser = make_optimiser(network, replace(DEFAULT, optimiser=name, weight_decay=0.125))
    set_learning_rate(optimiser, 0.5)
    group = optimiser.param_groups[0]
    assert group["lr"] == 0.5
    assert group["weight_decay"] == 0.125
    if name == "sgd":
        assert group["momentum"] == 0.99
        assert group["nesterov"]


def test_centres_count_more_and_more():
    schedule = replace(DEFAULT, epochs=4, steps=5, centre_weight=0.8)
    weights = [centre_weight(schedule, (step + 1) / 20) for step in range(20)]
    assert weights == sorted(weights)
    assert weights[9] == pytest.approx(0.8 / 4)
    assert weights[-1] == 0.8


CPU = torch.device("cpu")
OPTIMISERS = [Schedule(optimiser="sgd"), Schedule(optimiser="adamw")]


class Learning:
    """A network of one layer; the fused optimiser and the scaler that a GPU has, or neither."""

    def __init__(self, schedule, *, as_on_a_gpu, precision=torch.float32):
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 2)
        self.optimiser = make_optimiser(self.network, schedule, fused=as_on_a_gpu)
        self.scaler = make_scaler(CPU, precision, watching=as_on_a_gpu)

    def step(self, factor=1.0):
        self.optimiser.zero_grad()
        loss = self.network(torch.arange(3.0)).square().sum() * factor
        self.scaler.scale(loss).backward()
        return bool(apply_gradients(self.network, self.optimiser, self.scaler, 12.0))

    @property
    def tensors(self):
        state = [value for values in self.optimiser.state.values() for value in values.values()]
        return [value.clone() for value in (*self.network.parameters(), *state)]


def equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
@pytest.mark.parametrize("schedule", OPTIMISERS, ids=lambda s: s.optimiser)
def test_steps_without_finite_gradients_leave_everything_as_it_is(schedule, factor, as_on_a_gpu):
    learning = Learning(schedule, as_on_a_gpu=as_on_a_gpu)
    assert learning.step()
    before = learning.tensors
    assert not learning.step(factor)
    assert equal(learning.tensors, before)


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
@pytest.mark.parametrize("schedule", OPTIMISERS, ids=lambda s: s.optimiser)
def test_a_first_step_that_is_left_out_is_as_if_it_had_not_been(schedule, as_on_a_gpu):
    late = Learning(schedule, as_on_a_gpu=as_on_a_gpu)
    in_time = Learning(schedule, as_on_a_gpu=as_on_a_gpu)
    late.step(float("inf"))
    for _ in range(3):
        late.step()
        in_time.step()
    assert equal(late.tensors, in_time.tensors)


@pytest.mark.parametrize("schedule", OPTIMISERS, ids=lambda s: s.optimiser)
def test_a_fused_optimiser_learns_the_same(schedule):
    plain, fused = (Learning(schedule, as_on_a_gpu=choice) for choice in (False, True))
    for _ in range(5):
        plain.step()
        fused.step()
    torch.testing.assert_close(fused.network.weight, plain.network.weight)


def test_layers_that_learn_later_go_with_a_fused_optimiser():
    learning = Learning(Schedule(), as_on_a_gpu=True)
    learning.network.bias.requires_grad_(False)
    before = learning.network.bias.clone()
    learning.step()
    assert torch.equal(learning.network.bias, before)
    learning.network.bias.requires_grad_(True)
    learning.step()
    assert not torch.equal(learning.network.bias, before)


def test_what_only_watches_does_not_scale_whatever_happens():
    learning = Learning(Schedule(), as_on_a_gpu=True)
    for factor in [float("inf")] * 50 + [1.0] * 50:
        learning.step(factor)
    assert learning.scaler.get_scale() == 1.0


def test_float16_is_scaled_and_other_types_are_not_on_a_cpu():
    assert make_scaler(CPU, torch.float16).get_scale() == 2.0**16
    assert not make_scaler(CPU, torch.float32).is_enabled()
    assert not make_scaler(CPU, torch.bfloat16).is_enabled()


def test_a_cpu_has_no_fused_optimiser_unless_it_is_asked_for():
    network = torch.nn.Linear(2, 2)
    assert not make_optimiser(network, Schedule()).param_groups[0]["fused"]
    assert make_optimiser(network, Schedule(), fused=True).param_groups[0]["fused"]
