import json
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from autospine.cli.main import run
from autospine.core.ensemble import Ensemble
from autospine.core.run import RunFolder
from autospine.inference.folder import shared_out
from autospine.inference.predictor import Predictor
from autospine.io import documents
from autospine.io.column_reports import load_report
from autospine.io.images import read_image, read_labels
from autospine.io.scans import ScanFile
from autospine.io.scratch import Scratch


def predict(model, scans, target, *more):
    arguments = ["-m", str(model), "-i", *map(str, scans), "-o", str(target), "--device", "cpu", "--quiet"]
    return run(["predict", *arguments, *more])


@pytest.fixture(scope="module")
def scan(phantoms):
    """A scan as it came, oblique and in its own orientation."""
    return next(phantoms.rglob("dataset-verse19test/**/*_ct.nii.gz"))


def test_the_mask_has_the_scans_own_grid(finished_run, scan, tmp_path):
    assert predict(finished_run, [scan], tmp_path) == 0
    mask = tmp_path / scan.name
    assert read_labels(mask).grid.same_as(read_image(scan).grid, tolerance=1e-4)
    np.testing.assert_allclose(nibabel.load(mask).affine, nibabel.load(scan).affine, atol=1e-4)
    assert nibabel.load(mask).get_data_dtype() == np.uint8


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nii", ".mhd"])
def test_other_formats_give_the_same_mask(finished_run, scan, tmp_path, ending):
    converted = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.ReadImage(str(scan)), str(converted))
    assert predict(finished_run, [scan, converted], tmp_path / "out", "--configurations", "2d") == 0
    masks = [read_labels(tmp_path / "out" / name) for name in (scan.name, "scan.nii.gz")]
    np.testing.assert_array_equal(masks[0].array, masks[1].array)


def test_a_scan_turned_around_gets_the_same_mask_turned_around(finished_run, scan, tmp_path):
    turned = tmp_path / "turned.nii.gz"
    sitk.WriteImage(sitk.PermuteAxes(sitk.ReadImage(str(scan)), (2, 0, 1))[::-1], str(turned))
    assert predict(finished_run, [scan, turned], tmp_path / "out", "--configurations", "2d") == 0
    straight = sitk.ReadImage(str(tmp_path / "out" / scan.name))
    expected = sitk.GetArrayFromImage(sitk.PermuteAxes(straight, (2, 0, 1))[::-1])
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "turned.nii.gz").array[0], expected)


def test_a_broken_scan_is_reported_and_does_not_stop_the_others(finished_run, scan, tmp_path, capsys):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(scan.read_bytes()[:2000])
    assert predict(finished_run, [broken, scan], tmp_path / "out", "--configurations", "2d") == 3
    assert "broken.nii.gz" in capsys.readouterr().out
    assert (tmp_path / "out" / scan.name).is_file()
    report = json.loads((tmp_path / "out" / "prediction_report.json").read_text())
    assert [bool(entry["error"]) for entry in report["scans"]] == [True, False]


def test_finished_masks_are_left_alone_unless_forced(finished_run, scan, tmp_path):
    two_d = ("--configurations", "2d")
    predict(finished_run, [scan], tmp_path, *two_d)
    before = (tmp_path / scan.name).stat().st_mtime_ns
    predict(finished_run, [scan], tmp_path, *two_d)
    assert (tmp_path / scan.name).stat().st_mtime_ns == before
    predict(finished_run, [scan], tmp_path, *two_d, "--force")
    assert (tmp_path / scan.name).stat().st_mtime_ns > before


def test_saved_probabilities_merge_into_the_mask_of_the_joint_prediction(finished_run, scan, tmp_path):
    both = ("--configurations", "2d", "3d_lowres", "--save-probabilities")
    assert predict(finished_run, [scan], tmp_path / "joint", *both) == 0
    folders = [str(tmp_path / "joint" / "probabilities" / name) for name in ("2d", "3d_lowres")]
    assert run(["ensemble", "-i", *folders, "-o", str(tmp_path / "merged"), "--quiet"]) == 0
    joint, merged = (read_labels(tmp_path / name / scan.name).array for name in ("joint", "merged"))
    np.testing.assert_array_equal(joint, merged)


def test_a_model_folder_needs_only_plan_ensemble_and_weights(finished_run, scan, tmp_path):
    model = tmp_path / "model"
    for name in ("plan.json", "ensemble.json"):
        model.mkdir(exist_ok=True)
        shutil.copy(finished_run / name, model / name)
    for weights in finished_run.glob("models/*/*/model.safetensors"):
        target = model / weights.relative_to(finished_run)
        target.parent.mkdir(parents=True)
        shutil.copy(weights, target)
    assert predict(model, [scan], tmp_path / "out") == 0


