import itertools

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from autospine.core.geometry import Box, Grid, Orientation, matrix_rows
from autospine.core.trace import Trace

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@st.composite
def grids(draw, tilt=44.0):
    """Oblique, flipped, permuted, anisotropic grids; no axis further than ``tilt`` degrees off in total."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 8.0)] * 3))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    permutation = list(draw(st.permutations(range(3))))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    axis = np.array(draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 1)])), float)
    angle = draw(st.floats(-tilt, tilt))
    turned = Rotation.from_rotvec(np.radians(angle) * axis / np.linalg.norm(axis)).as_matrix()
    direction = turned @ (np.eye(3)[:, permutation] * signs)
    return Grid(shape, spacing, origin, matrix_rows(direction))


def values(grid):
    return np.arange(np.prod(grid.shape)).reshape(grid.shape)


orientations = st.builds(Orientation, st.permutations(range(3)).map(tuple), st.tuples(*[st.booleans()] * 3))


@settings(max_examples=60)
@given(grids(), orientations)
def test_reorienting_is_exactly_undone(grid, orientation):
    array = values(grid)
    there = orientation.apply(array)
    assert there.shape == orientation.apply_grid(grid).shape
    np.testing.assert_array_equal(orientation.invert(there), array)


@settings(max_examples=60)
@given(grids(), orientations)
def test_reorienting_moves_no_voxel(grid, orientation):
    """Every value lies at the same place in the world before and after."""
    after = orientation.apply_grid(grid)
    array = orientation.apply(values(grid))
    old = np.array(list(itertools.product(*map(range, grid.shape))))
    new = np.array(list(itertools.product(*map(range, after.shape))))
    np.testing.assert_allclose(after.to_world(new), grid.to_world(old)[array.ravel()], atol=1e-6)


@settings(max_examples=60)
@given(grids())
def test_canonical_is_a_fixed_point(grid):
    canonical = Orientation.to_canonical(grid).apply_grid(grid)
    assert Orientation.to_canonical(canonical) == Orientation((0, 1, 2), (False, False, False))


@settings(max_examples=60)
@given(grids(tilt=30.0))
def test_canonical_agrees_with_nibabel(grid):
    """nibabel's closest canonical is R, A, S in array order x, y, z; ours is S, P, L in z, y, x."""
    affine = RAS_TO_LPS @ grid.affine
    theirs = nib.as_closest_canonical(nib.Nifti1Image(values(grid).astype(np.int32), affine))
    orientation = Orientation.to_canonical(grid)
    ours, canonical = orientation.apply(values(grid)), orientation.apply_grid(grid)
    np.testing.assert_array_equal(np.asarray(theirs.dataobj)[::-1, ::-1].T, ours)
    last = np.array(canonical.shape) - 1
    corner = RAS_TO_LPS @ theirs.affine @ [0, 0, 0, 1]
    np.testing.assert_allclose(canonical.to_world((0, last[1], last[2])), corner[:3], atol=1e-6)


@settings(max_examples=60)
@given(grids(), st.tuples(*[st.floats(-10, 10)] * 3))
def test_world_and_index_are_inverse(grid, index):
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-6)


@settings(max_examples=60)
@given(grids(), st.tuples(*[st.integers(1, 9)] * 3))
def test_resizing_keeps_the_volume_it_covers(grid, shape):
    resized = grid.resized(shape)
    corners = np.array(list(itertools.product(*[(-0.5, None)] * 3)), dtype=object)
    for grid_corner in corners:
        old = [n - 0.5 if c is None else c for c, n in zip(grid_corner, grid.shape, strict=True)]
        new = [n - 0.5 if c is None else c for c, n in zip(grid_corner, shape, strict=True)]
        np.testing.assert_allclose(resized.to_world(new), grid.to_world(old), atol=1e-6)


@settings(max_examples=60)
@given(grids(), st.permutations(range(3)).map(tuple), st.data())
def test_a_trace_is_exactly_undone(grid, axes, data):
    orientation = Orientation.to_canonical(grid)
    shape = orientation.apply_grid(grid).shape
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = Box(start, stop)
    trace = Trace(grid, orientation, box, axes, (1, 1, 1))
    stored = orientation.apply(values(grid))[box.slices].transpose(axes)
    back = trace.restore(stored + 1)
    inside = back > 0
    assert inside.sum() == stored.size
    np.testing.assert_array_equal(back[inside] - 1, values(grid)[inside])
    assert trace.cropped_grid.shape == stored.shape
