import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autospine.core.dataset import LabelSchema
from autospine.core.errors import DataError, UnknownPluginError, UsageError
from autospine.core.nominal_fingerprint import nominal_fingerprint
from autospine.core.plan import Budget, Plan
from autospine.io.documents import from_json, to_json
from autospine.networks import build
from autospine.networks.measuring import size_of
from autospine.planning import PlanOptions, plan_for
from autospine.registry import find, names
from autospine.systems import SystemRequest

_SPEC = importlib.util.spec_from_file_location("golden_plans", Path(__file__).with_name("golden_plans.py"))
golden_plans = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden_plans)

BUDGETS = {"cpu": Budget("cpu"), "gpu": Budget("cuda")}
SYSTEMS = names("systems")
SOLID = ("caeb7_unet", "segnet", "unbalanced_unet", "ssae")


def lumbar(spacing=(3.0, 3.0, 3.0), shape=(60, 47, 47), labels=None, levels=tuple(range(20, 25))):
    schema = labels or LabelSchema.vertebral_column()
    return golden_plans.fingerprint([spacing] * 12, [shape] * 12, schema, levels=levels, body_pitch=33.0)


def planned(*wanted, fingerprint=None, budget="cpu"):
    return plan_for(fingerprint or lumbar(), PlanOptions("spine", BUDGETS[budget], wanted))


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_plan_builds_networks_that_take_its_patches(name, budget):
    plan = planned(name, budget=budget)
    assert plan.configurations[-1].name == name
    for configuration in plan.configurations:
        inputs, outputs = plan.input_channels(configuration), plan.output_channels(configuration)
        divisors = configuration.network.divisors
        assert all(n % d == 0 for n, d in zip(configuration.patch, divisors, strict=True))
        with torch.device("meta"):
            network = build(configuration.network, inputs, outputs)
            made = network(torch.empty(1, inputs, *configuration.patch))
        assert made.shape == (1, outputs, *configuration.patch)


@pytest.mark.parametrize("name", SYSTEMS)
def test_anisotropic_scans_can_be_planned_for(name):
    plan = planned(name, fingerprint=lumbar((5.0, 0.8, 0.8), (60, 300, 300)), budget="gpu")
    for configuration in plan.configurations:
        size = size_of(
            configuration.network,
            configuration.patch,
            plan.input_channels(configuration),
            plan.output_channels(configuration),
        )
        assert size.parameters > 0


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_plan_survives_its_document(name):
    plan = planned(name)
    assert from_json(Plan, to_json(plan), None) == plan


@pytest.mark.parametrize("name", SOLID)
def test_dimensions_can_be_chosen(name):
    flat, solid = (planned(f"{name}:dimensions={d}").configurations[-1] for d in (2, 3))
    assert (flat.dimensions, solid.dimensions) == (2, 3)
    assert solid.name == f"{name}_dimensions-3"


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_says_what_it_is_and_where_it_comes_from(name):
    system = find("systems", name)
    assert system.name == name
    assert system.summary
    assert system.source
    assert set(system.dimensions) <= {2, 3}


def test_systems_and_a_planners_own_configurations_mix():
    plan = planned("3d_fullres", "mru_net", "segnet")
    assert [c.name for c in plan.configurations] == ["3d_fullres", "chaspprau_net", "mru_net", "segnet"]
    assert plan.configuration("mru_net").previous_stage == "chaspprau_net"


def test_a_stage_that_two_systems_share_is_planned_once():
    plan = planned("chaspprau_net", "mru_net")
    assert [c.name for c in plan.configurations] == ["chaspprau_net", "mru_net"]


def test_systems_can_be_added_to_the_plan_of_another_planner():
    plan = plan_for(lumbar(), PlanOptions("nnunet", BUDGETS["gpu"], ("3d_fullres", "unbalanced_unet")))
    assert [c.name for c in plan.configurations] == ["3d_fullres", "unbalanced_unet"]
    assert not plan.configuration("unbalanced_unet").centres


def test_options_reach_network_and_plan():
    made = planned("caeb7_unet:variant=b3,context=0").configurations[-1]
    assert made.name == "caeb7_unet_context-0_variant-b3"
    assert (made.network.options["variant"], made.context) == ("b3", 0)
    assert planned("caeb7_unet", budget="gpu").configurations[-1].network.options["variant"] == "b7"


