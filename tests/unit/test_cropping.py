from dataclasses import replace

import numpy as np
import pytest

from autospine.core.geometry import Box, Orientation
from autospine.cropping import body_box, bone_box, nonzero_box
from autospine.io.images import read_image, read_labels
from autospine.phantom import DEFAULT, generate

SPACING = (4.0, 2.0, 2.0)
BODY = Box((0, 30, 25), (20, 90, 105))


@pytest.fixture
def scan():
    """A trunk in air on a thin table, with noise, from border to border along z."""
    rng = np.random.default_rng(0)
    scan = np.full((20, 120, 130), -1000.0)
    y, x = np.mgrid[:120, :130]
    scan[:, ((y - 59.5) / 30) ** 2 + ((x - 64.5) / 40) ** 2 < 1] = 40
    scan[:, ((y - 55) / 10) ** 2 + ((x - 50) / 10) ** 2 < 1] = -850  # a lung
    scan[:, 94:97, 5:125] = 100  # the table
    return (scan + rng.normal(0, 20, scan.shape)).astype(np.int16)


def assert_finds_the_body(box, margin=8):
    """Nothing of the trunk is lost, and no more than about a coarse voxel beyond the margin is kept."""
    for axis in (1, 2):
        assert BODY.start[axis] - margin <= box.start[axis] <= BODY.start[axis]
        assert BODY.stop[axis] <= box.stop[axis] <= BODY.stop[axis] + margin
    assert (box.start[0], box.stop[0]) == (0, 20)


def test_table_and_air_are_cut_off(scan):
    assert_finds_the_body(body_box(scan, SPACING))


@pytest.mark.parametrize("shift", [-24, 1000, 1024])
def test_a_constant_added_to_the_hounsfield_units_does_not_matter(scan, shift):
    assert_finds_the_body(body_box(scan + shift, SPACING))


def test_air_clipped_to_zero(scan):
    assert_finds_the_body(body_box(np.maximum(scan + 1000, 0).astype(np.uint16), SPACING))


@pytest.mark.parametrize("fill", [0, -2048, -3024])
@pytest.mark.parametrize("shift", [0, 1024])
def test_padded_corners_are_not_body(scan, fill, shift):
    padded = scan + shift
    y, x = np.mgrid[:120, :130]
    padded[:, (y - 60) ** 2 + (x - 65) ** 2 > 63**2] = fill
    assert_finds_the_body(body_box(padded, SPACING))


@pytest.mark.parametrize("scan", [np.full((5, 6, 7), 40), np.full((5, 6, 7), -1000), np.zeros((5, 6, 7))])
def test_a_scan_without_contrast_is_kept_whole(scan):
    assert body_box(scan, SPACING) == Box.whole((5, 6, 7))


def test_a_scan_inside_the_body_is_kept_whole():
    rng = np.random.default_rng(0)
    scan = rng.normal(40, 60, (30, 40, 40))
    scan[10:20, 10:30, 10:30] = rng.normal(400, 150, (10, 20, 20))
    assert body_box(scan, (1.0, 1.0, 1.0)) == Box.whole(scan.shape)


def test_a_single_slice(scan):
    box = body_box(scan[:1], SPACING)
    assert box.start[1:] > (10, 10)
    assert box.shape[0] == 1


def test_the_non_zero_region():
    array = np.zeros((5, 6, 7))
    assert nonzero_box(array) == Box.whole(array.shape)
    array[1, 2, 3] = -5
    array[3, 2, 3] = 1
    assert nonzero_box(array) == Box((1, 2, 3), (4, 3, 4))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (
            "dataset-verse19training/rawdata/sub-verse014/sub-verse014_ct.nii.gz",
            "dataset-verse19training/derivatives/sub-verse014/sub-verse014_seg-vert_msk.nii.gz",
        ),
        ("totalsegmentator_example/example_ct.nii.gz", "totalsegmentator_example/totalseg.nii.gz"),
        ("tptbox_l3/sub-ct_label-22_ct.nii.gz", "tptbox_l3/sub-ct_seg-vert_label-22_msk.nii.gz"),
    ],
)
def test_real_scans_lose_no_vertebra(sample_data, image, mask):
    scan = read_image(sample_data / image)
    orientation = Orientation.to_canonical(scan.grid)
    canonical = scan.reoriented(orientation)
    labels = orientation.apply(read_labels(sample_data / mask).array[0])
    for find in (body_box, bone_box):
        for shift in (0, 1024):
            box = find(canonical.array[0] + shift, canonical.grid.spacing)
            assert labels[box.slices].astype(bool).sum() == labels.astype(bool).sum()


@pytest.fixture
def bony_scan(scan):
    """The trunk with a column of bone in it, and a loose piece of metal far away."""
    scan[2:18, 60:70, 60:72] = 400
    scan[10, 40, 30] = 2000
    return scan


@pytest.mark.parametrize("shift", [0, -24, 1024])
def test_the_box_around_bone_holds_the_column_and_no_more_than_its_margin(bony_scan, shift):
    box = bone_box(bony_scan + shift, SPACING)
    assert (box.start[0], box.stop[0]) == (0, 20)
    for axis, start, stop in ((1, 60, 70), (2, 60, 72)):
        assert start - 14 <= box.start[axis] <= start - 10
        assert stop + 10 <= box.stop[axis] <= stop + 14


def test_without_bone_the_whole_array_is_kept(scan):
    flat = np.minimum(scan, 40)
    flat[flat > -200] = 40
    assert bone_box(flat, SPACING) == Box.whole(scan.shape)
    assert bone_box(np.full((4, 4, 4), -2000.0), SPACING) == Box.whole((4, 4, 4))


def test_noise_does_not_pass_for_bone(bony_scan):
    noisy = np.repeat(np.repeat(bony_scan, 2, axis=1), 2, axis=2).astype(np.float64)
    noisy += np.random.default_rng(1).normal(0, 80, noisy.shape)
    quiet, box = bone_box(bony_scan, SPACING), bone_box(noisy, (4.0, 1.0, 1.0))
    for axis in (1, 2):
        assert abs(box.start[axis] - 2 * quiet.start[axis]) <= 8
        assert abs(box.stop[axis] - 2 * quiet.stop[axis]) <= 8


def test_a_column_in_two_parts_is_kept(scan):
    scan[2:7, 60:70, 60:72] = 400
    scan[13:20, 60:70, 60:72] = 400
    assert bone_box(scan, SPACING).shape[0] == 20


def test_bone_is_found_where_there_is_no_air():
    rng = np.random.default_rng(0)
    inside = rng.normal(40, 20, (30, 60, 60))
    inside[:, :10] = rng.normal(-100, 20, (30, 10, 60))
    inside[:, 25:50, 5:40] = rng.normal(350, 150, (30, 25, 35))
    box = bone_box(inside, (2.0, 2.0, 2.0))
    assert (box.start[0], box.stop[0]) == (0, 30)
    assert 10 <= box.start[1] <= 15
    assert box.start[2] == 0
    assert 50 <= box.stop[2] <= 54


@pytest.mark.parametrize("view", ["cervical", "thoracic", "lumbar", "full"])
@pytest.mark.parametrize("seed", range(3))
def test_the_box_around_bone_loses_no_vertebra_of_a_phantom(view, seed):
    phantom = generate(replace(DEFAULT, field_of_view=view, max_voxels=400_000), seed)
    labels, spacing = phantom.labels.array[0] > 0, phantom.image.grid.spacing
    for shift in (0, 1024):
        box = bone_box(phantom.image.array[0] + shift, spacing)
        assert labels[box.slices].sum() == labels.sum() > 0
