import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from autospine.core.cost import cost_table, estimate
from autospine.core.dataset import LabelSchema
from autospine.core.errors import DataError
from autospine.core.network_size import parameters
from autospine.core.plan import Budget
from autospine.io.documents import from_json, to_json
from autospine.networks import build
from autospine.planners import rules, spine
from autospine.planners.patches import covered

_SPEC = importlib.util.spec_from_file_location("golden_plans", Path(__file__).with_name("golden_plans.py"))
golden_plans = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden_plans)

COLUMN = LabelSchema.vertebral_column()
LUMBAR = tuple(range(20, 25))
CPU = Budget("cpu")
GPU = Budget("cuda")


def phantoms(**fields):
    return golden_plans.fingerprint(
        [(3, 3, 3)] * 12, [(60, 47, 47)] * 12, COLUMN, levels=LUMBAR, body_pitch=33.0, **fields
    )


def whole_spines(spacing=(1.0, 1.0, 1.0), shape=(600, 250, 250), cases=80):
    return golden_plans.fingerprint(
        [spacing] * cases, [shape] * cases, COLUMN, levels=tuple(range(1, 25)), body_pitch=27.0
    )


def reason(plan, decision):
    return next(r for r in plan.reasons if r.decision == decision)


def test_only_labels_that_occur_are_classes():
    plan = spine.plan(phantoms(), CPU)
    assert plan.classes == (0, 20, 21, 22, 23, 24)
    assert "T13" in reason(plan, "classes").because


def test_the_ignored_label_is_no_class():
    labels = LabelSchema.vertebral_column(ignore=True)
    fingerprint = replace(phantoms(), labels=labels)
    fingerprint = replace(fingerprint, cases=tuple(replace(c, levels=(20, 27)) for c in fingerprint.cases))
    assert spine.plan(fingerprint, CPU).classes == (0, 20)


def test_nothing_labelled_is_refused():
    with pytest.raises(DataError, match="label"):
        spine.plan(golden_plans.fingerprint([(3, 3, 3)], [(60, 47, 47)], COLUMN, levels=()), CPU)


def test_a_cpu_plan_has_all_four_configurations_on_coarse_grids():
    plan = spine.plan(phantoms(), CPU)
    names = [c.name for c in plan.configurations]
    assert names == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    low, full = plan.configuration("3d_lowres"), plan.configuration("3d_fullres")
    assert full.spacing == (4.0, 4.0, 4.0)
    assert low.spacing == (6.0, 6.0, 6.0)
    assert all(n * s >= mm for n, s, mm in zip(low.patch, low.spacing, (180, 141, 141), strict=True))
    assert max(estimate(plan, c, phantoms()).step_seconds for c in plan.configurations) < 0.5
    assert {c.batch_size for c in (low, full)} == {2}


def test_more_time_a_step_buys_finer_voxels_on_a_cpu():
    slow = spine.plan(whole_spines(), Budget("cpu", step_seconds=4.0)).configuration("3d_fullres")
    fast = spine.plan(whole_spines(), CPU).configuration("3d_fullres")
    assert slow.spacing[0] == pytest.approx(fast.spacing[0] / 2)
    assert fast.spacing[0] == pytest.approx(4.0)


@pytest.mark.parametrize("budget", [CPU, Budget("cpu", step_seconds=0.05), Budget("cpu", step_seconds=5.0)])
def test_a_step_on_a_cpu_takes_no_longer_than_allowed(budget):
    fingerprint = whole_spines()
    plan = spine.plan(fingerprint, budget)
    for configuration in plan.configurations:
        if configuration.previous_stage is None:
            assert estimate(plan, configuration, fingerprint).step_seconds <= budget.step_seconds


def test_patches_on_a_gpu_are_long_and_wide_enough():
    full = spine.plan(whole_spines(), GPU).configuration("3d_fullres")
    extent = covered(full)
    assert full.spacing == (1.0, 1.0, 1.0)
    assert extent[0] > 1.4 * max(extent[1], extent[2])
    assert min(extent[1], extent[2]) >= 100
    assert full.network.name == "residual_unet"


