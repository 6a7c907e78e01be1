import itertools
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest

from autospine import sampling
from autospine.core.errors import AutospineError, TrainingError
from autospine.core.geometry import Grid, Orientation
from autospine.core.trace import Trace
from autospine.patch_reading import centre_offsets, patch_start, read_patch
from autospine.preprocessed import StoredCase, save_case
from autospine.sampling import CaseFiles, PatchLoader, PatchRequest, batches

SHAPE = (12, 10, 8)
REQUEST = PatchRequest(patch=(4, 4, 4), batch_size=2, foreground_share=0.33, padding=(-2.0,))


@pytest.fixture
def cases(tmp_path):
    """Two stored cases; in each the intensity tells case and voxel."""
    grid = Grid(SHAPE, (1.0, 1.0, 1.0))
    orientation = Orientation.to_canonical(grid)
    trace = Trace(grid, orientation, _whole(), (0, 1, 2), SHAPE)
    for number, name in enumerate(("first", "second")):
        image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE) / 1000 + number
        labels = np.zeros(SHAPE, dtype=np.int8)
        labels[9:11, 7:9, 2 + number] = 1 + number
        centres = {1 + number: (9.5, 7.5, 2.0 + number)}
        save_case(tmp_path, StoredCase(name, trace, "hash", centres), image, labels, (4, 4, 4))
    return [CaseFiles(tmp_path, "first"), CaseFiles(tmp_path, "second")]


def _whole():
    from autospine.core.geometry import Box

    return Box.whole(SHAPE)


def loader(cases, start=0, workers=1, request=REQUEST, seed=(1, 2), margins=None):
    return PatchLoader(cases, request, seed, start, workers, margins)


def some_margins(index):
    return [(index % 3, 0, 1), (0, 0, 0)]


def test_a_batch_has_the_announced_shapes_and_types(cases):
    batch = loader(cases).batch(0)
    assert [image.shape for image in batch["image"]] == [(1, 4, 4, 4)] * 2
    assert {image.dtype for image in batch["image"]} == {np.dtype(np.float16)}
    assert [labels.shape for labels in batch["labels"]] == [(4, 4, 4)] * 2
    assert {labels.dtype for labels in batch["labels"]} == {np.dtype(np.int8)}
    assert set(batch["cases"]) <= {"first", "second"}


def test_a_batch_depends_on_its_number_alone(cases):
    again = loader(cases, start=5).generate_train_batch()
    np.testing.assert_array_equal(loader(cases).batch(5)["image"], again["image"])
    assert not np.array_equal(loader(cases).batch(6)["image"], again["image"])
    other_seed = loader(cases, seed=(1, 3)).batch(5)
    assert not np.array_equal(other_seed["image"], again["image"])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_order_does_not_depend_on_the_number_of_workers(cases, workers):
    expected = [loader(cases, margins=some_margins).batch(i)["image"] for i in range(3, 7)]
    with batches(loader(cases, 3, max(1, workers), margins=some_margins), workers) as stream:
        for images in expected:
            for found, image in zip(next(stream)["image"], images, strict=True):
                np.testing.assert_array_equal(found, image)


def test_margins_add_to_each_sample_what_lies_around_it(cases):
    for index in range(20):
        bare, wide = loader(cases).batch(index), loader(cases, margins=some_margins).batch(index)
        for key in ("image", "labels"):
            for inner, outer, margins in zip(bare[key], wide[key], some_margins(index), strict=True):
                assert outer.shape[-3:] == tuple(4 + 2 * margin for margin in margins)
                middle = tuple(slice(margin, margin + 4) for margin in margins)
                np.testing.assert_array_equal(outer[(..., *middle)], inner)


def test_the_last_samples_of_a_batch_show_the_label_they_are_centred_on(cases):
    assert [REQUEST.is_foreground(i) for i in range(2)] == [False, True]
    for index in range(20):
        labels = loader(cases).batch(index)["labels"][1]
        assert labels.any()


def test_patches_that_fit_lie_within_the_case():
    rng = np.random.default_rng(0)
    starts = np.array([patch_start(SHAPE, REQUEST, None, rng) for _ in range(500)])
    assert starts.min(axis=0).tolist() == [0, 0, 0]
    assert (starts.max(axis=0) + 4).tolist() == [12, 10, 8]
    assert patch_start(SHAPE, REQUEST, (0, 0, 0), rng) == (0, 0, 0)
    assert patch_start(SHAPE, REQUEST, (11, 9, 7), rng) == (8, 6, 4)


def test_a_case_smaller_than_the_patch_lies_wholly_inside_it():
    request = PatchRequest((9, 9, 9), 1, 0.0, (0.0,))
    start = patch_start((4, 9, 12), request, None, np.random.default_rng(0))
    assert start[0] <= 0
    assert start[0] + 9 >= 4
    assert start[1] == 0


def test_a_flat_patch_is_one_slice_through_the_labelled_voxel(cases):
    request = PatchRequest((4, 4), 2, 1.0, (-2.0,))
    batch = loader(cases, request=request, margins=lambda _: [(1, 1), (0, 2)]).batch(0)
    assert [image.shape for image in batch["image"]] == [(1, 6, 6), (1, 4, 8)]
    assert all(labels.any() for labels in batch["labels"])


