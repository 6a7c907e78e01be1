from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from autospine.cli.amounts import parse_bytes
from autospine.core.column import ColumnModel
from autospine.core.errors import ResourceError, UsageError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Configuration, NetworkSpec, Normalisation
from autospine.core.trace import Trace
from autospine.host_memory import resident_memory
from autospine.inference.memory import ScanMemory, plan_memory
from autospine.resampling import resampling_values

FULL = (400, 300, 300)
STORED = (200, 150, 150)
VOXELS = 200 * 150 * 150
PLAN = SimpleNamespace(
    classes=tuple(range(27)),
    vertebra_channels=tuple(range(1, 27)),
    input_channels=lambda _: 1,
    output_channels=lambda _: 31,
    column=None,
)
STAGE = Configuration(
    name="3d_fullres",
    axes=(0, 1, 2),
    spacing=(2.0, 2.0, 2.0),
    patch=(50, 40, 40),
    batch_size=1,
    median_shape=(200.0, 150.0, 150.0),
    network=NetworkSpec("plain_unet", (16,), ((3, 3, 3),), ((1, 1, 1),), (1,), ()),
    crop="body",
    normalisation=(Normalisation("ct", -1000, 1000, 0, 1),),
    padding=(-3.0,),
    mirror_axes=(),
    batch_dice=False,
)


def trace(full=FULL, stored=STORED):
    grid = Grid(full, (1.0, 1.0, 1.0))
    return Trace(grid, Orientation.to_canonical(grid), Box.whole(full), (0, 1, 2), stored)


def needs(**changes):
    usual = ScanMemory(
        base=500_000_000,
        scan=2 * 400 * 300 * 300,
        voxels=400 * 300 * 300,
        stages=(STAGE,),
        traces={"3d_fullres": trace()},
        plan=PLAN,
    )
    return replace(usual, **changes)


def test_outputs_on_the_disk_take_no_memory():
    inside, outside = needs().steps(on_disk=False), needs().steps(on_disk=True)
    assert inside["network 3d_fullres"] - outside["network 3d_fullres"] == 2 * 31 * VOXELS
    assert inside["preprocessing for 3d_fullres"] == outside["preprocessing for 3d_fullres"]


def test_the_scan_is_gone_when_the_mask_is_made():
    small, large = needs(), needs(scan=10 * 400 * 300 * 300)
    assert small.steps(on_disk=True)["naming and mask"] == large.steps(on_disk=True)["naming and mask"]
    assert small.steps(on_disk=True)["reading"] < large.steps(on_disk=True)["reading"]


def test_voxels_that_vote_for_centres_count_and_are_bounded():
    voting = replace(STAGE, centres=True)
    column = ColumnModel(tuple(range(1, 27)), (), {20: 40_000.0, 21: 44_000.0})
    plan = SimpleNamespace(**{**vars(PLAN), "column": column})
    step = "naming and mask"
    with_votes = needs(stages=(voting,), plan=plan).steps(on_disk=False)[step]
    voters = 2 * 26 * 42_000 / 8  # two columns of such vertebrae, in voxels of 2 mm
    assert with_votes - needs().steps(on_disk=False)[step] == pytest.approx(120 * voters)
    tiny = trace((40, 40, 40), (20, 20, 20))
    few = needs(stages=(voting,), traces={"3d_fullres": tiny}, plan=plan).steps(on_disk=False)[step]
    none = needs(traces={"3d_fullres": tiny}).steps(on_disk=False)[step]
    assert few - none == 120 * 20**3


def test_voxels_named_by_themselves_need_no_joined_classes():
    alone = needs(joined=False).steps(on_disk=False)["naming and mask"]
    assert needs().steps(on_disk=False)["naming and mask"] - alone == (6 + 4 * 2) * VOXELS


def test_what_fits_stays_in_memory(tmp_path):
    plan = plan_memory(needs(), 8 * 10**9, tmp_path)
    assert plan.scratch.folder is None
    assert plan.peak == max(needs().steps(on_disk=False).values())
    assert "GB of memory" in str(plan)


def test_what_does_not_fit_goes_to_the_disk(tmp_path):
    steps = needs().steps(on_disk=False)
    plan = plan_memory(needs(), max(steps.values()) - 1, tmp_path)
    assert plan.scratch.folder == tmp_path
    assert plan.peak == max(needs().steps(on_disk=True).values())
    assert "on disk" in str(plan)


def test_what_does_not_fit_even_so_is_refused(tmp_path):
    least = max(needs().steps(on_disk=True).values())
    with pytest.raises(ResourceError, match="--memory"):
        plan_memory(needs(), least - 1, tmp_path)


def test_two_configurations_add_up():
    other = replace(STAGE, name="other")
    both = needs(stages=(STAGE, other), traces={"3d_fullres": trace(), "other": trace()})
    apart, together = needs().steps(on_disk=False), both.steps(on_disk=False)
    assert together["network other"] == apart["network 3d_fullres"] + (4 + 2 * 31) * VOXELS


@pytest.mark.parametrize(
    ("full", "stored", "expected"),
    [
        ((4, 4, 4), (4, 4, 4), 64),
        ((4, 4, 4), (2, 4, 4), 64 + 32),
        ((4, 4, 4), (2, 3, 4), 64 + 32 + 24),
        ((4, 4, 4), (4, 4, 8), 64 + 128),
    ],
)
def test_values_alive_while_a_channel_is_resampled(full, stored, expected):
    assert resampling_values(trace(full, stored)) == expected


def test_the_process_knows_its_memory():
    before = resident_memory()
    ballast = np.ones(10_000_000)
    assert 40_000_000 < resident_memory() - before < 200_000_000
    assert ballast.all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8GB", 8 * 10**9), ("0.5 gb", 5 * 10**8), ("12", 12 * 10**9), ("300MB", 3 * 10**8)],
)
def test_amounts_have_units(text, expected):
    assert parse_bytes(text, "--memory") == expected


@pytest.mark.parametrize("text", ["", "much", "-8GB", "0", "8GiB", "nan"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(UsageError, match="--memory"):
        parse_bytes(text, "--memory")
