import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autospine import registry
from autospine.cli.convert_xvertseg import convert_xvertseg
from autospine.core.errors import DataError
from autospine.dataset_conversion.intensities import detect_shift, subtract
from autospine.dataset_conversion.scores import read_scores
from autospine.dataset_conversion.xvertseg import convert
from autospine.io.conversion import ConversionOptions
from autospine.io.images import read_image, read_labels
from autospine.io.raw_dataset import load_dataset

SAMPLES = Path(os.environ.get("AUTOSPINE_SAMPLE_DATA", Path(__file__).parents[3] / "shared" / "data"))
OPTIONS = ConversionOptions(workers=1, quiet=True)
SHAPE = (10, 16, 16)


def hounsfield() -> np.ndarray:
    """Air, a body of fat and muscle, and bone in it."""
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    array = np.full(SHAPE, -1000.0)
    array[:, 3:13, 3:13] = 40
    array[:, 3:13, 3:5] = -100
    array[:, 6:10, 6:10] = 400
    return np.rint(array + noise).astype(np.int16)


def labels() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for i in range(5):
        mask[8 - 2 * i : 10 - 2 * i, 6:10, 6:10] = 200 + 10 * i
    return mask


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.5, 1.5))
    sitk.WriteImage(image, str(path))


def source(folder: Path) -> Path:
    root = folder / "xVertSeg.v1" / "xVertSeg.v1"
    stored = np.clip(hounsfield() + 1000, 0, None).astype(np.uint16)
    write(root / "Data1/images/image001.mhd", stored)
    write(root / "Data1/masks/mask001.mhd", labels())
    write(root / "Data2/images/image016.mhd", stored)
    write(root / "Results2/masks/mask016.mhd", labels())
    (root / "Data1/scores").mkdir()
    (root / "Data1/scores/scores.csv").write_text("image;L1 grade;L1 case\nimage001;2;wedge\n")
    return folder


