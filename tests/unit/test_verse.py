import errno
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autospine import registry
from autospine.cli.convert_verse import convert_verse
from autospine.core.errors import DataError, StorageError, UsageError
from autospine.dataset_conversion import writing
from autospine.dataset_conversion.verse import convert, discover
from autospine.io.conversion import ConversionOptions
from autospine.io.images import read_grid, read_image, read_labels
from autospine.io.raw_dataset import load_dataset

SAMPLES = Path(os.environ.get("AUTOSPINE_SAMPLE_DATA", Path(__file__).parents[3] / "shared" / "data"))
OPTIONS = ConversionOptions(workers=1, quiet=True)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(path: Path, value: int | None = None) -> None:
    """A small scan, or with ``value`` its mask with one block of that value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(len(path.name)).integers(-1000, 1000, (8, 9, 10)).astype(np.int16)
    if value is not None:
        array = np.zeros((8, 9, 10), np.uint8)
        array[2:6, 2:6, 3:8] = value
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)


def subject(root: Path, name: str, value: int | None = 20) -> Path:
    stem = f"sub-{name}"
    patient, _, _ = name.partition("_")
    write(root / "rawdata" / f"sub-{patient}" / f"{stem}_ct.nii.gz")
    if value is not None:
        write(root / "derivatives" / f"sub-{patient}" / f"{stem}_seg-vert_msk.nii.gz", value)
        entries = [{"direction": ["R", "A", "S"]}, {"label": value, "X": 3.5, "Y": 3.5, "Z": 5}]
        centroids = root / "derivatives" / f"sub-{patient}" / f"{stem}_seg-subreg_ctd.json"
        centroids.write_text(json.dumps(entries))
    return root


def found(source: Path, **options):
    result = discover(source, source / "out", ConversionOptions(**options))
    return {scan.identifier: scan for scan in result.scans}, result


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path):
    """A source whose own name says nothing; pytest's is called after the test."""
    return tmp_path / "source"


# ---------------------------------------------------------------------------------------- discovery


def test_subject_based_files_are_paired_across_folders_and_wrappers(folder):
    root = "dataset-verse19training/dataset-verse19training"
    touch(
        folder,
        f"{root}/rawdata/sub-verse004/sub-verse004_ct.nii.gz",
        f"{root}/rawdata/sub-verse004/sub-verse004_ct.json",
        "dataset-verse19training/derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz",
        "dataset-verse19training/derivatives/sub-verse004/sub-verse004_seg-vb_ctd.json",
        "__MACOSX/dataset-verse19training/rawdata/sub-verse004/sub-verse004_ct.nii.gz",
        f"{root}/rawdata/sub-verse004/._sub-verse004_ct.nii.gz",
    )
    scans, result = found(folder)
    scan = scans["verse004"]
    assert scan.mask.name == "sub-verse004_seg-vert_msk.nii.gz"
    assert scan.centroids.name == "sub-verse004_seg-vb_ctd.json"
    assert scan.frame is None
    assert (scan.source, scan.licence, scan.test) == ("verse19", "CC-BY-SA-4.0", False)
    assert scan.notes == result.warnings == ()


def test_several_series_of_a_patient_are_several_cases_of_one_group(folder):
    touch(
        folder,
        "t/rawdata/sub-verse401/sub-verse401_split-verse201_ct.nii.gz",
        "t/rawdata/sub-verse401/sub-verse401_split-verse253_ct.nii.gz",
        "t/derivatives/sub-verse401/sub-verse401_split-verse201_seg-vert_msk.nii.gz",
        "t/derivatives/sub-verse401/sub-verse401_split-verse253_seg-vert_msk.nii.gz",
        "flat/verse202.nii.gz",
        "flat/verse202_seg.nii.gz",
        "flat/verse251.nii.gz",
    )
    scans, _ = found(folder)
    assert {name: scan.patient for name, scan in scans.items()} == {
        "verse201": "verse401",
        "verse253": "verse401",
        "verse202": "verse402",
        "verse251": "verse402",
    }
    assert "verse253" in scans["verse253"].mask.name


def test_flat_files_are_matched_by_prefix_although_misnamed(folder):
    touch(
        folder,
        "01_training/GL124/GL124_CT-ax.nii.gz",
        "01_training/GL124/GL124_CT-ax_seg.nii.gz",
        "01_training/GL124/GL124_CT_ax-iso-ctd.json",
        "01_training/GL018/GL018-GL016.nii.gz",
        "01_training/GL018/GL018-GL016_seg.nii.gz",
        "01_training/verse512/verse512_CT-iso.nii.gz",
        "01_training/verse512/verse512_CT-iso_seg.nii.gz",
        "01_training/verse512/verse512_CT-iso_iso-ctd.json",
        "01_training/verse512/verse512_CT-iso-w.png",
    )
    scans, _ = found(folder)
    assert sorted(scans) == ["gl018", "gl124", "verse512"]
    assert scans["gl124"].centroids.name == "GL124_CT_ax-iso-ctd.json"
    assert scans["gl124"].licence == "CC-BY-NC-ND"
    assert scans["verse512"].source == "verse20"
    assert all(scan.mask for scan in scans.values())


