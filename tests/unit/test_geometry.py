import numpy as np
import pytest

from autospine.core.errors import GeometryError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace

CANONICAL = Grid((4, 5, 6), (2.0, 1.0, 0.5), (10.0, 20.0, 30.0))


def test_a_box_is_half_open():
    box = Box((1, 2), (4, 3))
    assert box.shape == (3, 1)
    assert np.ones((5, 5))[box.slices].shape == (3, 1)


def test_padding_stops_at_the_array():
    assert Box((1, 5), (2, 9)).padded((3, 2), (4, 10)) == Box((0, 3), (4, 10))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Box((3, 0), (9, 2)), Box((3, 1), (5, 2))),
        (Box((5, 0), (9, 2)), None),
        (Box((0, 0), (9, 9)), Box((2, 1), (5, 4))),
    ],
)
def test_intersection(other, expected):
    box = Box((2, 1), (5, 4))
    assert box.intersection(other) == expected
    assert other.intersection(box) == expected


def test_a_box_can_be_counted_from_elsewhere():
    assert Box((5, 6), (8, 9)).shifted((5, 4)) == Box((0, 2), (3, 5))


def test_the_box_around_a_mask():
    mask = np.zeros((4, 5, 6), bool)
    assert Box.around(mask) is None
    mask[1, 2, 3] = mask[2, 2, 5] = True
    assert Box.around(mask) == Box((1, 2, 3), (3, 3, 6))


@pytest.mark.parametrize(
    "spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, np.nan, 1.0), (np.inf, 1.0, 1.0)]
)
def test_impossible_spacings_are_refused(spacing):
    with pytest.raises(GeometryError, match="spacing"):
        Grid((2, 2, 2), spacing)


def test_a_singular_direction_is_refused():
    with pytest.raises(GeometryError, match="singular"):
        Grid((2, 2, 2), (1.0, 1.0, 1.0), direction=((1, 0, 0), (1, 0, 0), (0, 0, 1)))


def test_the_identity_direction_is_canonical():
    assert Orientation.to_canonical(CANONICAL) == Orientation((0, 1, 2), (False, False, False))
    np.testing.assert_allclose(CANONICAL.to_world((1, 1, 1)), (10.5, 21, 32))


def test_two_axes_nearly_at_45_degrees_get_different_world_axes():
    c = np.cos(np.radians(44.9))
    s = np.sin(np.radians(44.9))
    grid = Grid((3, 4, 5), (1, 1, 1), direction=((0, s, c), (0, c, -s), (1, 0, 0)))
    assert sorted(Orientation.to_canonical(grid).axes) == [0, 1, 2]


def test_cropping_keeps_voxels_where_they_are():
    box = Box((1, 2, 3), (3, 4, 6))
    np.testing.assert_allclose(CANONICAL.cropped(box).to_world((1, 1, 1)), CANONICAL.to_world((2, 3, 4)))


def test_resizing_keeps_the_edges():
    finer = CANONICAL.resized((8, 3, 6))
    assert finer.field_of_view == pytest.approx(CANONICAL.field_of_view)
    np.testing.assert_allclose(finer.to_world((-0.5,) * 3), CANONICAL.to_world((-0.5,) * 3))
    np.testing.assert_allclose(finer.to_world((7.5, 2.5, 5.5)), CANONICAL.to_world((3.5, 4.5, 5.5)))


def test_grids_are_compared_at_their_corners():
    nearly = Grid(CANONICAL.shape, (2.0, 1.0, 0.501), CANONICAL.origin)
    assert CANONICAL.same_as(nearly)
    assert not CANONICAL.same_as(nearly, tolerance=1e-4)
    assert not CANONICAL.same_as(CANONICAL.resized((4, 5, 7)))


def test_a_trace_goes_back_to_the_scan():
    scan = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    orientation = Orientation((1, 2, 0), (True, False, True))
    box = Box((1, 0, 1), (4, 5, 3))
    trace = Trace(CANONICAL, orientation, box, (2, 0, 1), (2, 3, 5))
    stored = orientation.apply(scan)[box.slices].transpose(2, 0, 1)
    back = trace.restore(stored, fill=-1)
    assert trace.cropped_grid.shape == stored.shape
    assert (back == -1).sum() == scan.size - stored.size
    np.testing.assert_array_equal(back[back >= 0], scan[back >= 0])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_trace_knows_where_stored_voxels_lie(axis):
    trace = Trace(
        CANONICAL, Orientation((0, 1, 2), (False,) * 3), Box((1, 1, 2), (4, 5, 6)), (2, 0, 1), (7, 2, 3)
    )
    positions = trace.canonical_positions(axis)
    np.testing.assert_allclose(trace.stored_positions(axis, positions), np.arange(len(positions)), atol=1e-12)
    stored_axis = trace.axes.index(axis)
    index = np.zeros((len(positions), 3))
    index[:, stored_axis] = np.arange(len(positions))
    at = trace.grid.to_index(trace.stored_grid.to_world(index))
    np.testing.assert_allclose(at[:, axis], positions, atol=1e-9)