def test_labelled_scans_train_and_the_others_test(tmp_path):
    target = tmp_path / "D"
    report = convert(source(tmp_path / "s"), target, OPTIONS)
    assert (report.training, report.test) == (("xvertseg001",), ("xvertseg016",))
    case = load_dataset(target).training[0]
    assert (case.patient, case.source) == ("xvertseg001", "xvertseg")
    np.testing.assert_array_equal(read_labels(case.label).array[0], np.where(labels() > 0, labels() // 10, 0))
    assert load_dataset(target).test[0].label is None  # masks among the results are participants' own


def test_the_shift_is_found_and_undone(tmp_path):
    target = tmp_path / "D"
    report = convert(source(tmp_path / "s"), target, OPTIONS)
    image = read_image(load_dataset(target).training[0].image).array[0]
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image, np.maximum(hounsfield(), -1000))
    assert "+1000" in report.notes["xvertseg001"][0]


def test_the_shift_can_be_given(tmp_path):
    folder = source(tmp_path / "s")
    convert(folder, tmp_path / "D", ConversionOptions(workers=1, intensity_shift=0, quiet=True))
    assert read_image(tmp_path / "D/imagesTr/xvertseg001_0000.nii.gz").array.min() == 0
    convert(folder, tmp_path / "D", ConversionOptions(workers=1, intensity_shift=24, quiet=True))
    assert read_image(tmp_path / "D/imagesTr/xvertseg001_0000.nii.gz").array.min() == -24


@pytest.mark.parametrize("shift", [0, 1000, 1024])
@pytest.mark.parametrize("clip", [False, True])
def test_where_air_lies_tells_the_shift(shift, clip):
    stored = hounsfield().astype(np.int32) + shift
    assert detect_shift(np.maximum(stored, 0 if clip and shift else -9999)) == shift


def test_padding_with_zeros_is_not_taken_for_air():
    stored = hounsfield().astype(np.int32) + 1024
    stored[:, :, :2] = 0
    assert detect_shift(stored) == 1024


def test_scans_without_air_are_judged_by_their_soft_tissue():
    body = hounsfield()[:, 3:13, 3:13].astype(np.int32)
    assert detect_shift(body) == 0
    assert detect_shift(np.maximum(body, -110)) == 0
    assert detect_shift(body + 1000) == 1000


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data (AUTOSPINE_SAMPLE_DATA)")
@pytest.mark.parametrize(
    "name",
    [
        "dataset-verse19training/rawdata/*/*_ct.nii.gz",
        "totalsegmentator_example/example_ct.nii.gz",
        "tptbox_l3/*22_ct.nii.gz",
    ],
)
def test_the_shift_of_real_scans_is_found(name):
    array = read_image(next(SAMPLES.glob(name))).array.astype(np.int32)
    assert detect_shift(array) == 0
    assert detect_shift(np.maximum(array, -1000) + 1000) == 1000
    # Where air is cut off at -1024, it cannot be told whether it was 0 or 24 above that.
    assert detect_shift(np.maximum(array, -1024) + 1024) in (1000, 1024)


def test_unsigned_values_do_not_wrap_around():
    stored = np.array([[[[0, 65535]]]], np.uint16)
    np.testing.assert_array_equal(subtract(stored, 1000).ravel(), [-1000, 64535])
    assert subtract(stored // 4, 1000).dtype == np.int16
    assert subtract(stored.astype(np.float32), 1000).dtype == np.float32


def test_unknown_values_and_missing_voxels_break_the_case_only(tmp_path):
    folder = source(tmp_path / "s")
    images = folder / "xVertSeg.v1/xVertSeg.v1/Data1"
    write(images / "images/image002.mhd", hounsfield())
    write(images / "masks/mask002.mhd", np.full(SHAPE, 205, np.uint8))
    write(images / "images/image003.mhd", hounsfield())
    (images / "images/image003.raw").unlink()
    report = convert(folder, tmp_path / "D", OPTIONS)
    assert [broken.case for broken in report.broken] == ["xvertseg002", "xvertseg003"]
    assert "205" in report.broken[0].reason
    assert report.training == ("xvertseg001",)


def test_changed_voxels_beside_the_header_are_noticed(tmp_path):
    folder = source(tmp_path / "s")
    convert(folder, tmp_path / "D", OPTIONS)
    voxels = folder / "xVertSeg.v1/xVertSeg.v1/Data1/images/image001.raw"
    os.utime(voxels, ns=(1, 1))
    assert convert(folder, tmp_path / "D", OPTIONS).reused == 1


def test_the_scores_are_kept_as_they_are(tmp_path):
    convert(source(tmp_path / "s"), tmp_path / "D", OPTIONS)
    assert json.loads((tmp_path / "D" / "scores.json").read_text()) == {
        "columns": ["image", "L1 grade", "L1 case"],
        "rows": [["image001", "2", "wedge"]],
        "cases": ["xvertseg001"],
    }


@pytest.mark.parametrize(
    ("text", "columns", "first"),
    [
        ("1,0,2\n2,1,0\n", ("column 1", "column 2", "column 3"), ("1", "0", "2")),
        ("\ufeffID\tL1\n7\tnormal\n\n", ("ID", "L1"), ("7", "normal")),
        ("Name;Grade\nimage007.mhd;3\n", ("Name", "Grade"), ("image007.mhd", "3")),
    ],
)
def test_tables_with_and_without_header_are_read(tmp_path, text, columns, first):
    (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
    scores = read_scores(tmp_path / "scores.csv", "xvertseg")
    assert scores.columns == columns
    assert scores.rows[0] == first
    assert scores.cases[0] == ("xvertseg001" if first[0] == "1" else "xvertseg007")


def test_odd_tables_do_no_harm(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"")
    assert read_scores(path, "x").rows == ()
    path.write_bytes("Größe;Grad\nohne;1\n".encode("latin-1"))
    assert read_scores(path, "x").columns == ("Größe", "Grad")
    assert read_scores(path, "x").cases == ("",)


def test_a_source_without_scans_says_what_was_looked_for(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(DataError, match=r"image001\.mhd"):
        convert(tmp_path / "s", tmp_path / "D", OPTIONS)


def test_the_command_converts(tmp_path, capsys):
    assert convert_xvertseg(source(tmp_path / "s"), output=tmp_path / "D", workers=1) == 0
    assert "1 training and 1 test cases" in capsys.readouterr().out
    assert registry.find("datasets", "xvertseg") is convert
