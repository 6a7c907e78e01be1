"""The synthetic scans: reproducible, anatomically ordered, with labels and centroids that agree."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from autospine.core import anatomy
from autospine.core.errors import UsageError
from autospine.core.geometry import Orientation
from autospine.phantom import DEFAULT, DEMO, generate, skeleton
from autospine.phantom.patient import draw_patient
from autospine.phantom.scan import scan
from autospine.phantom.view import draw_grid, orientation_codes

COARSE = replace(DEMO, spacing=(4.0, 4.0), anisotropy=(1.0, 1.0), orientations=("SPL",), oblique=0.0)


def _patient(recipe=COARSE, seed=0):
    return draw_patient(recipe, np.random.default_rng(seed))


def _names(patient):
    return [v.name for v in patient.vertebrae]


@pytest.fixture(scope="module")
def lumbar():
    return generate(replace(COARSE, spacing=(3.0, 3.0)), 3)


@pytest.fixture(scope="module")
def full():
    wide = replace(DEFAULT, field_of_view="full", spacing=(3.5, 3.5), anisotropy=(1.0, 1.0), scoliosis=0.0)
    return generate(replace(wide, width=(240, 240), front=(150, 150), cut_circle=0, implants=0.0), 4)


def test_a_seed_always_gives_the_same_scan_and_others_give_others():
    first, again, other = generate(COARSE, 5), generate(COARSE, 5), generate(COARSE, 6)
    np.testing.assert_array_equal(first.image.array, again.image.array)
    np.testing.assert_array_equal(first.labels.array, again.labels.array)
    assert first.centroids == again.centroids
    assert first.image.array.shape != other.image.array.shape or (
        (first.image.array != other.image.array).any()
    )


def test_labels_stand_in_anatomical_order_along_the_column(full):
    labels = full.labels.reoriented(Orientation.to_canonical(full.labels.grid)).array[0]
    present = [int(v) for v in np.unique(labels) if v]
    heights = {v: np.argwhere(labels == v)[:, 0].mean() for v in present}
    from_head = sorted(present, key=lambda v: -heights[v])
    assert len(present) >= 18
    assert from_head == sorted(present, key=anatomy.rank_of)


def test_centroids_lie_inside_their_own_label_and_in_front_of_the_centre_of_mass(full):
    labels, grid = full.labels.array[0], full.labels.grid
    assert set(full.centroids) == {int(v) for v in np.unique(labels) if v}
    for label, centre in full.centroids.items():
        assert labels[tuple(np.rint(grid.to_index(centre)).astype(int))] == label
        mass = grid.to_world(np.argwhere(labels == label).mean(axis=0))
        assert 1 < mass[1] - centre[1] < 25  # y grows to posterior


def test_vertebrae_grow_towards_the_loins(full):
    labels, edge = full.labels.array[0], np.prod(full.labels.grid.spacing)
    volume = {anatomy.name_of(v): (labels == v).sum() * edge / 1000 for v in full.centroids}
    assert 4 < volume["C5"] < volume["T5"] < volume["T12"] < volume["L3"] < 130


def test_cut_vertebrae_are_visible_but_not_labelled(lumbar):
    assert lumbar.partial
    assert not set(lumbar.partial) & set(np.unique(lumbar.labels.array).tolist())
    upper = min(lumbar.centroids, key=anatomy.rank_of)
    assert all(anatomy.rank_of(label) < anatomy.rank_of(upper) for label in lumbar.partial)


def test_intensities_are_those_of_bone_fat_muscle_and_air(lumbar):
    hu, labels = lumbar.image.array[0], lumbar.labels.array[0]
    bone = hu[labels > 0]
    assert hu.dtype == np.int16
    assert hu.min() >= -1024
    assert hu.max() <= 3071
    assert 100 < np.median(bone) < 500
    assert np.percentile(bone, 98) > 450
    soft = hu[(labels == 0) & (hu > -500)]
    assert (np.abs(soft + 100) < 40).mean() > 0.05
    assert (np.abs(soft - 50) < 40).mean() > 0.3


def test_lungs_hold_air_only_above_the_diaphragm(full):
    canonical = full.image.reoriented(Orientation.to_canonical(full.image.grid))
    chest = full.patient.find("T6").centre
    loins = full.patient.find("L3").centre
    hu = []
    for centre in (chest, loins):
        index = canonical.grid.to_index(np.add(centre, (60, 0, 0)))
        z, y, x = np.rint(index).astype(int)
        hu.append(np.median(canonical.array[0, z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]))
    assert hu[0] < -600
    assert hu[1] > -200


def _density(shapes, pose, points):
    """Whether world points lie inside the union of some shapes."""
    x, y, z = ((np.asarray(points) - pose.position) @ pose.rotation).T.astype(np.float32)
    return np.min([shape.distance(x, y, z) for shape in shapes], axis=0) < 0


def test_the_skull_stands_on_the_atlas_and_is_open_above_the_canal():
    patient = _patient()
    atlas = patient.vertebrae[0]
    pose = skeleton.skull_pose(atlas, patient.size)
    above = [pose.to_world((0.0, 0.0, z)) for z in np.linspace(0, 60, 40)]
    behind = [pose.to_world((0.0, 30.0 * patient.size, z)) for z in np.linspace(0, 60, 40)]
    assert not _density(skeleton.skull(patient.size), pose, above).any()
    assert _density(skeleton.skull(patient.size), pose, behind).any()
    assert pose.position[2] > patient.vertebrae[1].centre[2]


def test_the_sacrum_lies_below_the_last_vertebra_between_the_iliac_wings():
    patient = _patient()
    last, size = patient.vertebrae[-1], patient.size
    body = [patient.sacrum.to_world((0.0, 0.0, -12.0))]
    assert _density(skeleton.sacrum(size), patient.sacrum, body).all()
    assert patient.sacrum.position[2] < last.centre[2] - 0.4 * last.height
    pose = skeleton.pelvis_pose(patient)
    beside = [pose.to_world((x, 0.0, -15.0)) for x in np.linspace(-130, 130, 131)]
    hit = np.flatnonzero(_density(skeleton.pelvis(size), pose, beside))
    assert hit.min() < 40
    assert hit.max() > 90
    assert not np.isin(np.arange(50, 81), hit).any()


@pytest.mark.parametrize(
    ("change", "present", "absent"),
    [
        ({"extra_lumbar": 1.0}, "L6", "T13"),
        ({"extra_thoracic": 1.0}, "T13", "L6"),
        ({"missing_thoracic": 1.0}, "T11", "T12"),
    ],
)
def test_anomalies_appear_when_their_rate_is_one(change, present, absent):
    usual = replace(DEMO, extra_lumbar=0.0, extra_thoracic=0.0, missing_thoracic=0.0)
    names = _names(_patient(replace(usual, **change)))
    assert present in names
    assert absent not in names
    pairs = [(anatomy.label_of(a), anatomy.label_of(b)) for a, b in pairwise(names)]
    assert all(lower in anatomy.successors(upper) for upper, lower in pairs)


def test_anomalies_do_not_appear_when_their_rate_is_zero():
    usual = replace(DEFAULT, extra_lumbar=0.0, extra_thoracic=0.0, missing_thoracic=0.0)
    assert all({"L6", "T13"}.isdisjoint(_names(_patient(usual, seed))) for seed in range(10))
    assert all("T12" in _names(_patient(usual, seed)) for seed in range(10))


def test_an_l6_is_labelled_in_the_scan():
    phantom = generate(replace(COARSE, extra_lumbar=1.0), 1)
    assert anatomy.label_of("L6") in phantom.centroids


def test_the_last_thoracic_vertebra_has_a_rib_above_four_centimetres_and_the_first_lumbar_none():
    for seed in range(20):
        patient = _patient(replace(DEFAULT, extra_thoracic=0.5), seed)
        last = [v for v in patient.vertebrae if v.name.startswith("T")][-1]
        assert max(last.ribs) > 40
        assert max(patient.find("L1").ribs) < 40


def test_fractures_lower_vertebrae_and_only_from_t4_to_l5():
    broken, intact = (_patient(replace(COARSE, fractures=rate), 2) for rate in (1.0, 0.0))
    assert {v.name for v in broken.vertebrae if v.loss > 0} == {
        *(f"T{i}" for i in range(4, 13)),
        *(f"L{i}" for i in range(1, 6)),
    }
    assert all(v.compression == "none" and v.loss == 0 for v in intact.vertebrae)
    crushed = [v for v in broken.vertebrae if v.compression == "crush"]
    assert crushed
    assert all(v.height < 0.85 * intact.find(v.name).height for v in crushed)


def test_a_wedge_loses_volume_in_front():
    usual = replace(COARSE, spacing=(2.0, 2.0), fractures=0.0, extra_lumbar=0.0)
    seed = next(
        s for s in range(50) if _patient(replace(usual, fractures=1.0), s).find("L3").compression == "wedge"
    )
    fractions = []
    for rate in (0.0, 1.0):
        patient = _patient(replace(usual, fractures=rate), seed)
        phantom = scan(patient, replace(usual, fractures=rate), np.random.default_rng(0))
        vertebra, grid = patient.find("L3"), phantom.labels.grid
        points = grid.to_world(np.argwhere(phantom.labels.array[0] == vertebra.label))
        local = (points - vertebra.centre) @ vertebra.pose.rotation
        body = local[np.abs(local[:, 1]) < vertebra.depth / 2 - 2]
        fractions.append((body[:, 1] < 0).mean())
    assert fractions[1] < fractions[0] - 0.04


def test_screws_are_metal():
    recipe = replace(COARSE, spacing=(2.0, 2.0), implants=1.0, noise=(5.0, 5.0))
    seed = next(s for s in range(50) if anatomy.label_of("L3") in _patient(recipe, s).screws)
    phantom = scan(_patient(recipe, seed), recipe, np.random.default_rng(0))
    assert phantom.image.array.max() > 2000
    plain = scan(replace(_patient(recipe, seed), screws=()), recipe, np.random.default_rng(0))
    assert plain.image.array.max() < 1700


@pytest.mark.parametrize("code", ["SPL", "IAR", "LPS", "RIP", "PIR"])
def test_orientation_moves_voxels_but_neither_the_patient_nor_the_centroids(code):
    patient = _patient()
    plain = scan(patient, COARSE, np.random.default_rng(1))
    turned = scan(patient, replace(COARSE, orientations=(code,)), np.random.default_rng(1))
    assert turned.centroids == plain.centroids
    back = turned.labels.reoriented(Orientation.to_canonical(turned.labels.grid))
    np.testing.assert_array_equal(back.array, plain.labels.array)
    assert back.grid.same_as(plain.labels.grid)
    grows = np.asarray(turned.image.grid.direction)
    for axis, letter in enumerate(code):
        row, sign = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}[letter]
        assert grows[row, axis] * sign > 0.9


def test_there_are_48_orientations_and_no_others():
    assert len(set(orientation_codes())) == 48
    with pytest.raises(UsageError, match="XYZ"):
        generate(replace(COARSE, orientations=("XYZ",)), 0)


def test_an_oblique_grid_shows_the_same_patient_at_the_same_place():
    patient = _patient()
    tilted = scan(patient, replace(COARSE, oblique=15.0), np.random.default_rng(2))
    direction = np.asarray(tilted.image.grid.direction)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-9)
    assert np.abs(direction[2, 0]) < 0.9999
    labels, grid = tilted.labels.array[0], tilted.labels.grid
    for vertebra in patient.vertebrae:
        if vertebra.label in tilted.centroids:
            assert labels[tuple(np.rint(grid.to_index(vertebra.centre)).astype(int))] == vertebra.label


def test_grids_follow_the_recipe_and_its_limit_of_voxels():
    recipe = replace(DEFAULT, spacing=(0.5, 0.5), anisotropy=(4.0, 4.0), max_voxels=300_000)
    grids = [draw_grid(_patient(DEFAULT, s), recipe, np.random.default_rng(s)) for s in range(10)]
    for grid in grids:
        assert np.prod(grid.shape) < 330_000
        assert max(grid.spacing) / min(grid.spacing) == pytest.approx(4.0)
    assert {int(np.argmax(grid.spacing)) for grid in grids} == {0, 2}


def test_corners_outside_the_scanners_field_are_padded():
    recipe = replace(COARSE, cut_circle=1.0, width=(160.0, 160.0))
    hu = generate(recipe, 0).image.array[0]
    assert (hu[:, [0, 0, -1, -1], [0, -1, 0, -1]] == -1024).all()
    middle = hu[:, hu.shape[1] // 2, hu.shape[2] // 2]
    assert (middle > -1000).all()
