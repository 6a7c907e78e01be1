"""Laws of body centres and of the ignored border: they belong to the patient, not to the array."""

from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.geometry import Grid, Orientation
from autospine.phantom import DEMO, generate
from autospine.vertebrae.border import unlabelled_neighbours
from autospine.vertebrae.centroids import body_centres

ORIENTATIONS = st.builds(
    Orientation,
    st.permutations(range(3)).map(tuple),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
OFFSETS = st.tuples(*[st.floats(-500, 500)] * 3)
SEEDS = st.integers(0, 2)

settings_of_phantoms = settings(max_examples=25)


@cache
def _phantom(seed):
    recipe = replace(DEMO, field_of_view=("lumbar", "thoracic", "cervical")[seed], orientations=("SPL",))
    scan = generate(recipe, seed)
    return scan.labels.array[0], scan.labels.grid, dict(scan.centroids)


def _assert_close(found, expected, tolerance=0.2):
    assert list(found) == list(expected)
    for label, centre in expected.items():
        np.testing.assert_allclose(found[label], centre, atol=tolerance)


@settings_of_phantoms
@given(SEEDS, ORIENTATIONS)
def test_centres_do_not_depend_on_the_arrays_axes(seed, orientation):
    labels, grid, _ = _phantom(seed)
    turned = body_centres(orientation.apply(labels), orientation.apply_grid(grid))
    _assert_close(turned, body_centres(labels, grid))


@settings_of_phantoms
@given(SEEDS, OFFSETS)
def test_centres_move_with_the_patient(seed, offset):
    labels, grid, _ = _phantom(seed)
    moved = replace(grid, origin=tuple(np.add(grid.origin, offset)))
    expected = {label: np.add(centre, offset) for label, centre in body_centres(labels, grid).items()}
    _assert_close(body_centres(labels, moved), expected)


@settings_of_phantoms
@given(SEEDS, st.tuples(*[st.integers(0, 6)] * 3))
def test_air_around_a_scan_does_not_matter_to_centres(seed, margin):
    labels, grid, _ = _phantom(seed)
    padded = np.pad(labels, [(n, 1) for n in margin])
    wider = replace(grid, shape=padded.shape, origin=tuple(grid.to_world(-np.array(margin))))
    _assert_close(body_centres(padded, wider), body_centres(labels, grid))


@settings_of_phantoms
@given(SEEDS, ORIENTATIONS)
def test_the_ignored_border_does_not_depend_on_the_arrays_axes(seed, orientation):
    labels, grid, centres = _phantom(seed)
    ignored = unlabelled_neighbours(labels, grid, centres)
    assert ignored.any()
    turned = unlabelled_neighbours(orientation.apply(labels), orientation.apply_grid(grid), centres)
    np.testing.assert_array_equal(turned, orientation.apply(ignored))


@given(
    st.lists(st.tuples(st.integers(1, 26), *[st.integers(0, 11)] * 3), max_size=6),
    st.tuples(*[st.floats(0.5, 20)] * 3),
    ORIENTATIONS,
)
def test_no_labelled_voxel_is_ever_ignored(seeds, spacing, orientation):
    labels = np.zeros((12, 12, 12), np.uint8)
    for label, z, y, x in seeds:
        labels[z : z + 3, y : y + 3, x : x + 3] = label
    grid = orientation.apply_grid(Grid(labels.shape, spacing))
    labels = orientation.apply(labels)
    centres = {
        int(label): tuple(grid.to_world(np.argwhere(labels == label).mean(axis=0)))
        for label in np.unique(labels[labels > 0])
    }
    ignored = unlabelled_neighbours(labels, grid, centres)
    assert ignored.shape == labels.shape
    assert not (ignored & (labels > 0)).any()