def test_what_lies_outside_the_scan_is_padding(cases):
    case = cases[0].open()
    patch = read_patch(case.image, (-2, 0, 0), (4, 4, 4), (-2.0,))
    assert (patch[:, :2] == -2).all()
    np.testing.assert_allclose(patch[0, 2:, 0, 0], case.image[0, :2, 0, 0])
    assert (read_patch(case.labels, (-2, 0, 0), (4, 4, 4), 0)[:2] == 0).all()


def test_a_patch_wholly_outside_is_padding_too(cases):
    case = cases[0].open()
    assert (read_patch(case.image, (20, 0, 0), (4, 4, 4), (-2.0,)) == -2).all()
    assert (read_patch(case.labels, (0, -4, 0), (4, 4, 4), 0) == 0).all()


def test_a_previous_stage_is_cut_out_at_the_same_place(cases, tmp_path):
    from autospine.io.store import save_array

    for files in cases:
        save_array(tmp_path / "previous" / f"{files.identifier}.b2nd", files.open().labels[...])
    with_previous = [CaseFiles(f.folder, f.identifier, tmp_path / "previous") for f in cases]
    batch = loader(with_previous).batch(3)
    np.testing.assert_array_equal(batch["previous"], batch["labels"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_case_is_named(cases, workers):
    missing = [CaseFiles(cases[0].folder, "absent")]
    with batches(loader(missing), workers) as stream, pytest.raises(AutospineError, match="absent"):
        next(stream)


# The loader's own thread complains as well, as batchgenerators has it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_worker_is_reported_with_a_remedy(cases):
    with batches(loader(cases), 1) as stream:
        next(stream)
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        with pytest.raises(TrainingError, match=r"worker died.*-9.*--schedule.workers"):
            list(itertools.islice(stream, 100))


def test_centres_are_counted_from_the_middle_of_the_patch(cases):
    request = replace(REQUEST, centres=3)
    offsets = centre_offsets(cases[1].open(), (5, 3, 0), request)
    assert offsets.shape == (3, 3)
    np.testing.assert_array_equal(offsets[2], [9.5 - 6.5, 7.5 - 4.5, 3.0 - 1.5])
    assert np.isnan(offsets[:2]).all()


def test_centres_of_a_flat_patch_are_counted_across_the_slice_too(cases):
    request = PatchRequest((6, 6), 2, 1.0, (-2.0,), centres=3)
    offsets = centre_offsets(cases[1].open(), (4, 2, -1), request)
    np.testing.assert_array_equal(offsets[2], [9.5 - 4, 7.5 - 4.5, 3.0 - 1.5])


def test_a_batch_holds_centres_only_where_asked_for(cases):
    assert "centres" not in loader(cases).batch(0)
    assert loader(cases, request=replace(REQUEST, centres=3)).batch(0)["centres"].shape == (2, 3, 3)


def test_batches_of_regions_hold_the_point_that_is_meant(cases):
    batch = loader(cases, request=replace(REQUEST, view="vertebrae", jitter=(1.0, 1.0, 1.0))).batch(0)
    assert set(batch) == {"image", "labels", "point", "cases"}
    assert batch["point"].shape == (2, 1, 3)
    assert batch["point"].dtype == np.float32
    assert {labels.dtype for labels in batch["labels"]} == {np.dtype(np.int8)}
    assert set(np.unique(batch["labels"])) == {0, 1}


def test_batches_of_a_walk_hold_the_memory_and_whether_the_next_is_whole(cases):
    request = replace(REQUEST, view="walk", order=(1, 2), least=1, batch_size=8)
    batch = loader(cases, request=request).batch(0)
    assert set(batch) == {"image", "labels", "previous", "whole", "cases"}
    assert batch["whole"].shape == (8,)
    assert batch["whole"].dtype == np.float32
    assert [p.shape for p in batch["previous"]] == [labels.shape for labels in batch["labels"]]
    assert {p.dtype for p in batch["previous"]} == {np.dtype(np.int8)}


def test_a_walk_cannot_be_fed_by_a_previous_stage(cases, tmp_path):
    from autospine.io.store import save_array

    save_array(tmp_path / "previous" / "first.b2nd", cases[0].open().labels[...])
    fed = [CaseFiles(cases[0].folder, "first", tmp_path / "previous")]
    request = replace(REQUEST, view="walk", order=(1, 2))
    with (
        batches(loader(fed, request=request), 0) as stream,
        pytest.raises(AutospineError, match="feed to none"),
    ):
        next(stream)


def test_no_more_cases_stay_open_than_a_system_allows(cases, monkeypatch):
    expected = [loader(cases).batch(index)["image"] for index in range(8)]
    monkeypatch.setattr(sampling, "_MOST_OPEN", 1)
    sparing = loader(cases)
    for index, images in enumerate(expected):
        np.testing.assert_array_equal(sparing.batch(index)["image"], images)
        assert len(sparing._opened) == 1
