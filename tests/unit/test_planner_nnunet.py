import importlib.util
from pathlib import Path

import pytest

from autospine.core.network_size import feature_maps
from autospine.core.plan import Budget
from autospine.planners import nnunet, rules

_SPEC = importlib.util.spec_from_file_location("golden_plans", Path(__file__).with_name("golden_plans.py"))
golden_plans = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden_plans)

PLANNERS = {
    "plain_8GB": (nnunet.plan, None),
    "plain_16GB": (nnunet.plan, 16.0),
    "resenc_M_8GB": (nnunet.plan_resenc_m, None),
    "resenc_L_24GB": (nnunet.plan_resenc_l, None),
    "resenc_XL_40GB": (nnunet.plan_resenc_xl, None),
}
GOLDEN = [pytest.param(*golden[1:], id=f"{golden[0]}-{golden[1]}") for golden in golden_plans.load()]


def in_nnunet_words(configuration):
    flat = configuration.dimensions == 2
    network = configuration.network
    return {
        "spacing": list(configuration.spacing)[flat:],
        "patch_size": list(configuration.patch),
        "batch_size": configuration.batch_size,
        "batch_dice": configuration.batch_dice,
        "median_shape": list(configuration.median_shape)[flat:],
        "n_stages": len(network.features),
        "features": list(network.features),
        "kernels": [list(kernel) for kernel in network.kernels],
        "strides": [list(stride) for stride in network.strides],
        "n_conv_encoder": list(network.encoder_blocks),
        "n_conv_decoder": list(network.decoder_blocks),
    }


@pytest.mark.parametrize(("planner", "fingerprint", "expected"), GOLDEN)
def test_plans_equal_those_of_nnunet(planner, fingerprint, expected):
    function, memory = PLANNERS[planner]
    plan = function(fingerprint, Budget(gpu_memory=memory))
    wanted = dict(expected["configurations"])
    if cascade := wanted.pop("3d_cascade_fullres", None):
        made = plan.configuration("3d_cascade_fullres")
        assert made.previous_stage == cascade["previous_stage"]
        assert in_nnunet_words(made) == wanted[cascade["inherits_from"]]
    singles = {c.name: in_nnunet_words(c) for c in plan.configurations if c.previous_stage is None}
    assert singles == wanted
    assert list(plan.configurations[0].axes) == expected["axes"]


def test_all_golden_plans_are_there():
    assert len(GOLDEN) == 35


def test_everything_but_the_shapes_is_nnunet_default():
    plan = nnunet.plan(golden_plans.fingerprint([(1, 1, 1)] * 20, [(320, 250, 250)] * 20, 4), Budget())
    full = plan.configuration("3d_fullres")
    assert (full.crop, full.padding, full.mirror_axes) == ("nonzero", (0.0,), (0, 1, 2))
    assert (full.image_order, full.separate_axis_ratio) == (3, 3.0)
    assert (full.normalisation[0].lower, full.normalisation[0].upper) == (-60.0, 1200.0)
    assert full.schedule.epochs * full.schedule.steps == 250_000
    flat = plan.configuration("2d")
    assert flat.spacing[0] is None
    assert flat.mirror_axes == (0, 1)
    assert plan.classes == (0, 1, 2, 3)


def test_channels_other_than_ct_are_normalised_by_image():
    fingerprint = golden_plans.fingerprint([(1, 1, 1)], [(60, 60, 60)], 2, channels=("MR",))
    full = nnunet.plan(fingerprint, Budget()).configuration("3d_fullres")
    assert [channel.kind for channel in full.normalisation] == ["zscore"]


@pytest.mark.parametrize(
    ("name", "blocks", "decoder", "all_heads", "edge", "dimensions", "expected"),
    [
        ("plain_unet", (2,), 2, False, 128, 3, 452_796_416),
        ("plain_unet", (2,), 2, True, 128, 3, 453_694_976),
        ("residual_unet", (1, 3, 4, 6), 1, True, 128, 3, 558_319_104),
        ("residual_unet", (1, 3, 4, 6), 1, True, 512, 2, 129_793_792),
    ],
)
def test_feature_maps_are_counted_as_in_nnunet(name, blocks, decoder, all_heads, edge, dimensions, expected):
    found = rules.topology((1.0,) * dimensions, (edge,) * dimensions)
    network = rules.unet(name, found, blocks, decoder)
    stages = 7 if dimensions == 2 else 6
    assert found.stages == stages + (dimensions == 2)
    cut = rules.Topology(
        found.spacing, found.patch, found.strides[:stages], found.kernels[:stages], found.divisors
    )
    network = rules.unet(name, cut, blocks, decoder)
    assert feature_maps(network, found.patch, 3, all_heads=all_heads) == expected


def test_thick_slices_take_the_tenth_percentile_of_their_axis():
    spacings = [(1.0, 0.5, 0.5)] + [(5.0, 0.5, 0.5)] * 8 + [(3.0, 0.5, 0.5)]
    target = rules.target_spacing(spacings, [(60, 400, 400)] * 10)
    assert target.tolist() == pytest.approx([2.8, 0.5, 0.5])


def test_thick_slices_never_become_finer_than_the_plane():
    spacings = [(0.3, 0.5, 0.5)] * 3 + [(5.0, 0.5, 0.5)] * 7
    target = rules.target_spacing(spacings, [(60, 400, 400)] * 10)
    assert target.tolist() == pytest.approx([0.5 + 1e-5, 0.5, 0.5], abs=1e-12)


def test_many_thick_slices_keep_the_median():
    target = rules.target_spacing([(5.0, 0.5, 0.5)] * 4, [(200, 400, 400)] * 4)
    assert target.tolist() == [5.0, 0.5, 0.5]


def test_the_coarsest_axis_comes_first():
    assert rules.coarsest_first((0.5, 0.5, 4.0)) == (2, 0, 1)
    assert rules.coarsest_first((1.0, 1.0, 1.0)) == (0, 1, 2)


def test_shrinking_does_not_skip_a_size():
    large = rules.topology((1.0, 1.0), (256, 256))
    assert large.divisors == (64, 64)
    assert rules.shrunk(large, 0).patch == (224, 256)