def test_a_model_that_was_never_trained_is_refused(finished_run, scan, tmp_path, capsys):
    assert predict(finished_run, [scan], tmp_path, "--folds", "4") == 2
    assert "Train it first" in capsys.readouterr().err


def test_predictions_are_scored(finished_run, dataset, tmp_path):
    assert predict(finished_run, [dataset / "imagesTs"], tmp_path / "out", "--configurations", "2d") == 0
    scores = tmp_path / "scores.json"
    arguments = ["-p", str(tmp_path / "out"), "-r", str(dataset / "labelsTs"), "-o", str(scores)]
    assert run(["evaluate", *arguments]) == 0
    assert scores.is_file()


def test_a_real_scan_comes_back_in_its_exact_grid(finished_run, sample_data, tmp_path):
    real = sample_data / "dataset-verse19training/rawdata/sub-verse014/sub-verse014_ct.nii.gz"
    assert predict(finished_run, [real], tmp_path, "--configurations", "3d_lowres") == 0
    scan, mask = nibabel.load(real), nibabel.load(tmp_path / real.name)
    assert mask.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)


def test_every_mask_comes_with_a_report_of_its_vertebrae(finished_run, scan, tmp_path):
    for naming in ("sequence", "argmax"):
        folder = tmp_path / naming
        assert predict(finished_run, [scan], folder, "--configurations", "3d_lowres", "--naming", naming) == 0
        name = scan.name.removesuffix(".nii.gz")
        report = load_report(folder, name)
        assert report.decoding == naming
        values = set(np.unique(read_labels(folder / scan.name).array)) - {0}
        assert values <= {vertebra.label for vertebra in report.vertebrae}


def test_flat_configurations_cannot_name_columns(finished_run, scan, tmp_path, capsys):
    assert predict(finished_run, [scan], tmp_path, "--configurations", "2d", "--naming", "sequence") == 2
    assert "--naming argmax" in capsys.readouterr().err


def test_cut_vertebrae_are_not_told_where_voxels_are_named(finished_run, scan, tmp_path, capsys):
    options = ("--configurations", "2d", "--partial", "drop")
    assert predict(finished_run, [scan], tmp_path, *options) == 2
    assert "--naming sequence" in capsys.readouterr().err


def test_both_decodings_stand_on_the_leaderboard(finished_run):
    ensemble = documents.load(finished_run / "ensemble.json", Ensemble)
    decodings = [candidate.decoding for candidate in ensemble.leaderboard]
    assert decodings.count("argmax") == 15
    assert decodings.count("sequence") == 14, "all but the 2D configuration alone"
    assert all(candidate.identified is not None for candidate in ensemble.leaderboard)
    assert "named as a column" in ensemble.reason.lower()
    assert "named voxel by voxel" in ensemble.reason.lower()


def test_outputs_on_the_disk_give_the_same_mask(finished_run, scan, tmp_path):
    predictor = Predictor.open(RunFolder(finished_run), "cpu")
    volume = read_image(scan)
    in_memory = predictor.merge(predictor.predict_members(volume))
    on_disk = predictor.merge(predictor.begin(volume).members(Scratch(tmp_path)))
    np.testing.assert_array_equal(in_memory.labels, on_disk.labels)
    assert in_memory.column == on_disk.column


def test_too_little_memory_is_told_before_the_work(finished_run, scan, tmp_path, capsys):
    assert predict(finished_run, [scan], tmp_path, "--memory", "50MB") == 3
    assert "--memory" in capsys.readouterr().out
    assert not (tmp_path / scan.name).exists()


def test_scans_side_by_side_get_the_same_masks(finished_run, scan, tmp_path):
    other = tmp_path / "other.nii.gz"
    shutil.copy(scan, other)
    two_d = ("--configurations", "2d")
    assert predict(finished_run, [scan, other], tmp_path / "one", *two_d) == 0
    assert predict(finished_run, [scan, other], tmp_path / "two", *two_d, "--workers", "2") == 0
    for name in (scan.name, other.name):
        one, two = (read_labels(tmp_path / folder / name).array for folder in ("one", "two"))
        np.testing.assert_array_equal(one, two)
    report = json.loads((tmp_path / "two" / "prediction_report.json").read_text())
    assert [entry["name"] for entry in report["scans"]] == [scan.name.removesuffix(".nii.gz"), "other"]


def test_work_is_shared_out_by_size(tmp_path):
    scans = []
    for name, size in (("a", 10), ("b", 70), ("c", 30), ("d", 35)):
        (tmp_path / name).write_bytes(bytes(size))
        scans.append(ScanFile(tmp_path / name, name))
    parts = shared_out(scans, 2)
    assert [[scan.name for scan in part] for part in parts] == [["b"], ["d", "c", "a"]]
    assert len(shared_out(scans[:1], 4)) == 1
    assert shared_out([], 2) == [()]
