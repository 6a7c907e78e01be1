import pytest

from autospine.core.errors import DataError
from autospine.io.scans import find_scans


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_stands_for_the_images_in_it(tmp_path):
    touch(tmp_path, "b_0000.nii.gz", "a.mha", "notes.txt", ".partial-1-c.nii.gz", "below/d.nii.gz")
    assert [scan.name for scan in find_scans([tmp_path])] == ["a", "b"]


def test_a_folder_without_images_stands_for_those_below_but_not_the_masks(tmp_path):
    touch(
        tmp_path,
        "raw/x/x_ct.nii.gz",
        "raw/y/y.nrrd",
        "derivatives/x/x_seg-vert_msk.nii.gz",
        "y_seg/y_seg.nii.gz",
    )
    assert [scan.name for scan in find_scans([tmp_path])] == ["x_ct", "y"]


def test_a_list_names_one_path_a_line(tmp_path):
    touch(tmp_path, "one.nii.gz", "more/two.nii")
    listing = tmp_path / "scans.txt"
    listing.write_text(f"{tmp_path / 'one.nii.gz'}\n\n{tmp_path / 'more'}\n")
    assert [scan.name for scan in find_scans([listing])] == ["one", "two"]


def test_nothing_to_predict_and_ambiguous_names_are_errors(tmp_path):
    with pytest.raises(DataError, match=r"no images.*\.nii\.gz"):
        find_scans([tmp_path])
    touch(tmp_path, "a.nii.gz", "a.mha")
    with pytest.raises(DataError, match="Two scans are called a"):
        find_scans([tmp_path])
