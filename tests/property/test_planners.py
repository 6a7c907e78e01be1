import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.dataset import LabelSchema
from autospine.core.plan import Budget, Plan
from autospine.io.documents import from_json, to_json
from autospine.planners import nnunet, spine
from autospine.planners.rules import MIN_EDGE

_FILE = Path(__file__).parents[1] / "unit" / "golden_plans.py"
_SPEC = importlib.util.spec_from_file_location("golden_plans", _FILE)
golden_plans = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden_plans)

spacings = st.tuples(st.floats(0.3, 6), st.floats(0.25, 3), st.floats(0.25, 5))
shapes = st.tuples(st.integers(8, 500), st.integers(8, 400), st.integers(8, 400))
cases = st.lists(st.tuples(spacings, shapes), min_size=1, max_size=6)
budgets = st.builds(
    Budget,
    device=st.sampled_from(["cpu", "cuda"]),
    gpu_memory=st.none() | st.floats(4, 80),
    cores=st.integers(1, 16),
    step_seconds=st.floats(0.05, 10),
)


def fingerprint(drawn):
    return golden_plans.fingerprint(
        [spacing for spacing, _ in drawn], [shape for _, shape in drawn], LabelSchema.vertebral_column()
    )


def check(plan):
    earlier = set()
    for configuration in plan.configurations:
        network = configuration.network
        assert all(n % d == 0 for n, d in zip(configuration.patch, network.divisors, strict=True))
        assert all(n // d >= MIN_EDGE for n, d in zip(configuration.patch, network.divisors, strict=True))
        assert len(network.kernels) == len(network.features) == len(network.decoder_blocks) + 1
        assert configuration.batch_size >= 2
        assert configuration.previous_stage is None or configuration.previous_stage in earlier
        earlier.add(configuration.name)
    assert plan.reasons
    assert all(r.decision and r.value and r.because for r in plan.reasons)
    assert from_json(Plan, to_json(plan)) == plan


@settings(max_examples=40)
@given(cases, budgets)
def test_spine_plans_are_sound(drawn, budget):
    plan = spine.plan(fingerprint(drawn), budget)
    check(plan)
    for configuration in plan.configurations:
        seen = configuration.axes[-configuration.dimensions :]
        assert all(seen[axis] == 2 for axis in configuration.mirror_axes)
    assert plan == spine.plan(fingerprint(drawn), budget)


@pytest.mark.parametrize(
    "planner", [nnunet.plan, nnunet.plan_resenc_m, nnunet.plan_resenc_l, nnunet.plan_resenc_xl]
)
@settings(max_examples=10)
@given(drawn=cases)
def test_nnunet_plans_are_sound(planner, drawn):
    plan = planner(fingerprint(drawn), Budget())
    check(plan)
    assert plan == planner(fingerprint(drawn), Budget())
