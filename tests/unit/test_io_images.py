import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from autospine.core.errors import GeometryError, ImageError
from autospine.core.geometry import Grid, matrix_rows
from autospine.io.images import (
    SUFFIXES,
    image_stem,
    is_image,
    read_grid,
    read_image,
    read_labels,
    write_image,
)

TILTED = Rotation.from_euler("xyz", [12, -8, 20], degrees=True).as_matrix()
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GRID = Grid((4, 5, 6), (2.0, 1.0, 0.5), (10.0, -20.0, 30.0))
FLIPPED = Grid(
    (4, 5, 6),
    (0.7, 3.0, 1.1),
    (-100.5, 7.25, 300.0),
    matrix_rows(TILTED @ np.eye(3)[:, [0, 2, 1]] * [1, -1, 1]),
)


def array(grid=GRID, kind=np.int16):
    return np.arange(np.prod(grid.shape)).reshape(grid.shape).astype(kind) - 50


def nifti(path, data=None, affine=None, **codes):
    """A NIfTI file by nibabel; ``sform`` and ``qform`` give the codes, 0 leaves a transform out."""
    image = nib.Nifti1Image(array().T if data is None else data, np.eye(4) if affine is None else affine)
    image.header.set_sform(image.affine if codes.get("sform", 1) else None, codes.get("sform", 1))
    image.header.set_qform(image.affine if codes.get("qform", 1) else None, codes.get("qform", 1))
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.nii.gz", "a"),
        ("a.b.NII", "a.b"),
        ("a.mhd", "a"),
        ("a.txt", "a.txt"),
        ("a.nii.gz.nrrd", "a.nii.gz"),
    ],
)
def test_stems(tmp_path, name, stem):
    assert image_stem(tmp_path / name) == stem


def test_leftovers_are_no_images(tmp_path):
    assert is_image(tmp_path / "a.nii.gz")
    assert not is_image(tmp_path / ".partial-1-a.nii.gz")
    assert not is_image(tmp_path / "a.json")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("grid", [GRID, FLIPPED])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_what_is_written_is_read(tmp_path, suffix, grid, kind):
    path = tmp_path / f"case{suffix}"
    write_image(path, array(grid, kind), grid)
    volume = read_image(path)
    assert volume.array.dtype == kind
    np.testing.assert_array_equal(volume.array[0], array(grid, kind))
    assert volume.grid.same_as(grid, tolerance=1e-3)
    assert read_grid(path).same_as(grid, tolerance=1e-3)
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("grid", [GRID, FLIPPED])
def test_nibabel_reads_the_same_places(tmp_path, grid):
    write_image(tmp_path / "case.nii.gz", array(grid), grid)
    image = nib.load(tmp_path / "case.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, array(grid))
    ours = grid.affine[:, [2, 1, 0, 3]]  # nibabel counts x, y, z
    np.testing.assert_allclose(RAS_TO_LPS @ image.affine, ours, atol=1e-4)


@pytest.mark.parametrize(
    "codes", [{"sform": 0}, {"qform": 0}, {"sform": 1, "qform": 1}, {"sform": 2, "qform": 0}]
)
def test_either_nifti_transform_suffices(tmp_path, codes):
    affine = np.eye(4)
    affine[:3, :3] = TILTED @ np.diag([-0.5, 1.0, 2.0])
    affine[:3, 3] = [12, -34, 56]
    path = nifti(tmp_path / "scan.nii", affine=affine, **codes)
    expected = RAS_TO_LPS @ nib.load(path).affine
    np.testing.assert_allclose(read_grid(path).affine[:, [2, 1, 0, 3]], expected, atol=1e-4)


def test_scaled_intensities_are_read_in_their_unit(tmp_path):
    image = nib.Nifti1Image(array(kind=np.float32).T, np.eye(4))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(2.0, -1024.0)
    nib.save(image, tmp_path / "scan.nii")
    stored = np.asarray(nib.load(tmp_path / "scan.nii").dataobj).T
    np.testing.assert_allclose(read_image(tmp_path / "scan.nii").array[0], stored)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "a.nii.gz"),
        (b"not an image", "a.nii"),
        (b"\x1f\x8b" + bytes(50), "a.nii.gz"),
        (b"NRRD0004\n", "a.nrrd"),
    ],
)
def test_other_files_are_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.where == path
    assert caught.value.remedy


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_other_formats_are_refused_when_truncated(tmp_path, suffix):
    path = tmp_path / f"case{suffix}"
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    write_image(path, noise, Grid(noise.shape, (1.0, 1.0, 1.0)))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageError):
        read_image(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_grid(tmp_path / "nowhere.nii.gz")


@pytest.mark.parametrize(("shape", "size"), [((5, 6), "5 x 6"), ((5, 6, 7, 2), "5 x 6 x 7 x 2")])
def test_other_numbers_of_axes_are_refused(tmp_path, shape, size):
    path = nifti(tmp_path / "scan.nii.gz", np.zeros(shape, np.int16))
    with pytest.raises(ImageError, match=size):
        read_image(path)


def test_a_fourth_axis_of_one_voxel_is_dropped(tmp_path):
    path = nifti(tmp_path / "scan.nii.gz", array().T[..., None])
    np.testing.assert_array_equal(read_image(path).array[0], array())


def test_a_single_slice_is_a_scan(tmp_path):
    path = nifti(tmp_path / "scan.nii.gz", array().T[:, :, :1])
    assert read_image(path).grid.shape == (1, 5, 6)


def test_colour_images_are_refused(tmp_path):
    sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), str(tmp_path / "a.mha"))
    with pytest.raises(ImageError, match="3 values per voxel"):
        read_image(tmp_path / "a.mha")


