from __future__ import annotations

import numpy as np
import pytest

from autospine.core.estimate import Estimate, estimate


def test_mean_and_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(0.9, 0.05, 200)
    found = estimate(values.tolist(), [str(i) for i in range(200)])
    assert found.mean == pytest.approx(values.mean())
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert found.low == pytest.approx(found.mean - half, abs=half / 5)
    assert found.high == pytest.approx(found.mean + half, abs=half / 5)


def test_values_of_one_patient_are_drawn_together():
    """Ten equal values of each patient tell no more than one."""
    values = [0.5, 0.9, 0.7, 0.8]
    patients = ["a", "b", "c", "d"]
    once, repeated = estimate(values, patients), estimate(values * 10, patients * 10)
    assert (once.low, once.mean, once.high) == pytest.approx((repeated.low, repeated.mean, repeated.high))


def test_the_same_values_give_the_same_interval():
    values, patients = [0.1, 0.4, 0.35, 0.8], ["a", "b", "b", "c"]
    once = estimate(values, patients)
    estimate(values, ["a", "b", "c", "d"])
    assert estimate(values, patients) == once
    assert (once.low, once.high) == pytest.approx((0.1, 0.8))


def test_one_patient_has_no_interval():
    assert estimate([0.4, 0.6], ["a", "a"]) == Estimate(0.5, None, None)


def test_nothing_has_no_mean():
    assert estimate([], []) is None


def test_text():
    assert str(Estimate(0.91234, 0.9, 0.95)) == "0.9123 [0.9000, 0.9500]"
    assert str(Estimate(0.5, None, None)) == "0.5000"
