import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.geometry import Grid, matrix_rows
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes

finite = st.floats(-500, 500, allow_nan=False)
points = st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=5)
LETTERS = ("RL", "AP", "SI")


@st.composite
def grids(draw):
    """Any lattice with perpendicular axes: swapped, flipped and oblique."""
    rotation = np.linalg.qr(
        np.array([[draw(st.floats(-1, 1)) for _ in range(3)] for _ in range(3)]) * 0.3 + np.eye(3)
    )[0]
    order = draw(st.permutations(range(3)))
    signs = np.array([draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)])
    return Grid(
        tuple(draw(st.integers(1, 600)) for _ in range(3)),
        tuple(draw(st.floats(0.2, 5)) for _ in range(3)),
        draw(st.tuples(finite, finite, finite)),
        matrix_rows(rotation[:, order] * signs),
    )


@st.composite
def frames(draw):
    codes = tuple(draw(st.sampled_from(pair)) for pair in draw(st.permutations(LETTERS)))
    return CentroidFrame(codes, draw(st.booleans()))


@settings(deadline=None, max_examples=80)
@given(grids(), frames(), points)
def test_world_positions_survive_the_round_trip_through_any_frame(grid, frame, world):
    there = frame.from_world(grid, world)
    np.testing.assert_allclose(frame.to_world(grid, there), world, atol=1e-6)
    np.testing.assert_allclose(frame.from_world(grid, frame.to_world(grid, world)), world, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(grids(), points)
def test_voxels_along_a_files_own_axes_are_its_indices(grid, index):
    own = CentroidFrame(axis_codes(grid))
    np.testing.assert_allclose(
        own.to_world(grid, np.asarray(index)[:, ::-1]), grid.to_world(index), atol=1e-6
    )


@settings(deadline=None, max_examples=40)
@given(grids(), points)
def test_the_two_flat_frames_are_mirrored_permutations_of_each_other(grid, world):
    nineteen, twenty = VERSE19_FLAT.from_world(grid, world), VERSE20_FLAT.from_world(grid, world)
    np.testing.assert_allclose(nineteen[:, 0], twenty[:, 1], atol=1e-6)
    np.testing.assert_allclose(nineteen[:, 1], twenty[:, 0], atol=1e-6)
    width = (nineteen[:, 2] + twenty[:, 2]).round(6)
    assert np.ptp(width) < 1e-5