SROW = 280  # where the header's sform begins


@pytest.mark.parametrize(
    "rows",
    [
        ((1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0)),  # two axes alike
        ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
        ((1, 0.7, 0, 0), (0, 0.7, 0, 0), (0, 0, 1, 0)),  # sheared by 45 degrees
        ((float("nan"), 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)),
    ],
)
def test_impossible_directions_are_refused(tmp_path, rows):
    path = nifti(tmp_path / "scan.nii", qform=0)
    header = bytearray(path.read_bytes())
    header[SROW : SROW + 48] = struct.pack("<12f", *(v for row in rows for v in row))
    path.write_bytes(header)
    with pytest.raises((GeometryError, ImageError)) as caught:
        read_image(path)
    assert caught.value.where == path


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_masks_become_whole_numbers(tmp_path, kind):
    labels = np.zeros((4, 5, 6), kind)
    labels[1, 2, 3] = 28
    write_image(tmp_path / "mask.nii.gz", labels, GRID)
    read = read_labels(tmp_path / "mask.nii.gz")
    assert read.array.dtype == np.int32
    np.testing.assert_array_equal(read.array[0], labels)


def test_masks_with_fractions_are_refused(tmp_path):
    write_image(tmp_path / "mask.nii.gz", np.full((4, 5, 6), 0.5), GRID)
    with pytest.raises(ImageError, match="fractions"):
        read_labels(tmp_path / "mask.nii.gz")


def test_metaimages_with_nan_are_refused(tmp_path):
    values = np.zeros((4, 5, 6), np.float32)
    values[0, 0, :2] = np.nan, np.inf
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.mha"))
    with pytest.raises(ImageError, match="2 NaN or infinite"):
        read_image(tmp_path / "a.mha")
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "b.mha", values, GRID)


def test_real_scans_agree_with_nibabel(sample_data):
    folder = sample_data / "dataset-verse19training"
    for name in (
        "rawdata/sub-verse014/sub-verse014_ct",
        "derivatives/sub-verse014/sub-verse014_seg-vert_msk",
    ):
        path = folder / f"{name}.nii.gz"
        theirs = nib.load(path)
        grid = read_grid(path)
        np.testing.assert_allclose(grid.affine[:, [2, 1, 0, 3]], RAS_TO_LPS @ theirs.affine, atol=1e-3)
        np.testing.assert_allclose(read_image(path).array[0], np.asarray(theirs.dataobj).T)
