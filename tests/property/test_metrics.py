from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.evaluation.overlap import overlaps
from autospine.evaluation.scores import compare_labels
from autospine.evaluation.surface import surface_distances

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance as oracle

# Round spacings make many distances equal, and equal to the tolerance; arbitrary ones make none.
spacings = st.sampled_from([(1.0, 1.0, 1.0), (0.1, 0.1, 0.1), (3.0, 0.4, 0.4), (0.8, 0.6, 0.6)]) | st.tuples(
    *[st.floats(0.2, 5.0)] * 3
)
shapes = st.tuples(*[st.integers(1, 9)] * 3)


@st.composite
def mask_pairs(draw):
    """Two masks with at least one voxel: noise of any density, so single voxels and full arrays occur."""
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks = []
    for _ in range(2):
        mask = rng.random(shape) < draw(st.sampled_from([0.02, 0.3, 0.6, 0.95, 1.0]))
        mask[tuple(rng.integers(0, n) for n in shape)] = True
        masks.append(mask)
    return masks


def by_oracle(reference, prediction, spacing, tolerance):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = oracle.compute_surface_distances(reference, prediction, spacing)
        return (
            oracle.compute_robust_hausdorff(found, 95),
            np.mean(oracle.compute_average_surface_distance(found)),
            oracle.compute_surface_dice_at_tolerance(found, tolerance),
        )


def ours(reference, prediction, spacing, tolerance):
    found = surface_distances(reference, prediction, spacing)
    return found.hausdorff(), found.average, found.surface_dice(tolerance)


@settings(deadline=None, max_examples=150)
@given(mask_pairs(), spacings, st.sampled_from([0.4, 1.0, 2.0]) | st.floats(0.1, 4))
def test_surface_distances_equal_the_oracle(masks, spacing, tolerance):
    assert ours(*masks, spacing, tolerance) == pytest.approx(by_oracle(*masks, spacing, tolerance), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(mask_pairs(), spacings)
def test_surface_distances_are_symmetric(masks, spacing):
    assert ours(*masks, spacing, 1.0) == pytest.approx(ours(*masks[::-1], spacing, 1.0), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(mask_pairs(), spacings, st.floats(0.5, 3))
def test_distances_scale_with_the_spacing(masks, spacing, factor):
    small = ours(*masks, spacing, 1.0)
    large = ours(*masks, tuple(s * factor for s in spacing), factor)
    assert large[:2] == pytest.approx((small[0] * factor, small[1] * factor), rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(mask_pairs(), spacings)
def test_a_mask_is_no_distance_from_itself(masks, spacing):
    assert ours(masks[0], masks[0], spacing, 0.0) == (0, 0, 1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_overlaps_equal_counting_masks(seed, ignoring):
    rng = np.random.default_rng(seed)
    prediction, reference = rng.integers(0, 5, (2, 4, 5, 6))
    ignore = 4 if ignoring else None
    scored = reference != ignore
    found = overlaps(prediction, reference, [1, 2, 3], ignore)
    for label in (1, 2, 3):
        p, r = (prediction == label) & scored, (reference == label) & scored
        if p.any() or r.any():
            assert found[label].dice == pytest.approx(2 * (p & r).sum() / (p.sum() + r.sum()))
        else:
            assert label not in found


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), shapes, st.sampled_from([np.uint8, np.int32]), spacings)
def test_comparing_labels_equals_comparing_whole_masks(seed, shape, dtype, spacing):
    rng = np.random.default_rng(seed)
    # Few voxels, so that some labels are in one map only; 5 is not to be compared; one map lies transposed.
    prediction = (rng.integers(1, 6, shape) * (rng.random(shape) < 0.2)).astype(dtype)
    reference = (rng.integers(1, 6, shape[::-1]) * (rng.random(shape[::-1]) < 0.2)).astype(dtype).T
    compared = {
        label: surface for label, _, surface in compare_labels(prediction, reference, spacing, [1, 2, 9])
    }
    for label in (1, 2, 9):
        p, r = prediction == label, reference == label
        assert (label in compared) == bool(p.any() or r.any())
        if p.any() and r.any():
            whole = surface_distances(r, p, spacing)
            np.testing.assert_array_equal(compared[label].from_reference, whole.from_reference)
            np.testing.assert_array_equal(compared[label].prediction_areas, whole.prediction_areas)
        elif label in compared:
            assert compared[label] is None