def test_gl_scans_can_be_excluded(folder):
    touch(
        folder,
        "rawdata/sub-gl003/sub-gl003_dir-ax_ct.nii.gz",
        "rawdata/sub-verse500/sub-verse500_ct.nii.gz",
    )
    scans, result = found(folder, exclude_gl=True)
    assert list(scans) == ["verse500"]
    assert result.excluded == ("gl003",)


@pytest.mark.parametrize("split", ["dataset-verse19test", "03_test", "test", "VerSe20/test_hidden"])
def test_test_splits_are_recognised_by_their_folder(folder, split):
    touch(folder / split, "verse014.nii.gz", "verse014_seg.nii.gz")
    assert found(folder)[0]["verse014"].test
    assert not found(folder, include_test=True)[0]["verse014"].test


@pytest.mark.parametrize("split", ["dataset-verse19training", "latest", "contest", "02_validation"])
def test_other_folders_are_no_test_split(folder, split):
    touch(folder / split, "verse014.nii.gz", "verse014_seg.nii.gz")
    assert not found(folder)[0]["verse014"].test


def test_folders_above_the_source_say_nothing_but_its_own_name_does(tmp_path):
    touch(tmp_path / "test" / "data", "verse014.nii.gz", "verse014_seg.nii.gz")
    assert not found(tmp_path / "test" / "data")[0]["verse014"].test
    touch(tmp_path / "dataset-verse19test", "verse014.nii.gz", "verse014_seg.nii.gz")
    assert found(tmp_path / "dataset-verse19test")[0]["verse014"].test


def test_scans_without_a_mask_become_test_cases_with_a_remark(folder):
    touch(folder, "train/verse014.nii.gz")
    scan = found(folder, include_test=True)[0]["verse014"]
    assert scan.test
    assert "No mask" in scan.notes[0]


def test_a_series_in_both_releases_is_taken_once_and_leakage_is_told(folder):
    touch(
        folder,
        "verse19/test/verse100.nii.gz",
        "verse19/test/verse100_seg.nii.gz",
        "verse20/training/rawdata/sub-verse100/sub-verse100_ct.nii.gz",
        "verse20/training/derivatives/sub-verse100/sub-verse100_seg-vert_msk.nii.gz",
    )
    scans, result = found(folder)
    assert scans["verse100"].test
    assert scans["verse100"].image.name == "sub-verse100_ct.nii.gz"
    assert scans["verse100"].mask.name == "sub-verse100_seg-vert_msk.nii.gz"
    assert "Found 2 times" in scans["verse100"].notes[0]
    assert "kept as a test case" in result.warnings[0]
    scans, result = found(folder, include_test=True)
    assert not scans["verse100"].test
    assert "do not score" in result.warnings[0]


def test_one_series_in_two_directions_is_two_cases(folder):
    touch(
        folder,
        "rawdata/sub-verse600/sub-verse600_dir-ax_ct.nii.gz",
        "rawdata/sub-verse600/sub-verse600_dir-sag_ct.nii.gz",
        "derivatives/sub-verse600/sub-verse600_dir-ax_seg-vert_msk.nii.gz",
        "derivatives/sub-verse600/sub-verse600_dir-sag_seg-vert_msk.nii.gz",
    )
    scans, _ = found(folder)
    assert sorted(scans) == ["verse600_ax", "verse600_sag"]
    assert "dir-sag" in scans["verse600_sag"].mask.name
    assert {scan.patient for scan in scans.values()} == {"verse600"}


def test_masks_without_a_scan_are_mentioned(folder):
    touch(folder, "verse014.nii.gz", "verse015_seg.nii.gz")
    assert "verse015_seg.nii.gz" in found(folder)[1].warnings[0]


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path / "real", "verse014.nii.gz", "verse014_seg.nii.gz")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "source")
    assert found(tmp_path / "source")[0]["verse014"].mask is not None


def test_a_source_without_scans_says_what_was_looked_for(tmp_path):
    touch(tmp_path / "s", "readme.txt")
    with pytest.raises(DataError, match=r"sub-\*_ct\.nii\.gz"):
        found(tmp_path / "s")
    with pytest.raises(DataError, match="no such folder"):
        found(tmp_path / "absent")
    with pytest.raises(UsageError, match="own source"):
        discover(tmp_path, tmp_path, OPTIONS)


