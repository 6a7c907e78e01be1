"""Centres of vertebral bodies in masks of whole vertebrae."""

from dataclasses import replace

import numpy as np
import pytest

from autospine.core.geometry import Grid, matrix_rows
from autospine.io.centroids import read_centroids
from autospine.io.images import read_image, read_labels
from autospine.phantom import DEFAULT, generate
from autospine.vertebrae.centroids import body_centres


def _errors(labels, grid, truth):
    found = body_centres(labels, grid)
    assert sorted(found) == sorted(truth)
    return {label: float(np.linalg.norm(np.subtract(found[label], truth[label]))) for label in truth}


def _vertebra(grid, centre, scale=1.0):
    """A block with two pedicles, a lamina and a long spinous process behind it."""
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis((grid.to_world(indices) - centre) / scale, -1, 0)
    body = (abs(x) < 20) & (abs(y) < 15) & (abs(z) < 13)
    pedicles = (abs(abs(x) - 13) < 4) & (y > 0) & (y < 25) & (abs(z - 4) < 6)
    lamina = (abs(x) < 17) & (abs(y - 27) < 4) & (abs(z) < 9)
    spine = (abs(x) < 4) & (y > 25) & (y < 55) & (abs(z + 5) < 10)
    return body | pedicles | lamina | spine


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (1.0, 1.0, 3.0), (6.0, 1.5, 1.5), (3.0, 3.0, 3.0)])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_a_block_with_processes_has_its_centre_in_the_block(spacing, scale):
    tilt = np.radians(12)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    size = np.array([60.0, 110.0, 70.0]) * scale
    shape = tuple(int(n) for n in size / spacing)
    grid = Grid(shape, spacing, origin=(5.0, -8.0, 700.0), direction=matrix_rows(turn[:, ::-1]))
    centre = grid.to_world(np.array([0.5, 0.35, 0.5]) * shape)
    found = body_centres(_vertebra(grid, centre, scale).astype(np.uint8) * 200, grid)
    assert np.linalg.norm(np.subtract(found[200], centre)) < 1.0 + 0.15 * max(spacing)


def test_only_wanted_values_are_looked_for():
    labels = np.zeros((12, 12, 12), np.int16)
    labels[1:4, 1:4, 1:4], labels[6:11, 6:11, 6:11] = 300, 7
    grid = Grid(labels.shape, (1.0, 1.0, 1.0))
    assert list(body_centres(labels, grid)) == [7, 300]
    assert list(body_centres(labels, grid, wanted=[300, 5])) == [300]
    assert body_centres(np.zeros_like(labels), grid) == {}


def test_a_single_voxel_is_its_own_centre():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[2, 3, 6] = 9
    grid = Grid(labels.shape, (0.2, 0.3, 5.0), origin=(1.0, 2.0, 3.0))
    np.testing.assert_allclose(body_centres(labels, grid)[9], grid.to_world((2, 3, 6)))


@pytest.mark.parametrize(("view", "seed"), [("lumbar", 1), ("thoracic", 2), ("full", 2)])
def test_phantoms_of_all_regions(view, seed):
    recipe = replace(
        DEFAULT, field_of_view=view, spacing=(1.5, 3.0), anisotropy=(1.0, 2.0), max_voxels=2_000_000
    )
    scan = generate(recipe, seed)
    errors = _errors(scan.labels.array[0], scan.labels.grid, scan.centroids)
    # C1 has no body, and the dens draws the centre of C2 upwards.
    upper = [error for label, error in errors.items() if label in (1, 2)]
    rest = [error for label, error in errors.items() if label > 2]
    assert all(error < 6.0 for error in upper)
    assert len(upper) == (2 if view == "full" else 0)
    assert np.mean(rest) < 1.0
    assert max(rest) < 4.0


def test_centres_of_a_real_scan(sample_data):
    verse = sample_data / "dataset-verse19training"
    derived = verse / "derivatives" / "sub-verse014"
    grid = read_image(verse / "rawdata" / "sub-verse014" / "sub-verse014_ct.nii.gz").grid
    labels = read_labels(derived / "sub-verse014_seg-vert_msk.nii.gz")
    truth = read_centroids(derived / "sub-verse014_seg-vb_ctd.json", grid)
    errors = _errors(labels.array[0], labels.grid, truth)
    assert np.mean(list(errors.values())) < 1.0
    assert max(errors.values()) < 2.0


def test_centre_of_a_real_body_that_was_segmented_by_itself(sample_data):
    folder = sample_data / "tptbox_l3"
    labels = read_labels(folder / "sub-ct_seg-vert_label-22_msk.nii.gz")
    parts = read_labels(folder / "sub-ct_seg-subreg_label-22_msk.nii.gz").array[0]
    body = (labels.array[0] == 22) & ((parts == 49) | (parts == 50))
    centre = labels.grid.to_world(np.argwhere(body).mean(axis=0))
    found = body_centres(labels.array[0], labels.grid, wanted=[22])
    assert np.linalg.norm(np.subtract(found[22], centre)) < 1.0