def test_more_memory_shows_more_vertebrae():
    lengths = [
        covered(spine.plan(whole_spines(), Budget("cuda", memory)).configuration("3d_fullres"))[0]
        for memory in (8.0, 16.0, 24.0)
    ]
    assert lengths == sorted(set(lengths))


def test_reasons_count_the_vertebrae_a_patch_shows():
    plan = spine.plan(whole_spines(), GPU)
    full = plan.configuration("3d_fullres")
    assert f"{covered(full)[0] / 27:.0f} vertebrae" in reason(plan, "3d_fullres patch").because


def test_the_low_resolution_stage_sees_the_whole_column():
    low = spine.plan(whole_spines(), GPU).configuration("3d_lowres")
    extent = covered(low)
    assert extent[0] >= 600
    assert min(extent[1], extent[2]) >= 240


def test_no_low_resolution_stage_where_the_patch_sees_the_scan():
    plan = spine.plan(phantoms(), GPU)
    assert [c.name for c in plan.configurations] == ["2d", "3d_fullres"]
    assert not plan.configuration("3d_fullres").batch_dice
    assert reason(plan, "low-resolution stage").value == "no"


def test_two_dimensions_are_sagittal_and_evenly_spaced():
    flat = spine.plan(whole_spines((3.0, 0.5, 0.6), (200, 300, 280)), GPU).configuration("2d")
    assert flat.axes == (2, 0, 1)
    assert flat.spacing == (0.6, 3.0, 0.5)
    assert flat.mirror_axes == ()
    assert flat.batch_dice


def test_a_very_coarse_left_right_axis_comes_first():
    full = spine.plan(whole_spines((0.5, 0.5, 3.3), (700, 500, 45)), GPU).configuration("3d_fullres")
    assert full.axes == (2, 0, 1)
    assert full.mirror_axes == (0,)


def test_mirroring_is_left_right_only():
    plan = spine.plan(whole_spines(), GPU)
    assert {c.mirror_axes for c in plan.configurations if c.dimensions == 3} == {(2,)}


def test_labels_with_sides_are_never_mirrored():
    labels = LabelSchema({0: "background", 1: "left", 2: "right"}, left_right=((1, 2),))
    plan = spine.plan(golden_plans.fingerprint([(1, 1, 1)], [(200, 200, 200)], labels, levels=(1, 2)), GPU)
    assert {c.mirror_axes for c in plan.configurations} == {()}


def test_padding_is_air_as_the_network_sees_it():
    full = spine.plan(whole_spines(), GPU).configuration("3d_fullres")
    assert full.padding == pytest.approx(((-60 - 300) / 210,))
    assert full.crop == "body"


def test_padding_of_other_channels_is_their_mean():
    fingerprint = golden_plans.fingerprint([(1, 1, 1)], [(200, 200, 200)], COLUMN, channels=("MR",))
    plan = spine.plan(fingerprint, GPU)
    assert plan.configuration("3d_fullres").padding == (0.0,)
    assert "CT" in reason(plan, "intensities").because


def test_implausible_intensities_are_reported():
    plan = spine.plan(phantoms(plausible_hu=False), CPU)
    assert reason(plan, "intensities to check").value == "12 of 12 scans"


@pytest.mark.parametrize("budget", [CPU, GPU, Budget("cuda", 80.0)])
@pytest.mark.parametrize("cases", [1, 2, 12])
def test_few_small_cases_do_not_degenerate(budget, cases):
    fingerprint = replace(phantoms(), cases=phantoms().cases[:cases])
    plan = spine.plan(fingerprint, budget)
    assert all(2 <= c.batch_size <= 48 for c in plan.configurations)


def test_a_plan_survives_its_document():
    plan = spine.plan(whole_spines(), GPU)
    assert from_json(type(plan), to_json(plan)) == plan


