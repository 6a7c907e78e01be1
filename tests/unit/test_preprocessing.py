import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.transform import resize

from autospine.cli import main as cli
from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import (
    AutospineError,
    DataError,
    DocumentError,
    GeometryError,
    ImageError,
    LabelError,
)
from autospine.core.fingerprint import Fingerprint
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Configuration, NetworkSpec, Normalisation, Plan
from autospine.core.trace import Trace
from autospine.core.volume import Volume
from autospine.io import documents
from autospine.io.images import read_image, write_image
from autospine.io.raw_dataset import image_path, label_path, save_dataset
from autospine.preprocessed import StoredCase, class_locations, is_complete, open_case
from autospine.preprocessing import (
    normalise,
    preprocess_dataset,
    preprocess_image,
    preprocess_labels,
    resample_previous,
)

CT = Normalisation("ct", lower=-100, upper=900, mean=200, std=250)
NETWORK = NetworkSpec("plain_unet", (4,), ((3, 3, 3),), ((1, 1, 1),), (1,), ())
CONFIGURATION = Configuration(
    name="3d_fullres",
    axes=(0, 1, 2),
    spacing=(1.0, 1.0, 1.0),
    patch=(8, 8, 8),
    batch_size=2,
    median_shape=(16.0, 16.0, 16.0),
    network=NETWORK,
    crop="nonzero",
    normalisation=(CT,),
    padding=(-1.2,),
    mirror_axes=(0, 1, 2),
    batch_dice=False,
)
SCHEMA = LabelSchema({0: "background", 1: "L1", 2: "L2", 3: "ignore"}, ignore=3)
PLAN = Plan("toy", "spine", SCHEMA, (0, 1, 2), (CONFIGURATION,))
# Axes of the array run left, superior, anterior.
TURNED = Grid((10, 12, 14), (2.0, 1.0, 0.8), (5.0, 6.0, 7.0), ((1, 0, 0), (0, 0, -1), (0, 1, 0)))


def scan(grid=TURNED, seed=0):
    rng = np.random.default_rng(seed)
    return Volume(rng.integers(-500, 1500, (1, *grid.shape)).astype(np.int16), grid)


def mask(grid=TURNED):
    labels = np.zeros((1, *grid.shape), np.int32)
    labels[0, 2:6, 3:7, 4:9] = 1
    labels[0, 6:8, 3:7, 4:9] = 2
    labels[0, 8:, :, :2] = 3
    return Volume(labels, grid)


def test_a_scan_is_oriented_cropped_normalised_and_resampled_in_this_order():
    volume = scan()
    volume.array[:, :2] = 0
    image, trace = preprocess_image(volume, replace(CONFIGURATION, spacing=(1.0, 1.0, 1.5), axes=(2, 0, 1)))
    canonical = volume.array[0].transpose(1, 2, 0)[:, ::-1]  # superior, posterior, left
    cropped = canonical[:, :, 2:].transpose(2, 0, 1)
    expected = (np.clip(cropped, -100, 900) - 200) / 250
    assert trace.box == Box((0, 0, 2), (12, 14, 10))
    assert trace.shape == image.shape[1:] == (16, 12, round(14 * 0.8 / 1.5))
    np.testing.assert_allclose(
        image[0], resize(expected, trace.shape, order=3, mode="edge", anti_aliasing=False), atol=1e-4
    )
    assert trace.stored_grid.spacing == pytest.approx((1.0, 1.0, 14 * 0.8 / 7))


def test_an_axis_without_a_target_keeps_its_spacing():
    _, trace = preprocess_image(scan(), replace(CONFIGURATION, spacing=(None, 2.0, None)))
    assert trace.shape == (12, round(14 * 0.8 / 2), 10)


def test_the_coarse_axis_is_resampled_alone():
    grid = Grid((3, 12, 12), (6.0, 1.0, 1.0))
    image, trace = preprocess_image(scan(grid), CONFIGURATION)
    assert trace.separate_axis == 0
    np.testing.assert_array_equal(image[0, 0], image[0, 5])
    _, joint = preprocess_image(scan(grid), replace(CONFIGURATION, separate_axis_ratio=None))
    assert joint.separate_axis is None


def test_a_scan_thinner_than_the_spacing_keeps_a_voxel():
    image, _ = preprocess_image(
        scan(Grid((1, 8, 8), (1.0, 1.0, 1.0))), replace(CONFIGURATION, spacing=(5.0, 1.0, 1.0))
    )
    assert image.shape == (1, 1, 8, 8)


