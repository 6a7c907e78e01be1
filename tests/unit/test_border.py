"""Voxels at the border that may belong to vertebrae nobody labelled."""

from dataclasses import replace

import numpy as np
import pytest

from autospine.core.geometry import Grid, Orientation
from autospine.core.volume import Volume
from autospine.io.centroids import read_centroids
from autospine.io.images import read_image, read_labels
from autospine.phantom import DEFAULT, generate
from autospine.phantom.canvas import Bone, Canvas
from autospine.phantom.vertebra import solids
from autospine.rendering import overlay_png
from autospine.vertebrae.border import unlabelled_neighbours

GRID = Grid((100, 60, 60), (2.0, 2.0, 2.0), origin=(-40.0, -30.0, 500.0))


def _column(*labels, tilt=0):
    """Blocks of 40 x 40 x 24 mm in the middle of a scan, from the top downwards; centres by label."""
    array = np.zeros(GRID.shape, np.uint8)
    centres = {}
    for step, label in enumerate(labels):
        z, y = 60 - 16 * step, 20 + tilt * step
        array[z - 6 : z + 6, y : y + 20, 20:40] = label
        centres[label] = tuple(GRID.to_world((z - 0.5, y + 9.5, 29.5)))
    return array, centres


def test_the_column_goes_on_to_both_ends_of_the_scan():
    labels, centres = _column(18, 19)
    ignored = unlabelled_neighbours(labels, GRID, centres)
    assert ignored[66:, 15:45, 15:45].sum() > 0.95 * ignored[66:, 15:45, 15:45].size
    assert ignored[:38, 15:45, 15:45].sum() > 0.95 * ignored[:38, 15:45, 15:45].size
    assert not ignored[:, :, :14].any()
    assert not ignored[:, 46:].any()
    assert not ignored[labels > 0].any()
    assert not ignored[48:55].any()


@pytest.mark.parametrize(
    ("column", "above", "below"),
    [
        ((1, 2), False, True),
        ((1,), False, True),
        ((2, 3), True, True),
        ((23, 24), True, False),
        ((24,), True, False),
        ((24, 25), True, False),
        ((22, 23), True, True),
        ((19, 26, 20), True, True),
        ((19, 26), True, True),
    ],
)
def test_never_the_skull_and_never_the_sacrum(column, above, below):
    labels, centres = _column(*column)
    ignored = unlabelled_neighbours(labels, GRID, centres)
    assert ignored[70:].any() == above
    assert ignored[:15].any() == below


def test_nothing_without_labels_or_their_centres():
    labels, centres = _column(18, 19)
    assert not unlabelled_neighbours(np.zeros_like(labels), GRID, centres).any()
    assert not unlabelled_neighbours(labels, GRID, {}).any()


@pytest.mark.parametrize("lost", [23, 24])
def test_an_end_without_a_centre_is_not_taken_for_another_vertebra(lost):
    labels, centres = _column(22, 23, 24)
    del centres[lost]
    assert not unlabelled_neighbours(labels, GRID, centres)[:15].any(), "the sacrum below L5"
    del centres[22]
    assert not unlabelled_neighbours(labels, GRID, centres).any()


def test_the_region_follows_the_column():
    labels, centres = _column(18, 19, 20, tilt=6)
    ignored = unlabelled_neighbours(labels, GRID, centres)
    rows = [np.flatnonzero(ignored[z].any(axis=1)).mean() for z in (70, 80, 90)]
    assert np.all(np.diff(rows) < -2)


def test_one_vertebra_and_mixed_up_ones_follow_the_scan():
    alone, _ = _column(18)
    ignored = unlabelled_neighbours(alone, GRID, {18: tuple(GRID.to_world((59.5, 29.5, 29.5)))})
    assert (ignored[70] == ignored[95]).all()
    assert ignored[70].any()
    labels, centres = _column(20, 18)  # upside down
    mixed_up = unlabelled_neighbours(labels, GRID, centres)
    assert (mixed_up[90] == mixed_up[95]).all()


def _true_labels(scan):
    """All vertebrae of a phantom, the cut ones as well, in canonical orientation."""
    grid = Orientation.to_canonical(scan.labels.grid).apply_grid(scan.labels.grid)
    canvas = Canvas(grid, np.random.default_rng(0))
    canvas.hu[:] = 0
    for vertebra in scan.patient.vertebrae:
        solid = canvas.sample(solids(vertebra, scan.patient.size), vertebra.pose)
        if solid is not None:
            canvas.paint_bone(solid, Bone(600.0, 200.0, 1.0), vertebra.label)
    return canvas.labels


@pytest.mark.parametrize(
    ("view", "seed"), [("lumbar", 2), ("thoracolumbar", 1), ("cervical", 2), ("thoracic", 2)]
)
def test_cut_vertebrae_of_phantoms_are_covered(view, seed):
    recipe = replace(
        DEFAULT, field_of_view=view, spacing=(1.5, 3.0), anisotropy=(1.0, 2.0), max_voxels=2_000_000
    )
    scan = generate(recipe, seed)
    assert scan.partial
    labels = scan.labels.array[0]
    ignored = unlabelled_neighbours(labels, scan.labels.grid, scan.centroids)
    to_canonical = Orientation.to_canonical(scan.labels.grid)
    cut = np.isin(_true_labels(scan), scan.partial) & (to_canonical.apply(labels) == 0)
    assert (to_canonical.apply(ignored) & cut).sum() > 0.97 * cut.sum()
    assert ignored.mean() < 0.15


@pytest.fixture
def real(sample_data):
    verse = sample_data / "dataset-verse19training"
    derived = verse / "derivatives" / "sub-verse014"
    scan = read_image(verse / "rawdata" / "sub-verse014" / "sub-verse014_ct.nii.gz")
    labels = read_labels(derived / "sub-verse014_seg-vert_msk.nii.gz").array[0]
    return scan, labels, read_centroids(derived / "sub-verse014_seg-vb_ctd.json", scan.grid)


def test_a_real_scan_with_two_unlabelled_vertebrae_above_and_a_sacrum_below(real):
    scan, labels, centres = real
    ignored = unlabelled_neighbours(labels, scan.grid, centres)
    upper, lower, third = (np.asarray(centres[label]) for label in (20, 21, 22))
    within = np.rint(scan.grid.to_index(upper + (upper - lower))).astype(int)
    assert ignored[tuple(within)]  # where the body of T12 is
    heights = scan.grid.to_world(np.argwhere(ignored))[:, 2]
    assert heights.min() > third[2]


def test_the_region_is_drawn_hatched(tmp_path):
    labels, centres = _column(20, 21)
    volume = Volume(np.full((1, *GRID.shape), 100, np.int16), GRID)
    ignored = unlabelled_neighbours(labels, GRID, centres)
    paths = [tmp_path / name for name in ("plain.png", "hatched.png", "nothing.png")]
    for path, shown in zip(paths, (None, ignored, np.zeros_like(ignored)), strict=True):
        overlay_png(path, volume, labels, ignored=shown)
    plain, hatched, nothing = (path.read_bytes() for path in paths)
    assert plain == nothing != hatched
