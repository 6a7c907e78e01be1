"""Which share of a vertebra is in view."""

from dataclasses import replace

import numpy as np
import pytest

from autospine.core.geometry import Orientation
from autospine.io.images import read_labels
from autospine.phantom import DEMO, generate
from autospine.vertebrae.completeness import CUT_BELOW, visible_shares

SPACING = (2.0, 1.0, 0.5)
L1, L2, L3, L4 = 20, 21, 22, 23


def _column(depth=60):
    """Three vertebrae of 20 x 10 x 10 voxels, 2000 mm³; the border cuts the first in half."""
    instances = np.zeros((depth, 14, 14), np.uint8)
    instances[50:60, 2:12, 2:12] = 1
    instances[28:48, 2:12, 2:12] = 2
    instances[6:26, 2:12, 2:12] = 3
    return instances


def test_what_does_not_reach_the_border_is_whole():
    volumes = {L1: 2000.0, L2: 2000.0, L3: 9000.0}
    assert visible_shares(_column(), SPACING, (L1, L2, L3), volumes)[1:] == (1.0, 1.0)


def test_a_vertebra_at_the_border_is_measured_by_its_volume():
    volumes = {L1: 2000.0, L2: 2000.0, L3: 2000.0}
    assert visible_shares(_column(), SPACING, (L1, L2, L3), volumes) == (0.5, 1.0, 1.0)


def test_the_patients_size_counts():
    volumes = {L1: 4000.0, L2: 4000.0, L3: 4000.0}
    assert visible_shares(_column(), SPACING, (L1, L2, L3), volumes)[0] == pytest.approx(0.5)
    alone = np.where(_column() == 1, 1, 0)
    assert visible_shares(alone, SPACING, (L1,), volumes)[0] == pytest.approx(0.25)


def test_levels_the_data_set_lacks_lie_between_their_neighbours():
    volumes = {L1: 1000.0, L3: 3000.0}
    alone = np.where(_column() == 1, 1, 0)
    assert visible_shares(alone, SPACING, (L2,), volumes)[0] == pytest.approx(0.5)
    assert visible_shares(alone, SPACING, (L4,), volumes)[0] == pytest.approx(1 / 3)


def test_without_knowledge_everything_is_whole_and_without_voxels_nothing():
    assert visible_shares(_column(), SPACING, (L1, L2, L3), {}) == (1.0, 1.0, 1.0)
    assert visible_shares(_column(), SPACING, (L1, L2, L3, L4), {L1: 2000.0})[3] == 0.0
    assert visible_shares(_column(), SPACING, (L1, L2, L3, L4), {})[3] == 0.0
    assert visible_shares(np.zeros((4, 4, 4), np.uint8), SPACING, (), {L1: 1.0}) == ()


@pytest.mark.parametrize(("gap", "touches"), [(0, True), (1, False), (2, False)])
def test_thick_slices_reach_the_border_only_in_the_outer_one(gap, touches):
    instances = np.zeros((10, 4, 4), np.uint8)
    instances[gap:5] = 1
    share = visible_shares(instances, (3.0, 1.0, 1.0), (L1,), {L1: 1e6})[0]
    assert (share < 1) == touches


@pytest.mark.parametrize(("gap", "touches"), [(0, True), (3, True), (4, False)])
def test_thin_slices_reach_the_border_within_two_millimetres(gap, touches):
    instances = np.zeros((20, 4, 4), np.uint8)
    instances[8 : 20 - gap] = 1
    share = visible_shares(instances, (0.5, 1.0, 1.0), (L1,), {L1: 1e6})[0]
    assert (share < 1) == touches


def test_real_vertebrae_that_are_cut_on_purpose(sample_data):
    derived = sample_data / "dataset-verse19training" / "derivatives" / "sub-verse014"
    volume = read_labels(derived / "sub-verse014_seg-vert_msk.nii.gz")
    to_canonical = Orientation.to_canonical(volume.grid)
    labels = to_canonical.apply(volume.array[0])
    spacing = to_canonical.apply_grid(volume.grid).spacing
    # Another population's volumes: a third off, but in the right proportions.
    volumes = {20: 35800.0, 21: 39600.0, 22: 44800.0, 23: 45400.0, 24: 51500.0}
    for top in (143, 149, 155):
        seen = labels[:top]
        truth = (seen == 20).sum() / (labels == 20).sum()
        instances = np.where(seen > 0, seen.astype(int) - 19, 0)
        shares = visible_shares(instances, spacing, tuple(volumes), volumes)
        assert shares[0] == pytest.approx(truth, abs=0.05)
        assert all(share == 1.0 for share in shares[2:])


def test_phantoms_are_cut_and_whole_where_they_should_be():
    scan = generate(replace(DEMO, orientations=("SPL",)), 0)
    labels, spacing = scan.labels.array[0], scan.labels.grid.spacing
    present = sorted(scan.centroids)
    lowest = min(present, key=lambda label: scan.centroids[label][2])
    volumes = {label: float((labels == label).sum() * np.prod(spacing)) for label in present}
    found = np.flatnonzero((labels == lowest).any(axis=(1, 2)))
    seen = labels[int(found.mean()) :]
    instances = sum(np.where(seen == label, rank, 0) for rank, label in enumerate(present, start=1))
    shares = dict(zip(present, visible_shares(instances, spacing, present, volumes), strict=True))
    assert shares.pop(lowest) < CUT_BELOW
    assert min(shares.values()) >= CUT_BELOW