def test_schedules_fit_the_device():
    gpu = spine.plan(phantoms(), GPU).configuration("3d_fullres").schedule
    cpu = spine.plan(phantoms(), CPU).configuration("3d_fullres").schedule
    assert (gpu.epochs, gpu.steps, gpu.optimiser) == (1000, 250, "sgd")
    assert cpu.epochs * cpu.steps < 10_000
    assert cpu.decay_every == "step"


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    ("name", "blocks", "decoder"), [("plain_unet", (2,), 2), ("residual_unet", (1, 2), 1)]
)
def test_parameters_are_those_of_the_network(name, blocks, decoder, dimensions):
    found = rules.topology((3.0, 1.0, 1.0)[:dimensions], (16, 16, 16)[:dimensions])
    network = rules.unet(name, found, blocks, decoder, base=4)
    built = build(network, 2, 5)
    assert parameters(network, 2, 5) == sum(p.numel() for p in built.parameters())


def test_costs_of_nnunet_networks_are_near_the_documented_hours():
    from autospine.planners import nnunet

    liver = golden_plans.fingerprint([(1.0, 0.7676, 0.7676)] * 131, [(432, 512, 512)] * 131, 3)
    for planner, hours, memory in (
        (nnunet.plan, 9, 8),
        (nnunet.plan_resenc_m, 12, 8),
        (nnunet.plan_resenc_l, 35, 24),
        (nnunet.plan_resenc_xl, 66, 40),
    ):
        plan = planner(liver, GPU)
        cost = estimate(plan, plan.configuration("3d_fullres"), liver)
        assert cost.training_hours == pytest.approx(hours, rel=0.25)
        assert cost.memory_gb == pytest.approx(memory, rel=0.35)


def test_a_cost_table_names_every_configuration():
    plan = spine.plan(phantoms(), CPU)
    text = cost_table(plan, phantoms(), 5)
    assert all(c.name in text for c in plan.configurations)
    assert "5 folds" in text


def test_three_dimensions_learn_body_centres_and_two_do_not():
    plan = spine.plan(phantoms(), CPU)
    assert {c.name for c in plan.configurations if c.centres} == {
        "3d_lowres",
        "3d_fullres",
        "3d_cascade_fullres",
    }
    assert [plan.output_channels(c) for c in plan.configurations] == [6, 10, 10, 10]
    assert plan.column.levels == LUMBAR


def test_a_single_vertebra_makes_no_column():
    one = golden_plans.fingerprint([(3, 3, 3)] * 4, [(60, 47, 47)] * 4, COLUMN, levels=(22,))
    plan = spine.plan(one, CPU)
    assert plan.column is None
    assert not any(c.centres for c in plan.configurations)
    assert "names" not in {r.decision for r in plan.reasons}


def test_centre_channels_cost_something():
    plan = spine.plan(phantoms(), GPU)
    full = plan.configuration("3d_fullres")
    plain = estimate(plan, replace(full, centres=False), phantoms())
    rich = estimate(plan, full, phantoms())
    assert plain.parameters < rich.parameters
    assert plain.step_seconds < rich.step_seconds < 1.1 * plain.step_seconds
    assert plain.memory_gb < rich.memory_gb < 1.1 * plain.memory_gb


def with_volumes(fingerprint, lowest):
    """Every vertebra has 50 ml but the lowest, which the border of every scan touches."""
    volumes = {**dict.fromkeys(LUMBAR, 50_000.0), LUMBAR[-1]: lowest}
    touching = {"cut_levels": (LUMBAR[-1],), "end_cut_levels": (LUMBAR[-1],)}
    first = replace(fingerprint.cases[0], volumes=dict.fromkeys(LUMBAR, 50_000.0))
    others = tuple(replace(c, volumes=volumes, **touching) for c in fingerprint.cases[1:])
    return replace(fingerprint, cases=(first, *others))


def test_touching_the_border_is_not_yet_being_cut():
    plan = spine.plan(with_volumes(phantoms(), lowest=48_000.0), CPU)
    assert plan.ignore_border
    assert plan.partial == "drop"


def test_a_data_set_that_labels_cut_vertebrae_keeps_them():
    plan = spine.plan(with_volumes(phantoms(), lowest=20_000.0), CPU)
    assert not plan.ignore_border
    assert plan.partial == "keep"
    assert reason(plan, "cut vertebrae").value == "kept"