def test_the_body_is_cropped_to():
    volume = Volume(np.full((1, 20, 60, 60), -1000, np.int16), Grid((20, 60, 60), (4.0, 4.0, 4.0)))
    volume.array[:, :, 20:40, 25:45] = 40
    _, trace = preprocess_image(volume, replace(CONFIGURATION, crop="body", spacing=(None, None, None)))
    assert trace.box == Box((0, 17, 22), (20, 43, 48))


def test_normalisation():
    assert normalise(np.array([-1000, 200, 450, 3000]), CT).tolist() == pytest.approx([-1.2, 0, 1, 2.8])
    z = normalise(np.arange(10), Normalisation("zscore", 0, 0, 0, 0))
    assert (z.mean(), z.std()) == pytest.approx((0, 1), abs=1e-6)
    assert not normalise(np.full(5, 7), Normalisation("zscore", 0, 0, 0, 0)).any()


def test_another_number_of_channels_is_refused():
    with pytest.raises(DataError, match="1 channels, the plan 2"):
        preprocess_image(scan(), replace(CONFIGURATION, normalisation=(CT, CT)))


def test_masks_become_channel_indices():
    _, trace = preprocess_image(scan(), replace(CONFIGURATION, spacing=(None, None, None)))
    stored = preprocess_labels(mask(), trace, classes=(0, 2, 1), ignore=3)
    expected = np.array([0, 2, 1, -1])[mask().array[0]].transpose(1, 2, 0)[:, ::-1]
    assert stored.dtype == np.int8
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("value", [3, 4, -1, 40000])
def test_undeclared_values_are_refused(value):
    _, trace = preprocess_image(scan(), CONFIGURATION)
    labels = mask()
    labels.array[0, 0, 0, 0] = value
    with pytest.raises(LabelError, match=str(value)):
        preprocess_labels(labels, trace, classes=(0, 1, 2), ignore=None)


def test_a_mask_on_another_grid_is_refused():
    _, trace = preprocess_image(scan(), CONFIGURATION)
    moved = Volume(mask().array, replace(TURNED, origin=(5.0, 6.5, 7.0)))
    with pytest.raises(GeometryError, match="mask's grid"):
        preprocess_labels(moved, trace, (0, 1, 2), 3)
    nudged = Volume(mask().array, replace(TURNED, origin=(5.0, 6.01, 7.0)))
    preprocess_labels(nudged, trace, (0, 1, 2), 3)


def test_a_previous_stage_on_the_same_grid_is_only_turned():
    _, trace = preprocess_image(scan(), replace(CONFIGURATION, spacing=(None, None, None)))
    labels = preprocess_labels(mask(), trace, (0, 1, 2), 3)
    turned = replace(trace, axes=(2, 0, 1), shape=tuple(trace.shape[a] for a in (2, 0, 1)))
    np.testing.assert_array_equal(resample_previous(labels, trace, turned), labels.transpose(2, 0, 1))


def test_a_previous_stage_with_another_crop_and_resolution():
    grid = Grid((24, 24, 24), (1.0, 1.0, 1.0))
    still = Orientation((0, 1, 2), (False, False, False))
    coarse = Trace(grid, still, Box((4, 0, 0), (24, 24, 12)), (0, 1, 2), (5, 6, 3))
    fine = Trace(grid, still, Box((0, 4, 0), (24, 24, 24)), (0, 1, 2), (24, 20, 24))
    result = resample_previous(np.ones(coarse.shape, np.int8), coarse, fine)
    expected = np.zeros(fine.shape, np.int8)
    expected[4:, :, :12] = 1
    np.testing.assert_array_equal(result, expected)


def test_a_previous_stage_of_another_scan_is_refused():
    _, trace = preprocess_image(scan(), CONFIGURATION)
    other = replace(trace, grid=replace(TURNED, origin=(0.0, 0.0, 0.0)))
    with pytest.raises(GeometryError, match="another scan"):
        resample_previous(np.zeros(trace.shape, np.int8), trace, other)


def test_class_locations_are_few_enough_and_inside_the_class():
    labels = np.zeros((20, 60, 60), np.int8)
    labels[:, 20:50, 20:50] = 1
    labels[3, 3, 3:5] = 4
    labels[0, 0] = -1
    found = class_locations(labels)
    assert {c: len(v) for c, v in found.items()} == {1: 10_000, 4: 2}
    assert len(np.unique(found[1], axis=0)) == 10_000
    assert all((labels[tuple(v.T)] == c).all() for c, v in found.items())
    np.testing.assert_array_equal(found[1], class_locations(labels)[1])


@pytest.fixture
def dataset(tmp_path):
    cases = []
    for number in range(3):
        image, label = image_path(tmp_path, f"case{number}"), label_path(tmp_path, f"case{number}")
        write_image(image, scan(seed=number).array[0], TURNED)
        write_image(label, mask().array[0].astype(np.uint8), TURNED)
        cases.append(Case(f"case{number}", image, label))
    return Dataset("toy", SCHEMA, tuple(cases))


