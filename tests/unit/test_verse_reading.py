"""Every trap of the source data that a single scan can hold."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from autospine.core.errors import DataError, DocumentError, GeometryError, ImageError, LabelError
from autospine.core.geometry import Orientation
from autospine.dataset_conversion.reading import read_scan
from autospine.dataset_conversion.scans import SourceScan
from autospine.dataset_conversion.verse import CODING
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT

SHAPE = (16, 20, 30)  # x, y, z of the canonical (nibabel RAS) array
SPACING = (1.5, 1.0, 2.0)
OBLIQUE = np.deg2rad(8)


def affine() -> np.ndarray:
    turn = np.array(
        [[1, 0, 0], [0, np.cos(OBLIQUE), -np.sin(OBLIQUE)], [0, np.sin(OBLIQUE), np.cos(OBLIQUE)]]
    )
    result = np.eye(4)
    result[:3, :3] = turn * SPACING
    result[:3, 3] = (-20.0, 31.0, 7.0)
    return result


def scan_array() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


def mask_array(labels=(20, 21, 22)) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for i, label in enumerate(labels):
        mask[4:11, 5:12, 20 - 8 * i : 26 - 8 * i] = label
    return mask


def centres() -> dict[int, np.ndarray]:
    """World LPS positions of the blocks' centres."""
    index = {20 + i: (7.0, 8.0, 22.5 - 8 * i, 1.0) for i in range(3)}
    return {label: (affine() @ i)[:3] * (-1, -1, 1) for label, i in index.items()}


def save(path: Path, array: np.ndarray, codes: str = "RAS", form: str = "both") -> Path:
    image = nib.Nifti1Image(array, affine())
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 2)
    if form == "q":
        image.set_sform(None, 0)
    if form == "s":
        image.set_qform(None, 0)
    nib.save(image, path)
    return path


def source(folder: Path, **changes) -> SourceScan:
    image = save(folder / "scan.nii.gz", scan_array())
    return replace(
        SourceScan("scan", image, CODING, mask=save(folder / "mask.nii.gz", mask_array())), **changes
    )


def canonical(array: np.ndarray) -> np.ndarray:
    """A nibabel RAS array as ours: z superior, y posterior, x left."""
    return array[::-1, ::-1].transpose(2, 1, 0)


@pytest.mark.parametrize("codes", ["RAS", "PIR", "LPS", "ASL"])
@pytest.mark.parametrize("mask_codes", ["RAS", "PIR", "IPL"])
def test_scan_and_mask_become_canonical_whatever_their_orientations(tmp_path, codes, mask_codes):
    image = save(tmp_path / "scan.nii.gz", scan_array(), codes, form="q")
    mask = save(tmp_path / "mask.nii.gz", mask_array().astype(np.float64), mask_codes, form="s")
    content = read_scan(SourceScan("scan", image, CODING, mask=mask))
    np.testing.assert_array_equal(content.image.array[0], canonical(scan_array()))
    np.testing.assert_array_equal(content.mask, canonical(mask_array()))
    assert content.image.array.dtype == np.int16
    assert content.mask.dtype == np.uint8
    assert content.orientation == codes
    assert Orientation.to_canonical(content.image.grid) == Orientation((0, 1, 2), (False,) * 3)
    corner = (affine() @ (15.0, 19.0, 0.0, 1.0))[:3] * (-1, -1, 1)
    np.testing.assert_allclose(content.image.grid.origin, corner, atol=1e-4)


def test_oblique_halfway_pairs_are_aligned_to_each_other(tmp_path):
    turn = np.deg2rad(45)
    for name, tilt, array in (("scan", turn - 1e-6, scan_array()), ("mask", turn + 1e-6, mask_array())):
        matrix = np.eye(4)
        matrix[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
        nib.save(nib.Nifti1Image(array, matrix), tmp_path / f"{name}.nii.gz")
    content = read_scan(SourceScan("scan", tmp_path / "scan.nii.gz", CODING, mask=tmp_path / "mask.nii.gz"))
    values = content.image.array[0][content.mask == 20]
    np.testing.assert_array_equal(np.sort(values), np.sort(scan_array()[mask_array() == 20]))


def centroid_file(folder: Path, frame: str, scan: SourceScan) -> SourceScan:
    """The centres in one of the three published frames, worked out by hand from the RAS array."""
    entries = []
    n, s = SHAPE, SPACING
    for i, label in enumerate((20, 21, 22)):
        x, y, z = 7.0, 8.0, 22.5 - 8 * i  # towards right, anterior, superior
        right, posterior, inferior = x, n[1] - 1 - y, n[2] - 1 - z
        if frame == "subject":
            values = (posterior, inferior, right)
        elif frame == "verse19":
            values = (inferior * s[2], posterior * s[1], (n[0] - 1 - right) * s[0])
        else:
            values = (posterior * s[1], inferior * s[2], right * s[0])
        entries.append({"label": label, **dict(zip("XYZ", values, strict=True))})
    if frame == "subject":
        entries.insert(0, {"direction": ["P", "I", "R"]})
    path = folder / "centroids.json"
    path.write_text(json.dumps(entries))
    frames = {"subject": None, "verse19": VERSE19_FLAT, "verse20": VERSE20_FLAT}
    return replace(scan, centroids=path, frame=frames[frame])


@pytest.mark.parametrize("frame", ["subject", "verse19", "verse20"])
def test_centroids_of_all_frames_come_out_in_world_mm(tmp_path, frame):
    content = read_scan(centroid_file(tmp_path, frame, source(tmp_path)))
    assert not content.notes
    assert sorted(content.centroids) == [20, 21, 22]
    for label, expected in centres().items():
        np.testing.assert_allclose(content.centroids[label], expected, atol=1e-4)
        index = np.rint(content.image.grid.to_index(expected)).astype(int)
        assert content.mask[tuple(index)] == label


def test_centroids_in_the_wrong_frame_are_dropped_with_a_remark(tmp_path):
    scan = replace(centroid_file(tmp_path, "verse19", source(tmp_path)), frame=VERSE20_FLAT)
    content = read_scan(scan)
    assert content.centroids == {}
    assert content.notes == ("All body centres were left out: L2, L3 miss their own label.",)


def test_single_centroids_astray_are_kept_inside_the_scan_only(tmp_path):
    scan = centroid_file(tmp_path, "subject", source(tmp_path))
    entries = json.loads(scan.centroids.read_text())
    entries[1]["X"] = 2
    entries += [{"label": 19, "X": 500, "Y": 1, "Z": 1}]
    scan.centroids.write_text(json.dumps(entries))
    content = read_scan(scan)
    assert sorted(content.centroids) == [20, 21, 22]
    assert content.notes == (
        "Body centres outside the scan were left out: T12.",
        "Body centres outside their own label: L1.",
    )


def test_t13_becomes_26_and_sacrum_and_coccyx_become_background(tmp_path):
    content = read_scan(source(tmp_path, mask=save(tmp_path / "m.nii.gz", mask_array((28, 26, 27)))))
    assert set(np.unique(content.mask)) == {0, 26}
    np.testing.assert_array_equal(content.mask == 26, canonical(mask_array((1, 0, 0))) == 1)
    assert content.notes == ("The values 26, 27, no vertebrae, became background.",)


def test_a_mask_without_vertebrae_is_remarked_upon(tmp_path):
    content = read_scan(source(tmp_path, mask=save(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8))))
    assert content.notes == ("No vertebra is labelled.",)