def test_the_second_stage_of_two_is_pluggable():
    plan = planned("dense_unet_2stage:segmenter=residual_unet")
    locator, segmenter = plan.configurations
    assert (locator.target, locator.network.name) == ("centroids", "dense_unet")
    assert (segmenter.view, segmenter.network.name) == ("vertebrae", "residual_unet")


def test_the_locator_is_the_planners_own_coarse_stage_where_there_is_one():
    plan = planned("locate_then_segment")
    assert plan.configurations[-1].previous_stage == plan.configurations[0].name
    wide = nominal_fingerprint()
    assert planned("locate_then_segment", fingerprint=wide).configurations[0].name == "3d_lowres"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("caeb7_unet:variant=b9", UsageError),
        ("caeb7_unet:colour=red", UsageError),
        ("caeb7_unet:variant", UsageError),
        ("dense_unet_2stage:segmenter=nothing", UnknownPluginError),
        ("segnet:dimensions=4", UsageError),
        ("kmeans_knn:dimensions=3", UsageError),
        ("ssae:patch=-5", UsageError),
        ("caeb7_unet:dimensions=3,context=1", UsageError),
        ("no_such_system", UnknownPluginError),
    ],
)
def test_what_does_not_exist_is_refused(text, error):
    with pytest.raises(error):
        planned(text)


def test_a_misspelt_system_finds_its_name():
    with pytest.raises(UnknownPluginError, match="segnett") as caught:
        planned("segnett")
    assert "segnet" in caught.value.remedy


def test_no_rule_overrules_what_was_asked_for():
    assert planned("caeb7_unet:variant=b7").configurations[-1].network.options["variant"] == "b7"
    assert planned("segnet:dimensions=3,norm=batch").configurations[-1].network.options["norm"] == "batch"
    assert planned("segnet:dimensions=3").configurations[-1].network.options["norm"] == "instance"


def test_the_order_of_options_makes_no_other_configuration():
    first, second = (SystemRequest.parse(text) for text in ("a:b=1,c=2", "a:c=2,b=1"))
    assert first == second


def test_a_system_of_a_file_is_asked_for_by_its_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from autospine.planners.systems.segnet import SEGNET as MINE\n")
    made = planned(f"{file}:MINE:balancing=false").configurations[-1]
    assert made.name.endswith("mine.py-MINE_balancing-false")
    assert made.class_weights == ()
    assert not SystemRequest.parse("./mine.py:MINE").configuration_name.startswith(".")


def test_what_is_not_ct_suits_no_patch_classifier():
    fingerprint = replace(lumbar(), channels=("MRI",))
    with pytest.raises(DataError, match="not CT"):
        planned("ssae", fingerprint=fingerprint)


def test_binary_masks_suit_what_needs_no_names_and_nothing_else():
    labels = LabelSchema({0: "background", 1: "vertebra"})
    fingerprint = lumbar(labels=labels, levels=(1,))
    for name in ("kmeans_knn", "ssae", "chaspprau_net"):
        plan = planned(name, fingerprint=fingerprint)
        assert plan.output_channels(plan.configurations[-1]) == 2
    for name in ("iterative", "dense_unet_2stage"):
        with pytest.raises(DataError, match="names"):
            planned(name, fingerprint=fingerprint)


def test_rare_classes_weigh_more_but_not_without_limit():
    fingerprint = lumbar()
    volumes = {20: 30_000.0, 21: 30_000.0, 22: 30_000.0, 23: 30_000.0, 24: 10.0}
    cases = tuple(replace(case, volumes=volumes) for case in fingerprint.cases)
    weights = (
        planned("segnet", fingerprint=replace(fingerprint, cases=cases)).configurations[-1].class_weights
    )
    assert weights[0] < 0.5
    assert weights[1:5] == pytest.approx((1.0,) * 4)
    assert weights[5] == 10.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("segnet", SystemRequest("segnet")),
        ("a:b=c,d=1/2", SystemRequest("a", (("b", "c"), ("d", "1/2")))),
    ],
)
def test_requests_are_parsed(text, expected):
    assert SystemRequest.parse(text) == expected
