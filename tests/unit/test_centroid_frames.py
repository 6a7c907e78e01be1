import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from autospine.core.errors import DocumentError
from autospine.core.geometry import Grid
from autospine.io.centroids import (
    VERSE19_FLAT,
    VERSE20_FLAT,
    CentroidFrame,
    axis_codes,
    read_centroids,
)
from autospine.io.images import read_grid, read_labels

SAMPLES = Path(os.environ.get("AUTOSPINE_SAMPLE_DATA", Path(__file__).parents[3] / "shared" / "data"))

#: Canonical: z superior, y posterior, x left; 10 x 20 x 30 voxels of 3 x 2 x 1 mm.
GRID = Grid((10, 20, 30), (3.0, 2.0, 1.0), (100.0, 200.0, 300.0))


def test_each_flat_frame_counts_from_its_own_corner():
    world = [100.0 + 4, 200.0 + 6, 300.0 + 9]  # 4 mm from the right, 6 from anterior, 9 from inferior
    assert VERSE19_FLAT.from_world(GRID, world) == pytest.approx([27 - 9, 6, 4])
    assert VERSE20_FLAT.from_world(GRID, world) == pytest.approx([6, 27 - 9, 29 - 4])


def test_subject_based_positions_count_voxels_along_the_named_axes():
    frame = CentroidFrame(("P", "I", "R"))
    assert frame.to_world(GRID, [3, 6, 25]) == pytest.approx([104.0, 206.0, 309.0])


def test_positions_do_not_depend_on_how_the_file_stores_its_axes():
    stored_pir = Grid(
        (30, 10, 20),  # array axes: left to right, superior to inferior, anterior to posterior
        (1.0, 3.0, 2.0),
        (129.0, 200.0, 327.0),
        ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
    )
    assert axis_codes(stored_pir) == ("P", "I", "R")
    for frame in (VERSE19_FLAT, VERSE20_FLAT, CentroidFrame(("L", "A", "S"))):
        assert frame.to_world(stored_pir, [1, 2, 3]) == pytest.approx(frame.to_world(GRID, [1, 2, 3]))


def test_axis_codes_are_those_of_nibabel(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.diag([2.0, 1.0, 3.0, 1.0]))
    for codes in ("RAS", "PIR", "ASL", "LPS", "SRA"):
        target = nib.orientations.axcodes2ornt(codes)
        moved = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))
        nib.save(moved, tmp_path / "image.nii.gz")
        assert "".join(axis_codes(read_grid(tmp_path / "image.nii.gz"))) == codes


@pytest.mark.parametrize("codes", [("P", "A", "R"), ("P", "I", "X"), ("P", "P", "R")])
def test_codes_that_name_no_three_axes_are_refused(codes):
    with pytest.raises(DocumentError, match="three axes"):
        CentroidFrame(codes)


def write(path: Path, entries: object) -> Path:
    path.write_text(json.dumps(entries))
    return path


def test_reading_skips_nan_and_what_is_no_vertebra(tmp_path):
    path = write(
        tmp_path / "ctd.json",
        [
            {"direction": ["L", "P", "S"]},
            {"label": 28, "X": 1, "Y": 2, "Z": 3},
            {"label": 20, "X": float("nan"), "Y": 2, "Z": 3},
            {"label": 21, "X": None, "Y": 2, "Z": 3},
            {"label": 26, "X": 1, "Y": 2, "Z": 3},
            {"label": "8", "X": "4", "Y": 2, "Z": 3},
        ],
    )
    assert read_centroids(path, GRID) == {8: (104.0, 204.0, 309.0), 26: (101.0, 204.0, 309.0)}


def test_a_direction_entry_overrules_the_axes_of_a_flat_frame_but_not_its_unit(tmp_path):
    path = write(
        tmp_path / "ctd.json", [{"direction": ["L", "P", "S"]}, {"label": 1, "X": 1, "Y": 2, "Z": 3}]
    )
    assert read_centroids(path, GRID, VERSE19_FLAT) == {1: (101.0, 202.0, 303.0)}


@pytest.mark.parametrize(
    "entries",
    [
        [{"label": 1, "X": 1, "Y": 2, "Z": 3}],  # no direction, and no frame is given
        [{"direction": ["L", "P"]}],
        [{"direction": ["L", "P", "P"]}],
        [{"direction": ["L", "P", "S"]}, {"label": 1, "X": 1, "Y": 2}],
        [{"direction": ["L", "P", "S"]}, {"label": "one", "X": 1, "Y": 2, "Z": 3}],
        {"direction": ["L", "P", "S"]},
        ["L", "P", "S"],
    ],
)
def test_unusable_files_are_named(tmp_path, entries):
    path = write(tmp_path / "ctd.json", entries)
    with pytest.raises(DocumentError) as caught:
        read_centroids(path, GRID)
    assert caught.value.where == path


def test_truncated_files_are_named(tmp_path):
    path = tmp_path / "ctd.json"
    path.write_text('[{"direction": ["P", ')
    with pytest.raises(DocumentError, match="centroid file"):
        read_centroids(path, GRID)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data (AUTOSPINE_SAMPLE_DATA)")
def test_real_centroids_fall_inside_their_own_labels():
    folder = SAMPLES / "dataset-verse19training"
    image = next(folder.glob("rawdata/*/*_ct.nii.gz"))
    mask = read_labels(next(folder.glob("derivatives/*/*_msk.nii.gz")))
    grid = read_grid(image)
    centroids = read_centroids(next(folder.glob("derivatives/*/*_ctd.json")), grid)
    assert sorted(centroids) == [20, 21, 22, 23, 24]
    for label, position in centroids.items():
        assert mask.array[(0, *np.rint(mask.grid.to_index(position)).astype(int))] == label
