"""Samples of a small column whose image tells each voxel's place, so that a patch tells where it was cut."""

from dataclasses import replace

import numpy as np
import pytest

from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.trace import Trace
from autospine.patch_reading import PatchRequest
from autospine.preprocessed import PreprocessedCase, class_locations
from autospine.sampling import MAPS
from autospine.view_samples import draw_sample

SHAPE = (16, 12, 60)  # the last stored axis runs along the column
ORDER = (1, 2, 4, 3)  # from head to foot
#: From head to foot, along the last axis: the first is cut by the border, and so is the last.
PLACES = {1: (50, 60), 2: (38, 48), 4: (26, 36), 3: (0, 12)}
OUTSIDE = -1.0
REGION = PatchRequest((12, 12, 14), 1, 0.5, (OUTSIDE,) * 3, view="vertebrae", jitter=(2.0, 1.0, 3.0))
STEP = PatchRequest((8, 10, 24), 1, 0.5, (OUTSIDE,) * 3, view="walk", order=ORDER, least=20)
NONE, WIDE = (0, 0, 0), (2, 1, 2)


@pytest.fixture
def case():
    labels = np.zeros(SHAPE, dtype=np.int8)
    labels[:3, :, :] = -1
    for channel, (start, stop) in PLACES.items():
        labels[4:10, 3:9, start:stop] = channel
    return case_of(labels, {c: (6.5, 5.5, (a + b - 1) / 2 + 0.25) for c, (a, b) in PLACES.items()})


def case_of(labels, centres):
    grid = Grid((SHAPE[2], SHAPE[0], SHAPE[1]), (1.0, 1.0, 1.0))
    trace = Trace(grid, Orientation.to_canonical(grid), Box.whole(grid.shape), (1, 2, 0), SHAPE)
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")).astype(np.float32)
    return PreprocessedCase(places, labels, class_locations(labels), trace, centres)


def start_of(sample):
    """First voxel of what was read, by any voxel of it that lies in the scan."""
    inside = np.argwhere(sample["image"][0] != OUTSIDE)[0]
    return sample["image"][(slice(None), *inside)].astype(int) - inside


def labels_there(case, start, patch):
    """The case's labels, read in another way than the sampler's."""
    margin = max(patch)
    padded = np.pad(case.labels, margin)
    return padded[tuple(slice(a + margin, a + margin + n) for a, n in zip(start, patch, strict=True))]


def draw(case, request, count=200, previous=None, margins=NONE):
    rng = np.random.default_rng(0)
    return [draw_sample(case, previous, request, False, margins, rng) for _ in range(count)]


@pytest.mark.parametrize("request_", [REGION, STEP, replace(REGION, view="windows")])
def test_margins_change_neither_the_place_nor_what_is_asked_for(case, request_):
    inner = tuple(slice(a, a + n) for a, n in zip(WIDE, request_.patch, strict=True))
    for bare, wide in zip(draw(case, request_), draw(case, request_, margins=WIDE), strict=True):
        assert bare.keys() == wide.keys()
        for key, values in bare.items():
            same = (..., *inner) if key in MAPS else ...
            np.testing.assert_array_equal(wide[key][same], values)


def test_a_region_lies_around_a_vertebra_which_alone_is_labelled(case):
    met = set()
    for sample in draw(case, REGION):
        start = start_of(sample)
        place = start + (np.array(REGION.patch) - 1) / 2 + sample["point"][0]
        misses = {c: np.abs(place - centre) for c, centre in case.centres.items()}
        meant = [c for c, miss in misses.items() if (miss <= np.array(REGION.jitter) + 1e-4).all()]
        assert len(meant) == 1
        met.update(meant)
        there = labels_there(case, start, REGION.patch)
        expected = np.where(there < 0, there, there == meant[0])
        np.testing.assert_array_equal(sample["labels"], expected)
        assert np.abs(sample["point"]).max() <= 0.5 + 1e-4
    assert met == set(ORDER)


