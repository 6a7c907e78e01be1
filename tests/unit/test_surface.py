from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest

from autospine.evaluation.surface import _corner_codes, _surfel_areas, surface_distances

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from surface_distance import lookup_tables


def box(shape, start, stop):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.4, 0.5), (0.7, 1.1, 1.9)])
def test_all_surfel_areas_equal_the_oracles(spacing):
    theirs = np.asarray(lookup_tables.create_table_neighbour_code_to_surface_area(spacing))
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    ours = _surfel_areas(spacing)
    for code in range(256):
        neighbourhood = (kernel & code) > 0
        mine = _corner_codes(neighbourhood)[0]  # of the one corner that all eight voxels share
        assert ours[mine] == pytest.approx(theirs[code], abs=1e-12)


def test_parallel_plates():
    """Two plates that fill the array's plane, 3 slices of 2 mm apart: every distance is 6 mm."""
    lower, upper = box((12, 20, 20), (2, 0, 0), (4, 20, 20)), box((12, 20, 20), (5, 0, 0), (7, 20, 20))
    found = surface_distances(lower, upper, (2.0, 1.0, 1.0))
    assert found.hausdorff() == 6
    assert found.surface_dice(1.0) == pytest.approx(0, abs=0.05)
    assert found.surface_dice(6.0) == 1


def test_one_voxel_against_its_neighbour():
    first, second = box((1, 1, 2), (0, 0, 0), (1, 1, 1)), box((1, 1, 2), (0, 0, 1), (1, 1, 2))
    found = surface_distances(first, second, (1.0, 1.0, 5.0))
    # Half of either voxel's eight corners is shared, the other half lies one voxel away.
    assert sorted(found.from_reference) == [0, 0, 0, 0, 5, 5, 5, 5]
    assert (found.hausdorff(), found.average, found.surface_dice(1.0)) == (5, 2.5, 0.5)


def test_a_distance_of_exactly_the_tolerance_is_within_it():
    """Ten steps of 0.1 mm are 1 mm, although sums of binary fractions may say otherwise."""
    first, second = box((3, 3, 40), (0, 0, 3), (3, 3, 13)), box((3, 3, 40), (0, 0, 13), (3, 3, 23))
    assert surface_distances(first, second, (0.1, 0.1, 0.1)).surface_dice(1.0) == 1


def test_the_percentile_ignores_a_small_outlier():
    reference = box((30, 30, 60), (5, 5, 5), (25, 25, 25))
    prediction = reference | box((30, 30, 60), (10, 10, 55), (11, 11, 56))
    found = surface_distances(reference, prediction, (1.0, 1.0, 1.0))
    assert found.hausdorff(95) == 0
    assert found.hausdorff(100) > 29
    assert found.average < 0.1


def corners_of(mask):
    """Corners whose eight voxels are neither all inside nor all outside."""
    padded = np.pad(mask, 1)
    places = product(*[range(n + 1) for n in mask.shape])
    cubes = {place: padded[tuple(slice(i, i + 2) for i in place)] for place in places}
    return np.array([place for place, cube in cubes.items() if cube.any() and not cube.all()])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.4, 0.5)])
@pytest.mark.parametrize(
    ("start", "stop"),
    [
        pytest.param((0, 1, 1), (4, 4, 5), id="a voxel or two apart"),
        pytest.param((5, 8, 10), (6, 9, 11), id="few corners far apart"),
        pytest.param((3, 6, 8), (6, 9, 12), id="many corners far apart"),
        pytest.param((0, 0, 0), (6, 9, 12), id="around it"),
    ],
)
def test_each_distance_is_the_smallest_of_all(start, stop, spacing):
    first, second = box((6, 9, 12), (1, 1, 1), (3, 4, 4)), box((6, 9, 12), start, stop)
    here, there = corners_of(first), corners_of(second)
    between = np.sqrt((((here[:, None] - there) * np.asarray(spacing)) ** 2).sum(axis=2))
    found = surface_distances(first, second, spacing)
    np.testing.assert_allclose(found.from_reference, np.sort(between.min(axis=1)), rtol=1e-15)
    np.testing.assert_allclose(found.from_prediction, np.sort(between.min(axis=0)), rtol=1e-15)


def test_equal_distances_are_ordered_by_area():
    rng = np.random.default_rng(0)
    found = surface_distances(rng.random((6, 6, 6)) < 0.5, rng.random((6, 6, 6)) < 0.5, (1.0, 2.0, 3.0))
    surfels = list(zip(found.from_reference, found.reference_areas, strict=True))
    assert surfels == sorted(surfels)


def test_cropping_changes_nothing():
    reference, prediction = box((20, 20, 20), (4, 5, 6), (9, 9, 9)), box((20, 20, 20), (5, 5, 5), (8, 10, 12))
    whole = surface_distances(reference, prediction, (1.0, 2.0, 3.0))
    cut = (slice(4, 9), slice(5, 10), slice(5, 12))
    part = surface_distances(reference[cut], prediction[cut], (1.0, 2.0, 3.0))
    np.testing.assert_array_equal(whole.from_reference, part.from_reference)
    np.testing.assert_array_equal(whole.prediction_areas, part.prediction_areas)


@pytest.mark.parametrize("empty", [0, 1])
def test_an_empty_mask_has_no_surface(empty):
    masks = [box((3, 3, 3), (0, 0, 0), (1, 1, 1)) for _ in range(2)]
    masks[empty][:] = False
    with pytest.raises(ValueError, match="not empty"):
        surface_distances(*masks, (1.0, 1.0, 1.0))
