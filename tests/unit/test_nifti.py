import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autospine.core.errors import ImageError
from autospine.io.images import read_image

RANDOM = np.random.default_rng(0)


def save(path: Path, array: np.ndarray, endianness: str = "<") -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4), nib.Nifti1Header(endianness=endianness)), path)
    return path


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_sound_files_are_read(tmp_path, name, endianness):
    array = RANDOM.normal(size=(5, 6, 7)).astype(endianness + "f4")
    read = read_image(save(tmp_path / name, array, endianness)).array
    np.testing.assert_array_equal(read[0].T, array)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("keep", [0.4, 0.9])
def test_truncated_files_are_refused(tmp_path, name, keep):
    path = save(tmp_path / name, RANDOM.integers(-1000, 1000, (20, 20, 20)).astype(np.int16))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def test_damage_in_the_middle_of_a_compressed_file_is_refused(tmp_path):
    path = save(tmp_path / "scan.nii.gz", RANDOM.integers(-1000, 1000, (20, 20, 20)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8"])
def test_values_that_are_not_finite_are_refused(tmp_path, bad, kind):
    array = np.zeros((5, 6, 7), kind)
    array[1, 2, 3] = bad
    with pytest.raises(ImageError, match="1 NaN or infinite"):
        read_image(save(tmp_path / "scan.nii.gz", array, kind[0]))


def test_an_uncompressed_file_with_the_wrong_ending_is_read(tmp_path):
    packed = save(tmp_path / "scan.nii.gz", np.ones((5, 6, 7), np.int16))
    packed.write_bytes(gzip.decompress(packed.read_bytes()))
    assert read_image(packed).array.all()
