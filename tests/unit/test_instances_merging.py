"""Instances cut out of phantoms, put together and decoded as if one network had predicted them all."""

import importlib.util
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.inference.decoding import decode_argmax, decode_sequence
from autospine.inference.instances import Instance, body_centre, merge_instances, nearest_part
from autospine.targets import heat

_SPEC = importlib.util.spec_from_file_location(
    "phantom_columns", Path(__file__).with_name("phantom_columns.py")
)
phantoms = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(phantoms)

GRID = Grid((20, 20, 20), (2.0, 2.0, 2.0))
TRACE = Trace(GRID, Orientation.to_canonical(GRID), Box.whole(GRID.shape), (0, 1, 2), GRID.shape)
PLAN = phantoms.column().plan()


def instance(box, odds, names=None, centre=None):
    values = np.full(box.shape, odds, dtype=np.float32)
    middle = tuple((a + b - 1) / 2 for a, b in zip(box.start, box.stop, strict=True))
    return Instance(box, values, np.array(phantoms.one_hot(3) if names is None else names), centre or middle)


def ideal_instances(column):
    """Each vertebra in a box of its own, outlined as it is, less and less surely towards its surface."""
    for channel, centre in column.centres.items():
        mask = column.labels == channel
        box = Box.around(mask).padded((2, 2, 2), mask.shape)
        inside, outside = (ndimage.distance_transform_edt(m) for m in (mask[box.slices], ~mask[box.slices]))
        odds = np.where(mask[box.slices], 8 * inside - 4, 4 - 8 * outside).astype(np.float32)
        yield Instance(box, odds, np.array(phantoms.one_hot(channel)), centre)


def softmax(logits):
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=0)


@pytest.mark.parametrize(
    ("axes", "orientations", "oblique"),
    [((0, 1, 2), ("SPL",), 0.0), ((2, 0, 1), ("RIA",), 8.0), ((1, 2, 0), ("PIR",), 12.0)],
)
def test_a_phantoms_vertebrae_are_named_and_painted_as_they_are(axes, orientations, oblique):
    column = phantoms.column(2, "thoracolumbar", axes, orientations, oblique)
    plan = column.plan()
    prediction = merge_instances(ideal_instances(column), column.trace, plan)
    # Coarse voxels leave a few tips of processes unconnected.
    assert (prediction.class_map() != column.labels).sum() < 0.01 * (column.labels > 0).sum()
    decoded = decode_sequence([prediction], [1.0], plan)
    assert [vertebra.label for vertebra in decoded.column.vertebrae] == list(column.world)
    found = [vertebra.centre for vertebra in decoded.column.vertebrae]
    np.testing.assert_allclose(found, list(column.world.values()), atol=0.5)
    by_voxels = decode_argmax([prediction], [1.0], plan).labels
    assert (decoded.labels != by_voxels).mean() < 0.002


def test_an_instance_misnamed_is_named_by_its_neighbours():
    column = phantoms.column(2, "thoracolumbar")
    made = list(ideal_instances(column))
    wrong = replace(made[3], names=made[5].names)
    decoded = decode_sequence(
        [merge_instances([*made[:3], wrong, *made[4:]], column.trace, column.plan())], [1.0], column.plan()
    )
    assert [vertebra.label for vertebra in decoded.column.vertebrae] == list(column.world)


def test_the_softmax_is_that_of_the_odds_and_the_names():
    names = np.zeros(27)
    names[[4, 5, 6]] = 0.6, 0.3, 0.1
    box = Box((4, 4, 4), (8, 8, 8))
    odds = np.linspace(0.5, 6, 64, dtype=np.float32).reshape(box.shape)
    made = merge_instances([Instance(box, odds, names, (5.5, 5.5, 5.5))], TRACE, PLAN)
    shares = softmax(made.logits)[(slice(None), *box.slices)]
    p = 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(shares[0], 1 - p, atol=2e-3)
    np.testing.assert_allclose(shares[4:7], names[4:7, None, None, None] * p, atol=2e-3)
    outside = softmax(made.logits)[0].copy()
    outside[box.slices] = 1
    assert outside.min() > 0.999
    assert made.logits.dtype == np.float16
    assert np.isfinite(made.logits).all()


