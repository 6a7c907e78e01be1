"""Predictions of a column of balls, some of them misnamed, decoded voxel by voxel and as a column."""

from dataclasses import replace

import numpy as np
import pytest

from autospine.core import anatomy
from autospine.core.dataset import LabelSchema
from autospine.core.ensemble import PostProcessing
from autospine.core.errors import UsageError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.inference.decoding import decode_argmax, decode_sequence, post_processed
from autospine.inference.evidence import Voters
from autospine.inference.prediction import Prediction
from autospine.vertebrae.statistics import ObservedColumn, learn_column

LEVELS = [anatomy.label_of(name) for name in ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")]
CLASSES = (0, *LEVELS)
PITCH, RADIUS = 30.0, 13.0
VOLUME = 4 / 3 * np.pi * RADIUS**3
CANONICAL = Grid((100, 32, 32), (3.0, 2.5, 2.5), (-20.0, 10.0, 5.0))
OBLIQUE = replace(
    CANONICAL,
    direction=tuple(
        map(tuple, np.array([[0, 0.1736, 0.9848], [0, 0.9848, -0.1736], [1, 0, 0]], dtype=float).tolist())
    ),
)


def centres(count, lowest=40.0):
    """mm along z, y, x of the oriented scan, from head to foot."""
    return np.array([[lowest + PITCH * (count - 1 - i), 38.0, 40.0] for i in range(count)])


def plan(partial="keep"):
    column = ObservedColumn(
        {level: (0.0, 0.0, -PITCH * i) for i, level in enumerate(LEVELS)}, dict.fromkeys(LEVELS, VOLUME)
    )
    schema = LabelSchema.vertebral_column()
    return Plan("toy", "spine", schema, CLASSES, (), column=learn_column([column], LEVELS), partial=partial)


def trace_of(grid, axes=(0, 1, 2), spacing=3.0):
    orientation = Orientation.to_canonical(grid)
    canonical = orientation.apply_grid(grid)
    box = Box.whole(canonical.shape)
    shape = [round(n * s / spacing) for n, s in zip(canonical.shape, canonical.spacing, strict=True)]
    return Trace(grid, orientation, box, axes, tuple(shape[a] for a in axes))


def stored_places(trace):
    """mm along z, y, x of the oriented scan of every stored voxel, (3, *stored shape)."""
    canonical = trace.orientation.apply_grid(trace.grid)
    along = [trace.canonical_positions(axis) * canonical.spacing[axis] for axis in range(3)]
    grid = np.stack(np.meshgrid(*along, indexing="ij"))
    return grid.transpose(0, *(1 + a for a in trace.axes))


def prediction(trace, where, names, sharpness=6.0, with_centres=True, wrong_by=0.0):
    """Balls at ``where``, with logits for the level each one is called."""
    places = stored_places(trace)
    logits = np.zeros((len(CLASSES), *trace.shape))
    logits[0] = 8.0
    vectors, heat = np.zeros((3, *trace.shape)), np.full(trace.shape, -6.0)
    for centre, name in zip(where, names, strict=True):
        offset = centre[:, None, None, None] - places
        distance = np.sqrt((offset**2).sum(0))
        inside = distance < RADIUS
        logits[:, inside] = 0
        logits[CLASSES.index(name), inside] = sharpness
        vectors[:, inside] = offset[list(trace.axes)][:, inside] + wrong_by
        heat = np.maximum(heat, np.where(distance < 6, 4.0, -6.0))
    fields = np.concatenate([heat[None], vectors]) if with_centres else None
    return Prediction(logits.astype(np.float16), trace, None if fields is None else fields.astype(np.float16))


def names_in(decoded):
    return [anatomy.label_of(vertebra.name) for vertebra in decoded.column.vertebrae]


@pytest.mark.parametrize("grid", [CANONICAL, OBLIQUE])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_a_clear_column_is_named_and_painted_as_it_is(grid, axes):
    where, trace = centres(5), trace_of(grid, axes)
    decoded = decode_sequence([prediction(trace, where, LEVELS[2:7])], [1.0], plan())
    assert names_in(decoded) == LEVELS[2:7]
    by_voxels = decode_argmax([prediction(trace, where, LEVELS[2:7])], [1.0], plan())
    assert (decoded.labels != by_voxels.labels).mean() < 0.002
    canonical = trace.orientation.apply_grid(grid)
    expected = canonical.to_world(where / np.array(canonical.spacing))
    found = [vertebra.centre for vertebra in decoded.column.vertebrae]
    np.testing.assert_allclose(found, expected, atol=1.0)
    assert all(vertebra.probability > 0.9 for vertebra in decoded.column.vertebrae)


def test_a_scan_in_another_orientation_gives_the_same_vertebrae():
    where, names = centres(5), LEVELS[2:7]
    straight = decode_sequence([prediction(trace_of(CANONICAL), where, names)], [1.0], plan())
    turn = Orientation((2, 0, 1), (True, False, True))
    turned_grid = turn.apply_grid(CANONICAL)
    turned = decode_sequence([prediction(trace_of(turned_grid), where, names)], [1.0], plan())
    np.testing.assert_array_equal(turned.labels, turn.apply(straight.labels))
    assert names_in(turned) == names
    for one, other in zip(straight.column.vertebrae, turned.column.vertebrae, strict=True):
        np.testing.assert_allclose(one.centre, other.centre, atol=0.02)


def test_one_misnamed_vertebra_is_named_by_its_neighbours():
    names = [*LEVELS[1:4], LEVELS[6], LEVELS[5]]  # the fourth is called L4 instead of L2
    decoded = decode_sequence([prediction(trace_of(CANONICAL), centres(5), names)], [1.0], plan())
    assert names_in(decoded) == LEVELS[1:6]


def test_one_vertebra_never_carries_two_names():
    trace, where = trace_of(CANONICAL), centres(5)
    mixed = prediction(trace, where, LEVELS[1:6])
    upper = stored_places(trace)[0] > where[2, 0]
    half = (mixed.logits.argmax(0) == CLASSES.index(LEVELS[3])) & upper
    mixed.logits[CLASSES.index(LEVELS[3]), half] = 0
    mixed.logits[CLASSES.index(LEVELS[2]), half] = 6
    by_voxels = decode_argmax([mixed], [1.0], plan())
    ball = decode_sequence([mixed], [1.0], plan())
    values = np.unique(ball.labels[by_voxels.labels == LEVELS[3]])
    assert values.tolist() == [LEVELS[3]]
    assert names_in(ball) == LEVELS[1:6]


def test_touching_vertebrae_do_not_fuse():
    trace = trace_of(CANONICAL)
    where = np.array(
        [[118.0, 38.0, 40.0], [94.0, 38.0, 40.0], [70.0, 38.0, 40.0]]
    )  # balls of 26 mm, 24 apart
    decoded = decode_sequence([prediction(trace, where, LEVELS[3:6])], [1.0], plan())
    assert names_in(decoded) == LEVELS[3:6]
    volumes = [vertebra.volume for vertebra in decoded.column.vertebrae]
    assert max(volumes) < 1.2 * min(volumes)


def test_members_are_pooled_before_names_are_decided():
    where, sure, unsure = centres(4), LEVELS[3:7], LEVELS[2:6]
    members = [
        prediction(trace_of(CANONICAL), where, sure, sharpness=8.0),
        prediction(trace_of(CANONICAL, spacing=4.0), where, unsure, sharpness=1.5, with_centres=False),
    ]
    assert names_in(decode_sequence(members, [1.0, 1.0], plan())) == sure


@pytest.mark.parametrize(("partial", "count"), [("drop", 4), ("keep", 5)])
def test_vertebrae_that_the_border_cuts_are_kept_or_dropped(partial, count):
    where = centres(5, lowest=2.0)  # the lowest ball is cut in half
    decoded = decode_sequence([prediction(trace_of(CANONICAL), where, LEVELS[3:8])], [1.0], plan(partial))
    assert len(decoded.column.vertebrae) == count
    assert (LEVELS[7] in decoded.labels) == (partial == "keep")
    cut = [*decoded.column.vertebrae, *decoded.column.dropped][-1]
    assert cut.name == "L5"
    assert 0.3 < cut.visible < 0.75


def test_an_empty_scan_has_no_vertebrae():
    decoded = decode_sequence([prediction(trace_of(CANONICAL), [], [])], [1.0], plan())
    assert not decoded.labels.any()
    assert decoded.column.vertebrae == ()


def test_classes_that_are_no_vertebrae_stay_what_they_are():
    schema = LabelSchema({0: "background", 1: "L1", 2: "L2", 3: "sacrum"})
    names = [anatomy.label_of("L1"), anatomy.label_of("L2")]
    column = learn_column([ObservedColumn({names[0]: (0, 0, 0.0), names[1]: (0, 0, -PITCH)})], names)
    mixed = Plan("toy", "spine", schema, (0, 1, 2, 3), (), column=column)
    trace = trace_of(CANONICAL)
    made = prediction(trace, centres(3), LEVELS[0:3])
    three = Prediction(made.logits[:4], trace, made.centres)
    decoded = decode_sequence([three], [1.0], mixed)
    assert {1, 2, 3} <= set(np.unique(decoded.labels).tolist())
    assert [vertebra.name for vertebra in decoded.column.vertebrae] == ["L1", "L2"]
    lowest = decode_argmax([three], [1.0], mixed).labels == 3
    assert (decoded.labels[lowest] == 3).all()


def test_models_without_centres_or_columns_are_refused():
    trace = trace_of(CANONICAL)
    with pytest.raises(UsageError, match="learnt where"):
        decode_sequence([prediction(trace, centres(3), LEVELS[:3], with_centres=False)], [1.0], plan())
    with pytest.raises(UsageError, match="nothing about columns"):
        decode_sequence([prediction(trace, centres(3), LEVELS[:3])], [1.0], replace(plan(), column=None))


def test_the_report_tells_of_what_post_processing_leaves():
    trace = trace_of(CANONICAL)
    decoded = decode_argmax([prediction(trace, centres(4), LEVELS[:4])], [1.0], plan())
    labels = decoded.labels.copy()
    labels[labels == LEVELS[1]] = 0  # a gap, so that the first vertebra stands apart
    labels[0, 0, 0] = LEVELS[3]
    damaged = replace(decoded, labels=labels)
    whole = post_processed(damaged, PostProcessing(labels=(LEVELS[3],)), CANONICAL)
    assert names_in(whole) == [LEVELS[0], *LEVELS[2:4]]
    volumes = {v.label: v.volume for v in whole.column.vertebrae}
    voxel = np.prod(CANONICAL.spacing)
    assert volumes[LEVELS[3]] == pytest.approx(((labels == LEVELS[3]).sum() - 1) * voxel)


def test_noise_everywhere_makes_few_candidates():
    rng = np.random.default_rng(0)
    trace = trace_of(CANONICAL)
    outputs = rng.normal(0, 3, (len(CLASSES) + 4, *trace.shape)).astype(np.float16)
    decoded = decode_sequence([Prediction.of(outputs, trace, len(CLASSES))], [1.0], plan())
    assert len(decoded.column.vertebrae) <= len(LEVELS)


def test_a_vertebra_found_in_two_parts_at_the_border_is_whole():
    """Two centres in one lowest vertebra, each of which has but half of its volume."""
    where, trace = centres(5, lowest=14.0), trace_of(CANONICAL)
    made = prediction(trace, where, LEVELS[3:8])
    lowest = made.logits.argmax(0) == CLASSES.index(LEVELS[7])
    side = np.where(stored_places(trace)[2] > where[-1, 2], 5.0, -5.0)
    made.centres[3][lowest] += side[lowest].astype(np.float16)
    decoded = decode_sequence([made], [1.0], plan("drop"))
    assert names_in(decoded) == LEVELS[3:8]
    assert decoded.column.vertebrae[-1].visible > 0.85


@pytest.mark.parametrize("wild", [np.inf, np.nan, 6e4])
def test_a_wild_vector_counts_nothing(wild):
    made = prediction(trace_of(CANONICAL), centres(4), LEVELS[3:7])
    made.centres[1:, 40, 15, 15] = wild
    assert names_in(decode_sequence([made], [1.0], plan())) == LEVELS[3:7]


def test_a_plan_without_vertebrae_is_refused_before_anything_is_computed():
    with pytest.raises(UsageError, match="nothing about columns"):
        decode_sequence(
            [prediction(trace_of(CANONICAL), centres(3), LEVELS[:3])],
            [1.0],
            Plan("toy", "spine", LabelSchema({0: "background", 1: "liver"}), (0, 1), ()),
        )


def test_only_the_surest_voxels_vote():
    where, trace = centres(5), trace_of(CANONICAL)
    found = prediction(trace, where, LEVELS[2:7])
    joined = found.with_one_channel_for(list(range(1, len(CLASSES))))
    everybody, few = Voters.of(joined, 10**6), Voters.of(joined, 500)
    assert int(few.where.sum()) == 500 < int(everybody.where.sum())
    assert not (few.where & ~everybody.where).any()
    assert len(few.heat.places) <= 500
    everywhere = replace(found, logits=np.zeros_like(found.logits), centres=np.zeros_like(found.centres))
    assert int(Voters.of(everywhere.with_one_channel_for([1, 2, 3]), 700).where.sum()) == 700


def test_noise_everywhere_takes_no_vote_from_a_column(monkeypatch):
    where, trace = centres(5), trace_of(CANONICAL)
    found = prediction(trace, where, LEVELS[2:7])
    logits = found.logits.copy()
    logits[0][logits[0] > 0] = 1  # all that is no vertebra may be one
    noisy, most = replace(found, logits=logits), 2000
    joined = noisy.with_one_channel_for(list(range(1, len(CLASSES))))
    assert Voters.of(joined, 10**6).where.all()
    inside = logits[1:].max(axis=0) > 0
    assert Voters.of(joined, most).where[inside].all()
    monkeypatch.setattr("autospine.inference.groups.most_voters", lambda *_: most)
    assert names_in(decode_sequence([noisy], [1.0], plan())) == LEVELS[2:7]
