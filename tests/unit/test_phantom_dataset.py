"""Phantoms on disk: names, codings and centroid frames of the published data sets."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core import anatomy
from autospine.core.errors import UsageError
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, read_centroids
from autospine.io.images import read_grid, read_image, read_labels
from autospine.phantom import DEMO, generate, write_dataset

TINY = replace(DEMO, spacing=(5.0, 5.0), anisotropy=(1.0, 1.0), series=0.0, fractures=0.5)


def _tree(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def verse(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verse") / "phantoms"
    return folder, write_dataset(folder, "verse", 2, 1, TINY, test=1)


def test_the_subject_based_layout_has_the_official_names(verse):
    folder, _ = verse
    expected = ["phantom.json"]
    for split, subject in (("training", "verse001"), ("training", "verse002"), ("test", "verse600")):
        root, sub = f"dataset-verse19{split}", f"sub-{subject}"
        expected += [f"{root}/rawdata/{sub}/{sub}_ct.{end}" for end in ("nii.gz", "json")]
        expected += [
            f"{root}/derivatives/{sub}/{sub}_seg-vert_msk.nii.gz",
            f"{root}/derivatives/{sub}/{sub}_seg-subreg_ctd.json",
        ]
    assert _tree(folder) == sorted(expected)


def test_mask_and_scan_share_a_grid_and_the_mask_holds_verse_ids(verse):
    for case in verse[1]:
        scan, mask = read_image(case.files.image), read_labels(case.files.mask)
        assert scan.grid.same_as(mask.grid)
        values = {int(v) for v in np.unique(mask.array) if v}
        named = {
            anatomy.to_verse(anatomy.label_of(n))
            for n in json.loads(case.files.facts.read_text())["labelled"]
        }
        assert values == named
        assert all(anatomy.from_verse(v) is not None for v in values)


def test_subject_based_centroids_are_voxel_indices_along_the_files_own_axes(verse):
    for case in verse[1]:
        entries = json.loads(case.files.centroids.read_text())
        image = nibabel.load(case.files.mask)
        assert tuple(entries[0]["direction"]) == nibabel.aff2axcodes(image.affine)
        voxels = np.asanyarray(image.dataobj)
        for entry in entries[1:]:
            index = tuple(round(entry[k]) for k in "XYZ")
            assert voxels[index] == entry["label"]


@pytest.mark.parametrize(
    ("layout", "frame", "stem"),
    [
        ("verse19", VERSE19_FLAT, "verse19/training/verse001"),
        ("verse20", VERSE20_FLAT, "verse20/01_training/verse001/verse001_CT-iso"),
    ],
)
def test_flat_layouts_have_their_own_names_and_centroid_frames(tmp_path, verse, layout, frame, stem):
    (case,) = write_dataset(tmp_path, layout, 1, 1, TINY)
    assert case.files.image == tmp_path / f"{stem}.nii.gz"
    assert case.files.mask == tmp_path / f"{stem}_seg.nii.gz"
    grid = read_grid(case.files.image)
    assert "direction" not in case.files.centroids.read_text()
    flat = read_centroids(case.files.centroids, grid, frame)
    subject = verse[1][0].files
    native = read_centroids(subject.centroids, read_grid(subject.image))
    assert flat.keys() == native.keys()
    for label, position in flat.items():
        np.testing.assert_allclose(position, native[label], atol=0.4)  # both are rounded to a tenth


def test_thick_slices_are_named_after_their_direction(tmp_path):
    thick = replace(TINY, spacing=(3.0, 3.0), anisotropy=(2.0, 2.0))
    cases = write_dataset(tmp_path, "verse20", 3, 0, thick)
    for case in cases:
        codes = nibabel.aff2axcodes(nibabel.load(case.files.image).affine)
        zooms = nibabel.load(case.files.image).header.get_zooms()
        axis = codes[int(np.argmax(zooms))]
        assert case.files.image.name.endswith("_CT-sag.nii.gz" if axis in "LR" else "_CT-ax.nii.gz")


def test_patients_with_two_series_carry_verses_own_numbers(tmp_path):
    first, second = write_dataset(tmp_path, "verse", 2, 0, replace(TINY, series=1.0))
    assert first.files.image.name == "sub-verse400_split-verse090_ct.nii.gz"
    assert second.files.image.name == "sub-verse400_split-verse155_ct.nii.gz"
    centroids = [read_centroids(c.files.centroids, read_grid(c.files.image)) for c in (first, second)]
    shared = centroids[0].keys() & centroids[1].keys()
    assert shared
    for label in shared:
        np.testing.assert_allclose(centroids[0][label], centroids[1][label], atol=0.6)
    assert read_image(first.files.image).array.shape != read_image(second.files.image).array.shape


def test_xvertseg_has_its_coding_shift_and_scores(tmp_path):
    cases = write_dataset(tmp_path, "xvertseg", 2, 3, TINY, test=1)
    assert _tree(tmp_path) == [
        "phantom.json",
        "xVertSeg.v1/Data1/images/image001.mhd",
        "xVertSeg.v1/Data1/images/image001.raw",
        "xVertSeg.v1/Data1/images/image002.mhd",
        "xVertSeg.v1/Data1/images/image002.raw",
        "xVertSeg.v1/Data1/masks/mask001.mhd",
        "xVertSeg.v1/Data1/masks/mask001.raw",
        "xVertSeg.v1/Data1/masks/mask002.mhd",
        "xVertSeg.v1/Data1/masks/mask002.raw",
        "xVertSeg.v1/Data1/scores/scores.csv",
        "xVertSeg.v1/Data2/images/image003.mhd",
        "xVertSeg.v1/Data2/images/image003.raw",
    ]
    scan, mask = read_image(cases[0].files.image), read_labels(cases[0].files.mask)
    assert scan.array.min() >= 0
    assert 900 < np.median(scan.array) < 1200
    assert {210, 220, 230} <= set(np.unique(mask.array)) <= {0, 200, 210, 220, 230, 240}
    table = (tmp_path / "xVertSeg.v1/Data1/scores/scores.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    assert len(rows) == 10
    assert {row["type"] for row in rows} <= {"normal", "wedge", "biconcave", "crush"}
    assert all((row["grade"] == "0") == (row["type"] == "normal") for row in rows)


def test_scans_do_not_depend_on_how_many_there_are(tmp_path, verse):
    (alone,) = write_dataset(tmp_path, "verse", 1, 1, TINY)
    together = verse[1][0]
    np.testing.assert_array_equal(read_image(alone.files.image).array, read_image(together.files.image).array)


def test_some_masks_are_stored_as_floats_and_read_like_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("autospine.phantom.dataset._FLOAT_MASKS", 1.0)
    (case,) = write_dataset(tmp_path, "verse", 1, 1, TINY)
    assert nibabel.load(case.files.mask).get_data_dtype() == np.float64
    assert read_labels(case.files.mask).array.max() >= 20


def test_the_same_call_again_makes_only_what_is_missing(tmp_path):
    write_dataset(tmp_path, "verse19", 1, 0, TINY)
    seen = []
    written = write_dataset(tmp_path, "verse19", 2, 0, TINY, on_case=seen.append)
    assert [case.fresh for case in written] == [False, True]
    assert seen == list(written)


def test_nothing_of_the_users_is_overwritten_without_force(tmp_path):
    write_dataset(tmp_path, "verse19", 1, 0, TINY)
    with pytest.raises(UsageError, match="other settings"):
        write_dataset(tmp_path, "verse20", 1, 0, TINY)
    write_dataset(tmp_path, "verse20", 1, 0, TINY, force=True)
    assert not (tmp_path / "verse19").exists()
    other = tmp_path / "verse20" / "photos"
    (other / "mine").mkdir(parents=True)
    with pytest.raises(UsageError, match="not empty"):
        write_dataset(other, "verse", 1, 0, TINY)
    write_dataset(other, "verse", 1, 0, TINY, force=True)
    assert (other / "mine").is_dir()


def test_in_memory_and_on_disk_labels_differ_for_t13_only(tmp_path):
    recipe = replace(TINY, extra_thoracic=1.0, field_of_view="thoracolumbar", spacing=(6.0, 6.0))
    (case,) = write_dataset(tmp_path, "verse", 1, 0, recipe)
    assert 28 in np.unique(read_labels(case.files.mask).array)
    phantom = generate(recipe, 0)
    assert anatomy.T13 in np.unique(phantom.labels.array)
    assert 28 not in np.unique(phantom.labels.array)


def test_the_command_writes_phantoms_and_pictures(tmp_path, capsys):
    command = ["phantom", "-o", str(tmp_path / "p"), "-n", "1", "--preview", "--json"]
    assert run(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["made"] == 1
    assert Path(result["scans"][0]).is_file()
    assert Path(result["pictures"][0]).read_bytes().startswith(b"\x89PNG")
    assert run([*command[:-1], "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["phantom", "-o", str(tmp_path / "p"), "-n", "1", "--seed", "5"]) == 2
    assert run(["phantom", "-o", str(tmp_path / "q"), "-n", "-1"]) == 2
    assert not (tmp_path / "q").exists()