def test_each_voxel_goes_to_the_instance_that_claims_it_most():
    one = instance(Box((2, 2, 2), (12, 8, 8)), 2.0, phantoms.one_hot(3))
    other = instance(Box((8, 2, 2), (18, 8, 8)), 3.0, phantoms.one_hot(4))
    for order in ([one, other], [other, one]):
        made = merge_instances(order, TRACE, PLAN)
        classes = made.class_map()
        assert (classes[2:8, 2:8, 2:8] == 3).all()
        assert (classes[8:18, 2:8, 2:8] == 4).all()
        # The voxel at (10, 5, 5) points to the middle of its own instance, in mm.
        np.testing.assert_allclose(made.centres[1:, 10, 5, 5], [2 * (12.5 - 10), -1, -1])
        np.testing.assert_allclose(made.centres[1:, 7, 5, 5], [2 * (6.5 - 7), -1, -1])


def test_what_is_less_likely_than_not_is_background():
    box = Box((2, 2, 2), (12, 8, 8))
    odds = np.full(box.shape, -1.0, dtype=np.float32)
    odds[:5] = 1.0
    made = merge_instances([Instance(box, odds, np.array(phantoms.one_hot(3)), (4, 5, 5))], TRACE, PLAN)
    assert (made.class_map() == 3).sum() == 5 * 36
    # ... yet how likely it is stays to be seen, by interpolation and by other members.
    assert softmax(made.logits)[3, 10, 5, 5] == pytest.approx(1 / (1 + np.e), abs=2e-3)
    nothing = merge_instances([instance(box, -1.0)], TRACE, PLAN)
    assert (nothing.logits[1:] < -15).all()
    assert (nothing.centres[0] < -5).all()


def test_only_the_part_nearest_to_the_centre_counts():
    box = Box((0, 0, 0), (20, 20, 20))
    odds = np.full(box.shape, -5.0, dtype=np.float32)
    odds[2:5, 2:5, 2:5] = 4.0
    odds[8:18, 8:18, 8:18] = 4.0  # larger, but elsewhere
    made = merge_instances([Instance(box, odds, np.array(phantoms.one_hot(3)), (3, 3, 6))], TRACE, PLAN)
    assert (made.class_map() == 3).sum() == 27
    assert made.logits[3, 12, 12, 12] < -15


def test_the_nearest_part_is_nearest_in_mm():
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[0, 4, 4] = mask[4, 4, 7] = True
    point = np.array([3.0, 4.0, 4.0])
    assert (
        nearest_part(mask, point, (1.0, 1.0, 1.0))[0, 4, 4]
        != nearest_part(mask, point, (2.0, 1.0, 1.0))[0, 4, 4]
    )
    assert nearest_part(mask, point, (2.0, 1.0, 1.0)).sum() == 1
    assert not nearest_part(np.zeros_like(mask), point, (1.0, 1.0, 1.0)).any()


def test_the_heat_is_what_networks_learn():
    centre = (9.0, 3.25, 18.0)
    made = merge_instances([instance(Box((8, 2, 16), (11, 5, 20)), 5.0, centre=centre)], TRACE, PLAN)
    offset = torch.tensor([[[c - 9.5 for c in centre]]])
    expected = heat(offset, GRID.shape, GRID.spacing)[0].numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-made.centres[0].astype(float))), expected, atol=2e-3)


def test_without_instances_there_is_nothing():
    made = merge_instances([], TRACE, PLAN)
    assert not made.class_map().any()
    assert decode_sequence([made], [1.0], PLAN).column.vertebrae == ()


def test_wild_odds_stay_finite():
    box = Box((2, 2, 2), (8, 8, 8))
    odds = np.full(box.shape, np.inf, dtype=np.float32)
    odds[0] = -np.inf
    made = merge_instances([Instance(box, odds, np.array(phantoms.one_hot(3)), (5, 5, 5))], TRACE, PLAN)
    assert np.isfinite(made.logits).all()
    assert (made.class_map() == 3).sum() == 5 * 36


def test_the_bodys_centre_is_found_in_an_outline():
    column = phantoms.column(2, "lumbar", (2, 0, 1), ("RIA",), 8.0)
    for channel, centre in column.centres.items():
        mask = column.labels == channel
        box = Box.around(mask)
        found = body_centre(mask[box.slices], box, column.trace.stored_grid)
        assert np.linalg.norm(np.subtract(found, centre)) * 4.0 < 4.0


def test_memory_holds_the_result_and_one_map():
    grid = Grid((120, 100, 100), (1.0, 1.0, 1.0))
    trace = Trace(grid, Orientation.to_canonical(grid), Box.whole(grid.shape), (0, 1, 2), grid.shape)
    boxes = [Box((a, 40, 40), (a + 16, 60, 60)) for a in range(0, 100, 20)]
    tracemalloc.start()
    try:
        made = merge_instances((instance(box, 5.0) for box in boxes), trace, PLAN)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = made.logits.nbytes + made.centres.nbytes
    assert peak < result + 4 * np.prod(grid.shape) + 8e6
