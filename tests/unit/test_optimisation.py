from dataclasses import replace

import pytest
import torch

from autospine.core.plan import Schedule
from autospine.trainers.optimisation import (
    centre_weight,
    learning_rate,
    make_optimiser,
    set_learning_rate,
)

DEFAULT = Schedule()


def test_the_default_decay_is_nnunets_polynomial_by_epoch():
    assert learning_rate(DEFAULT, 0) == 0.01
    assert learning_rate(DEFAULT, 249) == 0.01
    assert learning_rate(DEFAULT, 250) == pytest.approx(0.01 * (1 - 1 / 1000) ** 0.9)
    assert learning_rate(DEFAULT, 500 * 250) == pytest.approx(0.01 * 0.5**0.9)


def test_decay_by_step_ends_just_above_zero():
    schedule = replace(DEFAULT, epochs=4, steps=5, decay_every="step", decay_power=1.0)
    rates = [learning_rate(schedule, step) for step in range(20)]
    assert rates == pytest.approx([0.01 * (1 - i / 20) for i in range(20)])


def test_warm_up_rises_from_nothing():
    schedule = replace(DEFAULT, warmup_steps=10)
    assert learning_rate(schedule, 0) == pytest.approx(0.001)
    assert learning_rate(schedule, 9) == pytest.approx(0.01)


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
    weights = [centre_weight(schedule, step) for step in range(20)]
    assert weights == sorted(weights)
    assert weights[9] == pytest.approx(0.8 / 4)
    assert weights[-1] == 0.8