def test_a_region_misses_its_vertebra_evenly_in_all_directions(case):
    alone = replace(case, centres={2: case.centres[2]})
    samples = draw(alone, REGION, 400)
    places = [start_of(s) + (np.array(REGION.patch) - 1) / 2 + s["point"][0] for s in samples]
    misses = (np.array(places) - case.centres[2]) / REGION.jitter
    assert np.abs(misses).max() <= 1 + 1e-4
    assert np.abs(misses.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(misses.std(axis=0), 1 / np.sqrt(3), atol=0.05)


def test_a_region_may_reach_far_over_the_border(case):
    alone = replace(case, centres={3: (6.5, 5.5, 0.0)})
    sample = draw(alone, replace(REGION, patch=(12, 12, 40), jitter=(0.0, 0.0, 0.0)), 1)[0]
    assert (sample["image"][:, :, :, :19] == OUTSIDE).all()
    assert not sample["labels"][:, :, :19].any()
    assert sample["labels"].max() == 1


def test_vertebrae_without_a_centre_or_a_voxel_have_no_region(case):
    labels = case.labels.copy()
    labels[labels == 1] = 0
    centres = {c: case.centres[c] for c in (1, 2)}
    samples = draw(case_of(labels, centres), REGION, 40)
    assert all(abs(start_of(s)[2] + 6.5 + s["point"][0, 2] - centres[2][2]) <= 3.001 for s in samples)


def test_a_case_without_vertebrae_gives_empty_regions(case):
    labels = np.minimum(case.labels, 0)
    for sample in draw(case_of(labels, {}), REGION, 20):
        np.testing.assert_array_equal(
            sample["labels"], labels_there(case, start_of(sample), REGION.patch).clip(max=0)
        )
        np.testing.assert_array_equal(sample["point"], [[0, 0, 0]])


def test_a_region_holds_what_a_previous_stage_has_said(case):
    sample = draw(case, REGION, 1, previous=case.labels)[0]
    np.testing.assert_array_equal(sample["previous"], labels_there(case, start_of(sample), REGION.patch))


def test_a_step_looks_for_the_first_vertebra_that_is_not_in_memory(case):
    seen = set()
    for sample in draw(case, STEP, 400, margins=WIDE):
        there = labels_there(case, start_of(sample), (12, 12, 28))
        known = set(np.unique(there[sample["previous"] == 1]).tolist())
        assert (sample["previous"] == np.isin(there, list(known))).all(), "what is known is known as a whole"
        middle = there[2:10, 1:11, 2:26]
        visible = [c for c in ORDER if (middle == c).sum() >= STEP.least]
        left = [c for c in visible if c not in known]
        assert all(ORDER.index(k) < ORDER.index(c) for k in known for c in left), "known are those above"
        wanted = left[0] if left else None
        expected = np.where(there < 0, there, np.where(there == wanted, there, 0))
        np.testing.assert_array_equal(sample["labels"], expected)
        seen.add(wanted)
    assert seen == {*ORDER, None}


def test_a_step_tells_whether_the_next_vertebra_is_cut_by_the_border(case):
    told = {}
    for sample in draw(case, STEP, 400):
        wanted = int(sample["labels"].max())
        told.setdefault(wanted, set()).add(str(float(sample["whole"])))
    assert told == {0: {"nan"}, 1: {"0.0"}, 2: {"1.0"}, 4: {"1.0"}, 3: {"0.0"}}


def test_now_and_then_nothing_is_left(case):
    large = replace(STEP, patch=(16, 12, 130))  # shows all, wherever it lies
    samples = draw(case, large, 1000)
    empty = [sample for sample in samples if sample["labels"].max() <= 0]
    assert 0.07 < len(empty) / len(samples) < 0.13
    for sample in empty:
        there = labels_there(case, start_of(sample), large.patch)
        np.testing.assert_array_equal(sample["previous"], there > 0)


def test_most_steps_lie_around_a_vertebra(case):
    small = replace(STEP, patch=(8, 8, 8))
    samples = draw(case, small, 1000)
    places = np.array([start_of(s) + 3.5 for s in samples])
    distances = np.abs(places[:, None] - np.array(list(case.centres.values())))
    near = (distances <= 2.0 + 0.5).all(axis=2).any(axis=1)
    # Windows anywhere are near by chance in some 10 % of the cases.
    assert 0.79 < near.mean() < 0.86
    over = ((places < 3.5) | (places > np.array(SHAPE) - 4.5)).any(axis=1)
    assert over[near].any()
    assert not over[~near].any()


def test_a_fragment_too_small_is_passed_over(case):
    strict = replace(STEP, least=10**6)
    for sample in draw(case, strict, 20):
        assert sample["labels"].max() <= 0
        assert np.isnan(sample["whole"])


def test_a_walk_begins_with_an_empty_memory_on_vertebrae_without_known_centres_too(case):
    unknown = replace(case, centres={})
    samples = draw(unknown, STEP, 100)
    assert any(sample["labels"].max() > 0 and not sample["previous"].any() for sample in samples)


def test_a_walk_in_a_case_without_vertebrae_is_over(case):
    labels = np.minimum(case.labels, 0)
    for sample in draw(case_of(labels, {}), STEP, 20):
        assert sample["labels"].max() <= 0
        assert not sample["previous"].any()
        assert np.isnan(sample["whole"])