def digest(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def run(dataset, folder, workers=1, configuration=CONFIGURATION):
    done = []
    preprocess_dataset(dataset, PLAN, configuration, folder, workers, done.append)
    return done


def test_stored_cases_can_be_opened(dataset, tmp_path):
    assert run(dataset, tmp_path / "out") == ["case0", "case1", "case2"]
    case = open_case(tmp_path / "out", "case1")
    image, trace = preprocess_image(read_image(dataset.training[1].image), CONFIGURATION)
    assert case.trace == trace
    assert case.image.dtype == np.float16
    np.testing.assert_allclose(case.image[...], image, atol=2e-3)
    np.testing.assert_array_equal(case.image[:, 2:5, 1:4, 3:9], case.image[...][:, 2:5, 1:4, 3:9])
    assert set(np.unique(case.labels[...])) == {-1, 0, 1, 2}
    assert set(case.locations) == {1, 2}
    assert (case.labels[...][tuple(case.locations[2].T)] == 2).all()


def test_body_centres_are_stored_as_voxels_of_the_network_s_grid(dataset, tmp_path):
    coarse = replace(CONFIGURATION, spacing=(2.0, 1.0, 1.5), axes=(2, 0, 1))
    world = TURNED.to_world((4.0, 5.0, 6.5))
    centred = dataset.with_centroids({"case1": {1: tuple(world)}, "case2": {9: tuple(world)}})
    run(centred, tmp_path / "out", configuration=coarse)
    case = open_case(tmp_path / "out", "case1")
    assert list(case.centres) == [1]
    np.testing.assert_allclose(case.trace.stored_grid.to_world(case.centres[1]), world, atol=1e-6)
    assert open_case(tmp_path / "out", "case2").centres == {}, "a label the plan does not know"


@pytest.fixture
def cut_column(tmp_path):
    """L1 to L3 are labelled, T12 above is in view and is not; below L3 stands L4, cut and unlabelled."""
    grid = Grid((60, 30, 30), (3.0, 3.0, 3.0))
    image = np.random.default_rng(0).normal(0, 50, grid.shape).astype(np.int16)
    labels = np.zeros(grid.shape, np.uint8)
    for number, value in enumerate((22, 21, 20)):
        labels[12 + 11 * number : 21 + 11 * number, 8:22, 9:21] = value
    paths = image_path(tmp_path, "cut"), label_path(tmp_path, "cut")
    write_image(paths[0], image, grid)
    write_image(paths[1], labels, grid)
    centres = {v: tuple(grid.to_world((16.0 + 11 * i, 14.5, 14.5))) for i, v in enumerate((22, 21, 20))}
    return Dataset("cut", LabelSchema.vertebral_column(), (Case("cut", *paths, centroids=centres),)), labels


@pytest.mark.parametrize("ignored", [True, False])
def test_what_may_belong_to_an_unlabelled_neighbour_is_left_out_of_the_training(
    cut_column, tmp_path, ignored
):
    dataset, mask = cut_column
    plan = Plan("cut", "spine", dataset.labels, (0, 20, 21, 22), (CONFIGURATION,), ignore_border=ignored)
    coarse = replace(CONFIGURATION, spacing=(3.0, 3.0, 3.0), axes=(1, 0, 2))
    preprocess_dataset(dataset, plan, coarse, tmp_path / "out", 1)
    stored = open_case(tmp_path / "out", "cut").labels[...].transpose(1, 0, 2)
    expected = np.array([0] * 20 + [1, 2, 3])[mask]
    np.testing.assert_array_equal(stored[mask > 0], expected[mask > 0])
    assert (stored == -1).any() == ignored
    if ignored:
        assert (stored[50:, 10:20, 10:20] == -1).all(), "T12"
        assert (stored[:8, 10:20, 10:20] == -1).all(), "L4"
        assert not (stored[:, :, 0] == -1).any(), "far from the column"


def test_nothing_depends_on_the_number_of_workers(dataset, tmp_path):
    dataset.training[1].image.write_bytes(b"no image")
    for workers in (1, 2):
        with pytest.raises(ImageError, match=r"case case1 .*case1_0000\.nii\.gz"):
            run(dataset, tmp_path / str(workers), workers)
    assert len(digest(tmp_path / "1")) == 8
    assert digest(tmp_path / "1") == digest(tmp_path / "2")


def modified(folder):
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.suffix == ".json"}


