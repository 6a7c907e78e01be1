"""Vertebrae located in predictions of phantoms: balls, votes, outlines, and no names at all."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autospine.core.findings import Findings
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.inference.instances import Instance, merge_instances
from autospine.inference.locating import locate
from autospine.inference.prediction import Prediction
from autospine.io import documents

_SPEC = importlib.util.spec_from_file_location(
    "phantom_columns", Path(__file__).with_name("phantom_columns.py")
)
phantoms = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(phantoms)

VIEWS = [((0, 1, 2), ("SPL",), 0.0), ((2, 0, 1), ("RIA",), 8.0), ((1, 2, 0), ("PIR",), 12.0)]
BALLS = phantoms.configuration((24, 24, 24), target="centroids")
CLASSES = phantoms.configuration((24, 24, 24))
FOREGROUND = phantoms.configuration((24, 24, 24), target="foreground")
VOTES = phantoms.configuration((24, 24, 24), centres=True)
#: A stored grid fine enough for balls of 6 mm, of a scan that is 120 mm high.
GRID = Grid((60, 20, 20), (2.0, 2.0, 2.0), (5.0, -30.0, 100.0))
TRACE = Trace(GRID, Orientation.to_canonical(GRID), Box.whole(GRID.shape), (0, 1, 2), GRID.shape)
PLAN = phantoms.column().plan()


def balls(trace, centres, sure=8.0, radius=6.0):
    """Logits of balls around stored voxel coordinates, by channel or with the shares of several channels."""
    logits = np.full((27, *trace.shape), -8.0, dtype=np.float16)
    logits[0] = 0
    places = np.stack(np.meshgrid(*map(np.arange, trace.shape), indexing="ij"))
    for names, centre in centres:
        offset = (places - np.reshape(centre, (3, 1, 1, 1))) * np.reshape(
            trace.stored_grid.spacing, (3, 1, 1, 1)
        )
        ball = (offset**2).sum(axis=0) <= radius**2
        for channel, share in names.items():
            logits[channel, ball] = sure + np.log(share)
    return Prediction(logits, trace)


def in_a_row(*heights, names=(19, 20, 21, 22, 23, 24)):
    """Balls at these heights in voxels, from head to foot."""
    return [({name: 1.0}, (height, 10.0, 9.5)) for name, height in zip(names, heights, strict=False)]


def heights(findings):
    return [float(GRID.to_index(v.centre)[0]) for v in findings.vertebrae]


def best(findings):
    return [int(np.argmax(v.names)) for v in findings.vertebrae]


def positions(findings):
    return [v.centre for v in findings.vertebrae]


def labels_as_logits(column):
    logits = (column.labels == np.arange(27)[:, None, None, None]) * 12.0
    return Prediction(logits.astype(np.float16), column.trace)


@pytest.mark.parametrize(("axes", "orientations", "oblique"), VIEWS)
def test_balls_are_found_where_they_are_and_named(axes, orientations, oblique):
    column = phantoms.column(2, "thoracolumbar", axes, orientations, oblique)
    made = balls(column.trace, [({c: 1.0}, p) for c, p in column.centres.items()], radius=8.0)
    found = locate(made, BALLS, column.plan())
    assert best(found) == list(column.world)
    np.testing.assert_allclose(positions(found), list(column.world.values()), atol=2.0)
    for vertebra in found.vertebrae:
        assert sum(vertebra.names) == pytest.approx(1)
        assert max(vertebra.names) > 0.95
        assert vertebra.names[0] == 0


def test_a_balls_centre_is_found_between_voxels():
    found = locate(balls(TRACE, [({20: 1.0}, (30.5, 9.5, 9.5))]), BALLS, PLAN)
    (vertebra,) = found.vertebrae
    np.testing.assert_allclose(GRID.to_index(vertebra.centre), (30.5, 9.5, 9.5), atol=0.15)


def test_an_unlikely_ball_is_none():
    likely = [({20: 1.0}, (40.0, 10.0, 9.5))]
    assert len(locate(balls(TRACE, likely, sure=2.0), BALLS, PLAN).vertebrae) == 1
    assert locate(balls(TRACE, likely, sure=-1.0), BALLS, PLAN) == Findings()
    # Likely by itself, but too small for a ball.
    assert locate(balls(TRACE, likely, sure=2.0, radius=2.1), BALLS, PLAN).vertebrae == ()


def test_the_weaker_of_two_that_stand_too_closely_is_none():
    row = in_a_row(56, 43, 38, 30, 17, 4)
    strong, weak = [row[i] for i in (0, 1, 3, 4, 5)], [row[2]]
    made = balls(TRACE, strong)
    # The others' names are kept: 21 is the weak one between.
    made.logits[:] = np.maximum(made.logits, balls(TRACE, weak, sure=1.0).logits)
    found = locate(made, BALLS, PLAN)
    np.testing.assert_allclose(heights(found), [56, 43, 30, 17, 4], atol=0.5)
    assert best(found) == [19, 20, 22, 23, 24]


def test_gaps_may_grow_along_the_column():
    row = in_a_row(57, 49, 40, 30, 18, 5)
    assert len(locate(balls(TRACE, row), BALLS, PLAN).vertebrae) == 6


def test_the_names_of_a_ball_are_a_mean():
    found = locate(balls(TRACE, [({20: 0.75, 21: 0.25}, (30, 10, 10))]), BALLS, PLAN)
    (vertebra,) = found.vertebrae
    assert vertebra.names[20] == pytest.approx(0.75, abs=0.01)
    assert vertebra.names[21] == pytest.approx(0.25, abs=0.01)


def test_a_plateau_is_one_place():
    logits = np.full((27, *TRACE.shape), -8.0, dtype=np.float16)
    logits[20] = 8
    assert 1 <= len(locate(Prediction(logits, TRACE), BALLS, PLAN).vertebrae) < 200


@pytest.mark.parametrize(("axes", "orientations", "oblique"), VIEWS)
def test_votes_make_groups(axes, orientations, oblique):
    column = phantoms.column(2, "thoracolumbar", axes, orientations, oblique)
    plan = column.plan()
    found = locate(voting(column, plan), VOTES, plan)
    assert best(found) == list(column.world)
    np.testing.assert_allclose(positions(found), list(column.world.values()), atol=0.5)
    assert all(sum(v.names) == pytest.approx(1) for v in found.vertebrae)


def voting(column, plan, less=1.0):
    """A prediction with centre channels, the last vertebra showing a share of its voxels."""
    instances = []
    for channel, centre in column.centres.items():
        mask = column.labels == channel
        if channel == list(column.world)[-1]:
            mask &= np.cumsum(mask).reshape(mask.shape) <= less * mask.sum()
        box = Box.around(mask)
        odds = np.where(mask[box.slices], 9.0, -9.0).astype(np.float32)
        instances.append(Instance(box, odds, np.array(phantoms.one_hot(channel)), centre))
    return merge_instances(instances, column.trace, plan)


def test_a_group_of_hardly_any_voxels_is_none():
    column = phantoms.column(2, "thoracolumbar")
    plan = column.plan()
    assert best(locate(voting(column, plan, 0.3), VOTES, plan)) == list(column.world)
    assert best(locate(voting(column, plan, 0.02), VOTES, plan)) == list(column.world)[:-1]


@pytest.mark.parametrize(("axes", "orientations", "oblique"), VIEWS)
def test_outlines_have_bodies(axes, orientations, oblique):
    column = phantoms.column(2, "lumbar", axes, orientations, oblique)
    found = locate(labels_as_logits(column), CLASSES, column.plan())
    assert best(found) == list(column.world)
    np.testing.assert_allclose(positions(found), list(column.world.values()), atol=5.0)
    for vertebra in found.vertebrae:
        assert max(vertebra.names) == pytest.approx(0.9)
        assert vertebra.names[0] == 0
        assert sum(vertebra.names) == pytest.approx(1)


def test_without_knowledge_of_columns_votes_are_not_counted():
    column = phantoms.column(2, "lumbar")
    plan = replace(column.plan(), column=None)
    found = locate(voting(column, column.plan()), VOTES, plan)
    assert best(found) == list(column.world)
    assert max(found.vertebrae[0].names) == pytest.approx(0.9)


def test_stray_voxels_are_no_vertebra():
    column = phantoms.column(2, "lumbar")
    column.labels[0, 0, :3] = 5
    found = locate(labels_as_logits(column), CLASSES, column.plan())
    assert best(found) == list(column.world)


@pytest.mark.parametrize(("axes", "orientations", "oblique"), VIEWS)
def test_the_box_holds_the_spine_and_little_more(axes, orientations, oblique):
    column = phantoms.column(2, "lumbar", axes, orientations, oblique)
    two = (column.labels > 0)[None] == np.arange(2)[:, None, None, None]
    plan = column.plan()
    made = Prediction((two * 9.0).astype(np.float16), column.trace).spread_over(plan.vertebra_channels, 27)
    found = locate(made, FOREGROUND, plan)
    assert found.vertebrae == ()
    whole = column.trace.orientation.apply_grid(column.trace.grid)
    voxels = whole.to_index(column.trace.stored_grid.to_world(np.argwhere(column.labels > 0)))
    margin = 20.0 / np.array(whole.spacing)
    for axis in range(3):
        low, high = voxels[:, axis].min() - margin[axis], voxels[:, axis].max() + margin[axis]
        assert max(0, low - 3) <= found.spine.start[axis] <= max(0, low + 0.5)
        assert (
            min(whole.shape[axis], high + 0.5) <= found.spine.stop[axis] <= min(whole.shape[axis], high + 4)
        )


def test_balls_stand_for_whole_vertebrae_in_the_box():
    column = phantoms.column(2, "lumbar")
    made = balls(column.trace, [({c: 1.0}, p) for c, p in column.centres.items()], radius=8.0)
    box = locate(made, BALLS, column.plan()).spine
    whole = column.trace.orientation.apply_grid(column.trace.grid)
    voxels = np.rint(whole.to_index(column.trace.stored_grid.to_world(np.argwhere(column.labels > 0))))
    assert (voxels >= box.start).all()
    assert (voxels < box.stop).all()


def test_small_parts_do_not_stretch_the_box():
    column = phantoms.column(2, "lumbar")
    clean = locate(labels_as_logits(column), CLASSES, column.plan()).spine
    column.labels[0, :2, :2] = column.labels[-1, -2:, -2:] = next(iter(column.world))
    assert locate(labels_as_logits(column), CLASSES, column.plan()).spine == clean


def test_a_neck_above_vertebrae_that_have_grown_together_stays_in_the_box():
    grid = Grid((160, 40, 40), (2.0, 2.0, 2.0))
    trace = Trace(grid, Orientation.to_canonical(grid), Box.whole(grid.shape), (0, 1, 2), grid.shape)
    foreground = np.zeros(grid.shape, dtype=bool)
    foreground[0:110, 5:35, 5:35] = True
    for bottom in range(112, 150, 10):
        foreground[bottom : bottom + 6, 14:26, 12:28] = True  # 9 cm³ each, below a hundredth of the rest
    foreground[156:158, 20, 20] = True
    logits = np.where(foreground, 5.0, -5.0).astype(np.float32)
    spread = Prediction(np.stack([-logits, logits]), trace).spread_over(range(1, 27), 27)
    box = locate(spread, FOREGROUND, PLAN).spine
    assert box.stop[0] == 148 + 10


@pytest.mark.parametrize("configuration", [BALLS, CLASSES, FOREGROUND])
def test_nothing_is_found_where_nothing_is(configuration):
    logits = np.zeros((27, *TRACE.shape), dtype=np.float16)
    logits[0] = 9
    assert locate(Prediction(logits, TRACE), configuration, PLAN) == Findings()


def test_findings_survive_the_disk(tmp_path):
    column = phantoms.column(2, "lumbar")
    for made, configuration in (
        (labels_as_logits(column), CLASSES),
        (voting(column, column.plan()), VOTES),
        (balls(column.trace, [({c: 1.0}, p) for c, p in column.centres.items()], radius=8.0), BALLS),
    ):
        found = locate(made, configuration, column.plan())
        documents.save(tmp_path / "found.json", found)
        assert documents.load(tmp_path / "found.json", Findings) == found