def test_floating_point_scans_become_single_precision(tmp_path):
    image = save(tmp_path / "s.nii.gz", scan_array().astype(np.float64) + 0.25)
    content = read_scan(source(tmp_path, image=image))
    assert content.image.array.dtype == np.float32


@pytest.mark.parametrize("values", [(20, 21, 29), (20, 21, 255)])
def test_unknown_labels_break_the_case(tmp_path, values):
    with pytest.raises(LabelError, match=str(values[-1])) as caught:
        read_scan(source(tmp_path, mask=save(tmp_path / "m.nii.gz", mask_array(values))))
    assert "1..28" in caught.value.remedy


def test_negative_and_fractional_labels_break_the_case(tmp_path):
    negative = mask_array().astype(np.int16) - 1
    with pytest.raises(LabelError, match="-1"):
        read_scan(source(tmp_path, mask=save(tmp_path / "m.nii.gz", negative)))
    with pytest.raises(ImageError, match="fractions"):
        read_scan(source(tmp_path, mask=save(tmp_path / "m.nii.gz", mask_array() + np.float32(0.5))))


def shifted(folder: Path, millimetres: float) -> Path:
    moved = affine()
    moved[2, 3] += millimetres
    nib.save(nib.Nifti1Image(mask_array(), moved), folder / "m.nii.gz")
    return folder / "m.nii.gz"


def test_a_header_a_little_off_is_tolerated_and_one_far_off_refused(tmp_path):
    assert read_scan(source(tmp_path, mask=shifted(tmp_path, 0.2))).mask.any()
    with pytest.raises(GeometryError, match="another lattice"):
        read_scan(source(tmp_path, mask=shifted(tmp_path, 0.5)))
    with pytest.raises(GeometryError, match="another lattice"):
        read_scan(source(tmp_path, mask=save(tmp_path / "m.nii.gz", mask_array()[:, :, 1:])))


def broken_images(folder: Path):
    constant = save(folder / "constant.nii.gz", np.full(SHAPE, 3, np.int16))
    nan = save(folder / "nan.nii.gz", np.where(scan_array() == scan_array()[0, 0, 0], np.nan, scan_array()))
    flat = folder / "flat.nii.gz"
    nib.save(nib.Nifti1Image(scan_array()[:, :, 0], affine()), flat)
    series = folder / "series.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([scan_array()] * 2, axis=-1), affine()), series)
    singular = folder / "singular.nii.gz"
    image = nib.Nifti1Image(scan_array(), None)
    image.set_sform(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), 1)
    nib.save(image, singular)
    truncated = folder / "truncated.nii.gz"
    whole = save(folder / "whole.nii.gz", scan_array()).read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    empty = folder / "empty.nii.gz"
    empty.write_bytes(b"")
    return [constant, nan, flat, series, singular, truncated, empty]


def test_unusable_scans_are_refused_by_name(tmp_path):
    for image in broken_images(tmp_path):
        with pytest.raises((ImageError, GeometryError)) as caught:
            read_scan(source(tmp_path, image=image))
        assert caught.value.where == image


def test_a_damaged_centroid_file_breaks_the_case(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('[{"direction": ["P", "I"')
    with pytest.raises(DocumentError) as caught:
        read_scan(source(tmp_path, centroids=path))
    assert "delete it" in caught.value.remedy


def test_a_vanished_file_is_named(tmp_path):
    scan = source(tmp_path)
    scan.mask.unlink()
    with pytest.raises(DataError) as caught:
        scan.fingerprint()
    assert caught.value.where == scan.mask
