"""The streamed export against the obvious way: resample every class to the scan, then merge, then argmax."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.inference.export import export_labels
from autospine.inference.prediction import Prediction

CLASSES = (0, 3, 5, 9)


@st.composite
def predictions(draw, grid, orientation):
    shape = orientation.apply_grid(grid).shape
    start = tuple(draw(st.integers(0, n // 3)) for n in shape)
    stop = tuple(draw(st.integers(2 * n // 3 + 1, n)) for n in shape)
    stored = draw(st.tuples(*[st.integers(1, 30)] * 3))
    axes = tuple(draw(st.permutations(range(3))))
    trace = Trace(grid, orientation, Box(start, stop), axes, stored)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    # Blocky as well as noisy logits: some blocks are decided beforehand, some are not.
    noise = rng.normal(0, draw(st.sampled_from([0.1, 1.0, 20.0])), (len(CLASSES), *stored))
    blocks = rng.normal(0, 6, (len(CLASSES), *[-(-n // 8) for n in stored]))
    blocky = np.kron(blocks, np.ones((1, 8, 8, 8)))[(slice(None), *(slice(n) for n in stored))]
    return Prediction((noise + blocky).astype(np.float16), trace)


@st.composite
def scans(draw, most=3):
    shape = draw(st.tuples(*[st.integers(1, 45)] * 3))
    axes = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    direction = np.eye(3)[:, axes] * signs
    grid = Grid(shape, (1.0, 2.0, 0.5), (0.0, 0.0, 0.0), tuple(map(tuple, direction)))
    orientation = Orientation.to_canonical(grid)
    return [draw(predictions(grid, orientation)) for _ in range(draw(st.integers(1, most)))]


def resampled(prediction):
    """Logits of all classes on the oriented, cropped scan, by torch's own interpolation."""
    trace = prediction.trace
    canonical = np.ascontiguousarray(prediction.logits.transpose(0, *(1 + np.argsort(trace.axes))))
    return torch.nn.functional.interpolate(
        torch.from_numpy(canonical.astype(np.float64))[None],
        size=trace.box.shape,
        mode="trilinear",
        align_corners=False,
    )[0]


def votes(prediction):
    trace = prediction.trace
    result = np.zeros((len(CLASSES), *trace.orientation.apply_grid(trace.grid).shape))
    result[0] = 1
    result[(slice(None), *trace.box.slices)] = resampled(prediction).softmax(0).numpy()
    return result


def assert_wins(result, scores, prediction, tolerance):
    """The exported label has the highest score, up to rounding."""
    canonical = prediction.trace.orientation.apply(result)
    chosen = np.searchsorted(CLASSES, canonical)
    assert np.isin(canonical, CLASSES).all()
    score = np.take_along_axis(scores, chosen[None], axis=0)[0]
    assert (scores.max(axis=0) - score).max() <= tolerance


@settings(max_examples=40)
@given(scans(most=1))
def test_one_member_wins_by_its_resampled_logits(members):
    result = export_labels(members, CLASSES)
    box = members[0].trace.box
    assert result.shape == members[0].trace.grid.shape
    inside = members[0].trace.orientation.apply(result)[box.slices]
    scores = resampled(members[0]).numpy()
    chosen = np.take_along_axis(scores, np.searchsorted(CLASSES, inside)[None], axis=0)[0]
    assert (scores.max(axis=0) - chosen).max() <= 1e-3
    assert (result != 0).sum() == (inside != 0).sum()
    exact = np.array(CLASSES)[scores.argmax(axis=0)]
    top = np.sort(scores, axis=0)
    clear = top[-1] - top[-2] > 1e-3
    np.testing.assert_array_equal(inside[clear], exact[clear])


@settings(max_examples=40)
@given(scans(), st.lists(st.floats(0.1, 5), min_size=3, max_size=3))
def test_members_are_averaged_by_their_softmax(members, weights):
    weights = weights[: len(members)]
    result = export_labels(members, CLASSES, weights)
    scores = np.average([votes(member) for member in members], axis=0, weights=weights)
    assert_wins(result, scores, members[0], 3e-5)