def test_finished_cases_are_kept(dataset, tmp_path):
    out = tmp_path / "out"
    run(dataset, out)
    before = modified(out)
    (out / "case1.json").unlink()  # as if killed before its end
    (out / ".partial-99999999-case1.b2nd").write_bytes(b"half")
    run(dataset, out)
    after = modified(out)
    assert [name for name in before if before[name] != after[name]] == ["case1.json"]
    assert len(list(out.iterdir())) == 12


@pytest.mark.parametrize("changed", [{"spacing": (2.0, 1.0, 1.0)}, {"image_order": 1}, {"crop": "body"}])
def test_changed_settings_make_cases_anew(dataset, tmp_path, changed):
    run(dataset, tmp_path / "out")
    before = modified(tmp_path / "out")
    run(dataset, tmp_path / "out", configuration=replace(CONFIGURATION, batch_size=7))
    assert modified(tmp_path / "out") == before
    run(dataset, tmp_path / "out", configuration=replace(CONFIGURATION, **changed))
    assert not set(before.values()) & set(modified(tmp_path / "out").values())


def test_changed_files_make_their_case_anew(dataset, tmp_path):
    run(dataset, tmp_path / "out")
    before = modified(tmp_path / "out")
    os.utime(dataset.training[2].label, ns=(1, 1))
    run(dataset, tmp_path / "out")
    after = modified(tmp_path / "out")
    assert [name for name in before if before[name] != after[name]] == ["case2.json"]


def test_broken_cases_are_reported_together(dataset, tmp_path):
    dataset.training[0].label.unlink()
    dataset.training[1].image.write_bytes(b"no image")
    with pytest.raises(DataError, match="2 of 3 cases") as caught:
        run(dataset, tmp_path / "out")
    assert "case0" in str(caught.value)
    assert "case1" in str(caught.value)
    assert open_case(tmp_path / "out", "case2").image.shape[0] == 1


def test_a_case_without_a_mask_is_refused(dataset, tmp_path):
    cases = (replace(dataset.training[0], label=None), *dataset.training[1:])
    with pytest.raises(DataError, match=r"case0.*no mask"):
        run(replace(dataset, training=cases), tmp_path / "out")


def test_exhausted_memory_is_explained(dataset, tmp_path, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("autospine.preprocessing.preprocess_image", exhausted)
    with pytest.raises(AutospineError, match=r"case0.*fewer workers"):
        run(dataset, tmp_path / "out")


def test_incomplete_cases_do_not_count(dataset, tmp_path):
    out = tmp_path / "out"
    run(dataset, out)
    content = documents.load(out / "case0.json", StoredCase).content
    assert is_complete(out, "case0", content)
    assert not is_complete(out, "case0", "another")
    (out / "case0_locations.npz").unlink()
    assert not is_complete(out, "case0", content)
    (out / "case1.json").write_text("{")
    assert not is_complete(out, "case1", content)
    with pytest.raises(DocumentError):
        open_case(out, "case1")
    (out / "case2_locations.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ImageError, match="locations"):
        open_case(out, "case2")


def test_a_real_scan_goes_in_and_its_mask_comes_back(sample_data):
    folder = sample_data / "tptbox_l3"
    volume = read_image(folder / "sub-ct_label-22_ct.nii.gz")
    labels = read_image(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    image, trace = preprocess_image(volume, replace(CONFIGURATION, spacing=(None, None, None)))
    values = tuple(int(v) for v in np.unique(labels.array))
    stored = preprocess_labels(Volume(labels.array.astype(np.int32), labels.grid), trace, values)
    assert image.shape[1:] == trace.shape
    np.testing.assert_array_equal(np.array(values)[trace.restore(stored)], labels.array[0])


@pytest.fixture
def planned_run(dataset, tmp_path):
    save_dataset(tmp_path, dataset)
    documents.save(tmp_path / "run" / "plan.json", PLAN)
    empty = Fingerprint("toy", PLAN.labels, ("CT",), (), ())
    documents.save(tmp_path / "run" / "fingerprint.json", empty)
    return tmp_path / "run"


def test_the_command_preprocesses_a_planned_run(planned_run, tmp_path, capsys):
    command = ["preprocess", str(planned_run), "--dataset", str(tmp_path), "--workers", "1"]
    assert cli.run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cases"] == 3
    stored = Path(told["folders"]["3d_fullres"])
    assert open_case(stored, "case2").labels.ndim == 3
    before = modified(stored)
    assert cli.run([*command[:2], "--workers", "1", "--quiet"]) == 0  # the run remembers its data set
    assert modified(stored) == before
    assert capsys.readouterr().out == ""


def test_the_command_wants_a_plan(tmp_path, capsys):
    assert cli.run(["preprocess", str(tmp_path)]) == 3
    assert "plan.json" in capsys.readouterr().err
