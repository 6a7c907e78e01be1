"""Each way data or disks can fail: one clear line, the right exit code, and nothing lost."""

import gzip
import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from autospine.cli.main import run


@pytest.fixture
def broken(dataset, tmp_path):
    """A copy of the data set to break."""
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    return folder


def first_image(folder):
    return sorted((folder / "imagesTr").iterdir())[0]


def first_label(folder):
    return sorted((folder / "labelsTr").iterdir())[0]


def rewrite(path, change):
    """Write an image again with other voxels; its header stays."""
    image = sitk.ReadImage(str(path))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    if changed.GetSize() == image.GetSize():
        changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))


def truncate(folder):
    path = first_image(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def fill_with_nan(folder):
    path = first_image(folder)
    rewrite(path, lambda a: np.where(a > 200, np.nan, a).astype(np.float32))
    return path


def make_constant(folder):
    path = first_image(folder)
    rewrite(path, np.zeros_like)
    return path


def flatten(folder):
    path = first_image(folder)
    sitk.WriteImage(sitk.ReadImage(str(path))[:, :, 3], str(path))
    return path


def add_an_axis(folder):
    path = first_image(folder)
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(path))
    return path


def crop_the_mask(folder):
    path = first_label(folder)
    sitk.WriteImage(sitk.ReadImage(str(path))[1:, :, :], str(path))
    return path


def use_an_unknown_label(folder):
    path = first_label(folder)
    rewrite(path, lambda a: np.where(a == 22, 77, a).astype(np.uint8))
    return path


def collapse_the_axes(folder):
    path = first_image(folder)
    image = sitk.ReadImage(str(path))
    plain = folder / "plain.nii"
    sitk.WriteImage(image, str(plain))
    header = bytearray(plain.read_bytes())
    plain.unlink()
    # NIfTI-1: the codes of qform and sform at byte 252, the three rows of the sform from byte 280 on.
    header[252:256] = np.array([0, 1], "<i2").tobytes()
    header[280:328] = np.tile(np.array([1, 0, 0, 0], "<f4"), 3).tobytes()
    path.write_bytes(gzip.compress(bytes(header)))
    return path


def skip_a_label(folder):
    path = folder / "dataset.json"
    document = json.loads(path.read_text())
    document["labels"]["T13"] = 99
    path.write_text(json.dumps(document))
    return path


def damage_the_description(folder):
    path = folder / "dataset.json"
    path.write_text(path.read_text()[:-20])
    return path


def lose_a_mask(folder):
    path = first_label(folder)
    path.unlink()
    return folder / "labelsTr"


DAMAGES = {
    truncate: "truncated|damaged|bytes",
    fill_with_nan: "NaN",
    make_constant: "value 0",
    flatten: "axes",
    add_an_axis: "axes",
    crop_the_mask: "voxels|shape|grid",
    use_an_unknown_label: "77",
    collapse_the_axes: "singular|perpendicular|axes",
    skip_a_label: "consecutive",
    damage_the_description: "JSON",
    lose_a_mask: "mask",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_bad_data_are_rejected_by_name(broken, options, tmp_path, capsys, damage):
    path = damage(broken)
    before = {p: p.read_bytes() for p in broken.rglob("*") if p.is_file()}
    assert run(["plan-and-train", str(broken), "-o", str(tmp_path / "run"), *options]) == 3
    message = capsys.readouterr().err
    assert path.name in message
    assert re.search(DAMAGES[damage], message), message
    assert "Traceback" not in message
    assert {p: p.read_bytes() for p in broken.rglob("*") if p.is_file()} == before


def test_an_empty_folder_is_rejected(tmp_path, options, capsys):
    assert run(["plan-and-train", str(tmp_path), "-o", str(tmp_path / "run"), *options]) == 3
    assert str(tmp_path) in capsys.readouterr().err
    assert run(["convert-verse", str(tmp_path), "-o", str(tmp_path / "out")]) == 3
    assert str(tmp_path) in capsys.readouterr().err


def test_fewer_patients_than_folds_is_a_usage_error(dataset, options, tmp_path, capsys):
    assert run(["plan-and-train", str(dataset), "-o", str(tmp_path / "run"), *_with_split(options, "9")]) == 2
    message = capsys.readouterr().err
    assert "9" in message
    assert "fold" in message


def _with_split(options, folds):
    position = options.index("--split") + 1
    return [*options[:position], folds, *options[position + 1 :]]


def test_an_output_that_cannot_be_written_is_named(dataset, options, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert run(["plan-and-train", str(dataset), "-o", str(file / "run"), *options]) == 1
    assert "file" in capsys.readouterr().err


@pytest.fixture
def arguments(dataset, options, tmp_path):
    command = [sys.executable, "-m", "autospine", "plan-and-train", str(dataset), "-o", str(tmp_path / "run")]
    return [*command, *options, "--configurations", "3d_lowres"]


def test_a_disk_that_takes_no_more_is_named_and_the_run_goes_on_later(arguments, tmp_path):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    full = subprocess.run(arguments, preexec_fn=small_files_only, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert full.stderr.count("\n") <= 3
    assert "too large" in full.stderr
    assert (tmp_path / "run" / "fingerprint.json").is_file()
    assert subprocess.run(arguments, capture_output=True, check=False).returncode == 0