# --------------------------------------------------------------------------------------- conversion


def mixture(tmp_path: Path) -> Path:
    source = tmp_path / "VerSe"
    subject(source / "dataset-verse20training", "verse401_split-verse201")
    subject(source / "dataset-verse20training", "verse401_split-verse253", 28)
    subject(source / "dataset-verse20test", "verse600")
    write(source / "verse19" / "verse014.nii.gz")
    write(source / "verse19" / "verse014_seg.nii.gz", 7)
    write(source / "03_test" / "GL003" / "GL003_CT-ax.nii.gz")
    return source


def test_the_result_is_a_raw_data_set(tmp_path):
    target = tmp_path / "Dataset001_Spine"
    report = convert(mixture(tmp_path), target, OPTIONS)
    assert report.training == ("verse014", "verse201", "verse253")
    assert report.test == ("gl003", "verse600")
    dataset = load_dataset(target)
    assert [case.identifier for case in dataset.training] == list(report.training)
    assert [case.label is not None for case in dataset.test] == [False, True]
    t13 = dataset.training[2]
    assert (t13.patient, t13.source) == ("verse401", "verse20")
    assert set(np.unique(read_labels(t13.label).array)) == {0, 26}
    assert list(t13.centroids) == [26]
    document = json.loads((target / "dataset.json").read_text())
    assert document["channel_names"] == {"0": "CT"}
    assert document["labels"]["background"] == 0
    assert list(document["labels"].values()) == list(range(27))
    assert document["labels"]["T13"] == 26
    assert document["autospine"]["cases"]["verse014"]["orientation"] == "RAS"


def test_scan_and_mask_have_the_same_geometry_bit_by_bit(tmp_path):
    target = tmp_path / "D"
    convert(subject(tmp_path / "s", "verse004"), target, OPTIONS)
    headers = [
        nib.load(target / name).header
        for name in ("imagesTr/verse004_0000.nii.gz", "labelsTr/verse004.nii.gz")
    ]
    differing = [key for key in headers[0] if headers[0][key].tobytes() != headers[1][key].tobytes()]
    assert set(differing) <= {"datatype", "bitpix"}


def test_converting_twice_changes_nothing_and_reads_nothing_again(tmp_path, monkeypatch):
    source, target = mixture(tmp_path), tmp_path / "D"
    convert(source, target, OPTIONS)
    before = content(target)
    monkeypatch.setattr(writing, "read_scan", None)  # would fail if called
    assert convert(source, target, OPTIONS).reused == 5
    assert content(target) == before


def test_a_fresh_conversion_gives_the_same_bytes(tmp_path):
    source = mixture(tmp_path)
    for name in ("one/D", "two/D"):
        convert(source, tmp_path / name, OPTIONS)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_worker_processes_give_the_same_bytes(tmp_path):
    source = mixture(tmp_path)
    convert(source, tmp_path / "one/D", OPTIONS)
    convert(source, tmp_path / "two/D", ConversionOptions(workers=2, quiet=True))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_damaged_and_outdated_results_are_made_anew(tmp_path):
    source, target = subject(subject(tmp_path / "s", "verse004"), "verse005"), tmp_path / "D"
    convert(source, target, OPTIONS)
    before = content(target)
    (target / "imagesTr" / "verse004_0000.nii.gz").write_bytes(b"damaged")
    (target / "conversion" / "verse005.json").write_text("{")
    (target / "labelsTr" / ".partial-99999999-verse005.nii.gz").write_bytes(b"left by a killed process")
    assert convert(source, target, OPTIONS).reused == 0
    assert content(target) == before
    write(source / "derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz", 21)
    report = convert(source, target, OPTIONS)
    assert report.reused == 1
    assert 21 in read_labels(target / "labelsTr" / "verse004.nii.gz").array


def test_moving_test_cases_into_training_leaves_nothing_behind(tmp_path):
    source, target = subject(tmp_path / "s" / "test", "verse004").parent, tmp_path / "D"
    convert(source, target, OPTIONS)
    assert load_dataset(target).test[0].identifier == "verse004"
    convert(source, target, ConversionOptions(workers=1, include_test=True, quiet=True))
    dataset = load_dataset(target)
    assert (len(dataset.training), len(dataset.test)) == (1, 0)
    assert not list((target / "labelsTs").iterdir())


def test_excluding_gl_scans_removes_converted_ones(tmp_path):
    source, target = subject(subject(tmp_path / "s", "gl003_dir-ax"), "verse005"), tmp_path / "D"
    assert convert(source, target, OPTIONS).training == ("gl003", "verse005")
    report = convert(source, target, ConversionOptions(workers=1, exclude_gl=True, quiet=True))
    assert report.training == ("verse005",)
    assert [path.name for path in (target / "imagesTr").iterdir()] == ["verse005_0000.nii.gz"]


