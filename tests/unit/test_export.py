import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from autospine.core.errors import DocumentError, GeometryError, ImageError, LabelError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.inference.export import export_combinations, export_labels
from autospine.inference.merging import Sampler
from autospine.inference.prediction import Prediction, to_half

STILL = Orientation((0, 1, 2), (False, False, False))
GRID = Grid((12, 10, 8), (1.0, 1.0, 1.0))
WHOLE = Trace(GRID, STILL, Box.whole(GRID.shape), (0, 1, 2), GRID.shape)


def vote(trace, winner, strength=4.0, classes=3):
    """Logits that say ``winner``, a channel or an array of channels on the stored grid."""
    channels = np.arange(classes)[:, None, None, None]
    return Prediction(
        np.where(channels == winner, strength, 0).astype(np.float16) * np.ones(trace.shape, np.float16), trace
    )


def test_at_native_resolution_the_mask_is_the_argmax():
    winner = np.random.default_rng(0).integers(0, 3, GRID.shape)
    result = export_labels([vote(WHOLE, winner)], classes=(0, 7, 255))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.array([0, 7, 255])[winner])


def test_ties_go_to_the_lowest_class():
    assert not export_labels([vote(WHOLE, 0, strength=0)], (0, 1, 2)).any()
    assert not export_labels([vote(WHOLE, 0, 0), vote(WHOLE, 0, 0)], (0, 1, 2)).any()


def test_outside_the_crop_there_is_background():
    trace = replace(WHOLE, box=Box((2, 3, 4), (6, 7, 8)), shape=(2, 2, 2))
    result = export_labels([vote(trace, 2)], (0, 1, 2))
    expected = np.zeros(GRID.shape)
    expected[2:6, 3:7, 4:8] = 2
    np.testing.assert_array_equal(result, expected)


def test_outside_its_crop_a_member_votes_for_background():
    cropped = replace(WHOLE, box=Box((0, 0, 0), (6, 10, 8)), shape=(6, 10, 8))
    weak, strong = vote(WHOLE, 1, strength=2.0), vote(cropped, 1, strength=9.0)
    assert (export_labels([weak], (0, 1, 2)) == 1).all()
    result = export_labels([weak, strong], (0, 1, 2))
    assert (result[:6] == 1).all()
    assert not result[6:].any()
    assert (export_labels([weak, strong], (0, 1, 2), weights=[9.0, 1.0]) == 1).all()


def test_an_oriented_scan_comes_back_on_its_own_grid():
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), direction=((1, 0, 0), (0, 0, -1), (0, 1, 0)))
    orientation = Orientation.to_canonical(grid)
    box = Box.whole(orientation.apply_grid(grid).shape)
    winner = np.random.default_rng(0).integers(0, 3, grid.shape)
    stored = orientation.apply(winner).transpose(2, 0, 1)
    trace = Trace(grid, orientation, box, (2, 0, 1), stored.shape)
    result = export_labels([vote(trace, stored)], (0, 1, 2))
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, winner)


def test_the_coarse_axis_goes_back_as_it_came():
    """Slices that were repeated by order 0 are not blended on the way back."""
    winner = np.arange(4).repeat(3)[:, None, None] % 3 * np.ones((12, 10, 8), int)
    grid = Grid((4, 10, 8), (3.5, 1.0, 1.0))
    trace = Trace(grid, STILL, Box.whole(grid.shape), (0, 1, 2), (12, 10, 8), separate_axis=0)
    np.testing.assert_array_equal(export_labels([vote(trace, winner)], (0, 1, 2)), winner[::3])


def test_combinations_equal_single_exports():
    rng = np.random.default_rng(0)
    coarse = replace(WHOLE, shape=(6, 5, 4), axes=(1, 0, 2))
    members = {
        name: Prediction(rng.normal(0, 2, (3, *trace.shape)).astype(np.float16), trace)
        for name, trace in [("a", WHOLE), ("b", coarse), ("c", WHOLE)]
    }
    combinations = [{"a": 1.0}, {"a": 1.0, "b": 3.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {"c": 2.0, "a": 0.0}]
    results = export_combinations(members, combinations, (0, 1, 2))
    for combination, result in zip(combinations, results, strict=True):
        alone = export_labels([members[n] for n in combination], (0, 1, 2), list(combination.values()))
        np.testing.assert_array_equal(result, alone)
    assert len({r.tobytes() for r in results}) == 4


def test_huge_logits_do_not_overflow():
    winner = np.random.default_rng(0).integers(0, 3, GRID.shape)
    huge = Prediction(to_half(vote(WHOLE, winner).logits.astype(np.float32) * 1e6), WHOLE)
    assert np.isfinite(huge.logits).all()
    np.testing.assert_array_equal(export_labels([huge, huge], (0, 1, 2)), winner)


def test_no_array_of_classes_times_full_resolution_exists(monkeypatch):
    sizes = []
    sample = Sampler.sample

    def recorded(self, block, channels):
        result = sample(self, block, channels)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(Sampler, "sample", recorded)
    full = Grid((96, 96, 96), (1.0, 1.0, 1.0))
    trace = Trace(full, STILL, Box.whole(full.shape), (0, 1, 2), (16, 16, 16))
    winner = np.zeros(trace.shape, int)
    winner[4:12, 4:12, 4:12] = np.arange(8)[:, None, None] + 1
    member = vote(trace, winner, classes=20)
    tracemalloc.start()
    export_labels([member], tuple(range(20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All classes in half precision would take 40 bytes a voxel; torch's arrays are the samples.
    assert peak < 6 * np.prod(full.shape)
    assert 0 < max(sizes) < 0.05 * 20 * np.prod(full.shape)


@pytest.mark.parametrize(
    ("members", "classes", "error"),
    [
        ([vote(WHOLE, 1)], (0, 1), LabelError),
        ([vote(WHOLE, 1)], (0, 1, 256), LabelError),
        (
            [vote(WHOLE, 1), vote(replace(WHOLE, grid=replace(GRID, origin=(9.0, 0.0, 0.0))), 1)],
            (0, 1, 2),
            GeometryError,
        ),
    ],
)
def test_members_that_do_not_fit_are_refused(members, classes, error):
    with pytest.raises(error):
        export_labels(members, classes)


def test_logits_must_fit_their_trace():
    with pytest.raises(GeometryError, match="do not fit"):
        Prediction(np.zeros((3, 4, 4, 4)), WHOLE)


def test_predictions_are_stored_in_half_precision(tmp_path):
    logits = np.random.default_rng(0).normal(size=(3, *GRID.shape)).astype(np.float32)
    logits[0, 0, 0, 0] = 1e6
    Prediction(logits, WHOLE).save(tmp_path / "sub.01")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sub.01.b2nd", "sub.01.json"]
    loaded = Prediction.load(tmp_path / "sub.01")
    assert loaded.trace == WHOLE
    assert loaded.logits.dtype == np.float16
    assert loaded.logits[0, 0, 0, 0] == 65504
    np.testing.assert_allclose(loaded.logits.ravel()[1:], logits.ravel()[1:], atol=2e-3)


def test_incomplete_predictions_are_refused(tmp_path):
    vote(WHOLE, 1).save(tmp_path / "case")
    (tmp_path / "case.b2nd").unlink()
    with pytest.raises(ImageError):
        Prediction.load(tmp_path / "case")
    with pytest.raises(DocumentError):
        Prediction.load(tmp_path / "other")