def test_several_sources_can_be_brought_together(tmp_path):
    target = tmp_path / "D"
    convert(subject(tmp_path / "one", "verse401_split-verse201"), target, OPTIONS)
    subject(tmp_path / "two" / "test", "verse401_split-verse253")
    report = convert(tmp_path / "two", target, OPTIONS)
    assert (report.training, report.test) == (("verse201",), ("verse253",))
    assert "same patient, verse401" in report.warnings[0]


def test_broken_cases_are_named_and_the_others_converted(tmp_path):
    source, target = subject(subject(tmp_path / "s", "verse004"), "verse005"), tmp_path / "D"
    convert(source, target, OPTIONS)
    mask = source / "derivatives/sub-verse004/sub-verse004_seg-vert_msk.nii.gz"
    write(mask, 99)
    report = convert(source, target, OPTIONS)
    assert report.training == ("verse005",)
    (broken,) = report.broken
    assert (broken.case, broken.file) == ("verse004", str(mask))
    assert "99" in broken.reason
    assert json.loads((target / "conversion_report.json").read_text())["broken"][0]["case"] == "verse004"
    assert len(load_dataset(target).training) == 1


def test_foreign_folders_are_not_touched(tmp_path):
    source, target = subject(tmp_path / "s", "verse004"), tmp_path / "D"
    write(target / "imagesTr" / "mine_0000.nii.gz")
    with pytest.raises(UsageError, match="another data set"):
        convert(source, target, OPTIONS)
    (target / "imagesTr" / "mine_0000.nii.gz").unlink()
    (target / "dataset.json").write_text("{}")
    with pytest.raises(UsageError) as caught:
        convert(source, target, OPTIONS)
    assert caught.value.where == target / "dataset.json"
    assert (target / "dataset.json").read_text() == "{}"


def test_a_target_inside_the_source_is_not_taken_for_a_source(tmp_path):
    source = subject(tmp_path / "s", "verse004")
    convert(source, source / "converted", OPTIONS)
    before = content(source)
    assert convert(source, source / "converted", OPTIONS).training == ("verse004",)
    assert content(source) == before


def test_a_target_that_cannot_be_written_stops_everything(tmp_path, monkeypatch):
    source = subject(tmp_path / "s", "verse004")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        convert(source, tmp_path / "file" / "D", OPTIONS)

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("autospine.io.images.sitk.WriteImage", full)
    with pytest.raises(StorageError, match="space"):
        convert(source, tmp_path / "D", OPTIONS)
    assert not list((tmp_path / "D").rglob("*.nii.gz"))


# ------------------------------------------------------------------------------------------ command


def test_the_command_sums_up_and_tells_broken_cases_by_its_exit_code(tmp_path, capsys):
    source = subject(subject(tmp_path / "s", "verse004", 99), "verse005")
    assert convert_verse(source, output=tmp_path / "D", workers=1) == 3
    printed = capsys.readouterr().out
    assert "1 training and 0 test cases" in printed
    assert "verse004" in printed
    assert convert_verse(source, output=tmp_path / "D", workers=1, skip_broken=True, json=True) == 0
    assert json.loads(capsys.readouterr().out)["training"] == ["verse005"]
    (source / "rawdata/sub-verse005/sub-verse005_ct.nii.gz").write_bytes(b"")
    assert convert_verse(source, output=tmp_path / "D", workers=1, skip_broken=True, quiet=True) == 3
    assert capsys.readouterr().out == ""


def test_the_converter_is_a_plug_in():
    assert registry.find("datasets", "verse") is convert


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data (AUTOSPINE_SAMPLE_DATA)")
def test_the_real_scan_keeps_its_place_in_the_world(tmp_path):
    report = convert(SAMPLES / "dataset-verse19training", tmp_path / "D", OPTIONS)
    assert report.training == ("verse014",)
    assert not report.notes
    case = load_dataset(tmp_path / "D").training[0]
    original = nib.load(next(SAMPLES.glob("dataset-verse19training/rawdata/*/*_ct.nii.gz")))
    nearest = nib.as_closest_canonical(
        original
    )  # right, anterior, superior; ours is left, posterior, superior
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = np.array(nearest.shape[:2]) - 1
    for path in (case.image, case.label):
        np.testing.assert_allclose(nib.load(path).affine, nearest.affine @ flip, atol=1e-4)
    values = np.asarray(nearest.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(read_image(case.image).array[0], values)
    mask = read_labels(case.label)
    assert sorted(case.centroids) == [20, 21, 22, 23, 24]
    for label, position in case.centroids.items():
        index = tuple(np.rint(read_grid(case.image).to_index(position)).astype(int))
        assert mask.array[(0, *index)] == label
