"""Vertebrae told apart in a mask of all of them, on stacks of boxes, phantoms and real masks."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from autospine.core import anatomy
from autospine.core.anchor import Anchor
from autospine.core.errors import GeometryError, UsageError
from autospine.core.geometry import Grid, Orientation, matrix_rows
from autospine.io.images import read_labels
from autospine.phantom import DEFAULT, generate
from autospine.resampling import resample_labels
from autospine.vertebrae.bodies_and_arches import Piece, couple, two_means
from autospine.vertebrae.body_rows import join, split
from autospine.vertebrae.curved_planes import CurvedPlanes
from autospine.vertebrae.kmeans_knn import KMeansKnn, names_from_anchor, separate_vertebrae
from autospine.vertebrae.spine_curve import SpineCurve

PITCH = 34.0
COUNT = 5
SETTINGS = KMeansKnn()


def vertebra(points, centre, turn):
    """A block with pedicles, a lamina, transverse processes and a spinous process behind it, mm."""
    x, y, z = np.moveaxis((points - centre) @ turn, -1, 0)
    body = (abs(x) < 20) & (abs(y) < 15) & (abs(z) < 13)
    pedicles = (abs(abs(x) - 13) < 4) & (y > 0) & (y < 33) & (abs(z - 4) < 6)
    lamina = (abs(x) < 17) & (abs(y - 34) < 4) & (abs(z) < 9)
    sideways = (abs(x) < 34) & (abs(y - 26) < 4) & (abs(z - 4) < 5) & (abs(x) > 13)
    spine = (abs(x) < 4) & (y > 30) & (y < 55) & (abs(z + 5) < 9)
    return body | pedicles | lamina | sideways | spine


def discs(points, centres, depth):
    """Blocks between neighbouring bodies, ``depth`` mm from front to back."""
    result = np.zeros(points.shape[:-1], dtype=bool)
    for upper, lower in pairwise(centres):
        x, y, z = np.moveaxis(points - (upper + lower) / 2, -1, 0)
        result |= (abs(x) < 12) & (abs(y) < depth / 2) & (abs(z) < PITCH / 2 - 12)
    return result


def stack(bow=0.0, count=COUNT):
    """Centres (n, 3) in LPS mm from head to foot, and the frames of vertebrae that follow a lateral bow."""
    heights = PITCH * (np.arange(count)[::-1] - (count - 1) / 2)
    sideways = bow * np.cos(np.pi * heights / (count * PITCH))
    slopes = -bow * np.pi / (count * PITCH) * np.sin(np.pi * heights / (count * PITCH))
    centres = np.stack([sideways, np.zeros(count), heights], axis=1)
    return centres, [Rotation.from_euler("y", np.arctan(slope)).as_matrix() for slope in slopes]


def scanned(centres, turns, spacing=2.0, tilt=0.0):
    """A grid around a stack, the world positions of its voxels, and the true numbers."""
    size = np.array([np.ptp(centres[:, 2]) + 60, 110.0, np.ptp(centres[:, 0]) + 90])
    shape = tuple(int(n) for n in size / spacing)
    direction = Rotation.from_euler("x", tilt, degrees=True).as_matrix()[:, ::-1]
    middle = centres.mean(axis=0) + np.array([0, 18, 0])
    corner = middle - direction @ (spacing * (np.array(shape) - 1) / 2)
    grid = Grid(shape, (spacing,) * 3, tuple(float(v) for v in corner), matrix_rows(direction))
    points = grid.to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    truth = np.zeros(shape, np.uint8)
    for number, (centre, turn) in enumerate(zip(centres, turns, strict=True), start=1):
        truth[vertebra(points, centre, turn)] = number
    return grid, points, truth


def dice(found, truth):
    """Of every true vertebra, (n,)."""
    numbers = range(1, int(truth.max()) + 1)
    both = [2 * np.sum((found == n) & (truth == n)) for n in numbers]
    return np.array(both) / [np.sum(found == n) + np.sum(truth == n) for n in numbers]


def numbered(labels):
    """Anatomical labels as numbers from head to foot."""
    present = sorted(np.unique(labels[labels > 0]).tolist(), key=anatomy.rank_of)
    table = np.zeros(256, np.uint8)
    table[present] = np.arange(1, len(present) + 1)
    return table[labels]


# Stacks of boxes


@pytest.mark.parametrize(("spacing", "tilt"), [(1.5, 0.0), (2.0, 12.0), (3.0, -20.0)])
@pytest.mark.parametrize("bow", [0.0, 45.0])
def test_a_stack_is_numbered_from_head_to_foot(spacing, tilt, bow):
    centres, turns = stack(bow)
    grid, _, truth = scanned(centres, turns, spacing, tilt)
    found = separate_vertebrae(truth > 0, grid)
    assert found.numbers.dtype == np.uint8
    np.testing.assert_array_equal(found.numbers > 0, truth > 0)
    assert dice(found.numbers, truth).min() > 0.97
    np.testing.assert_allclose(found.centres, centres, atol=2.5)
    assert found.whole == (True,) * COUNT


@pytest.mark.parametrize(
    ("axes", "flips"),
    [((0, 1, 2), (True, True, True)), ((1, 2, 0), (False, True, True)), ((2, 1, 0), (True, False, False))],
)
def test_the_order_of_the_axes_does_not_matter(axes, flips):
    grid, _, truth = scanned(*stack(30.0), tilt=10.0)
    orientation = Orientation(axes, flips)
    straight = separate_vertebrae(truth > 0, grid)
    turned = separate_vertebrae(orientation.apply(truth > 0), orientation.apply_grid(grid))
    np.testing.assert_array_equal(turned.numbers, orientation.apply(straight.numbers))
    np.testing.assert_allclose(turned.centres, straight.centres, atol=1e-6)


@pytest.mark.parametrize("spacing", [2.0, 4.0])
def test_bodies_that_discs_join_are_cut_apart(spacing):
    centres, turns = stack(20.0)
    grid, points, truth = scanned(centres, turns, spacing)
    found = separate_vertebrae((truth > 0) | discs(points, centres, depth=18.0), grid)
    assert len(found.centres) == COUNT
    assert dice(np.where(truth > 0, found.numbers, 0), truth).min() > 0.93


def test_bodies_without_arches_are_vertebrae_too():
    centres, _ = stack(30.0)
    grid, points, _ = scanned(*stack(30.0))
    truth = np.zeros(grid.shape, np.uint8)
    for number, centre in enumerate(centres, start=1):
        truth[(abs(points - centre) < [20, 15, 13]).all(axis=-1)] = number
    found = separate_vertebrae(truth > 0, grid)
    np.testing.assert_array_equal(found.numbers, truth)


def test_one_vertebra_alone():
    grid, _, truth = scanned(*stack(count=1))
    found = separate_vertebrae(truth > 0, grid)
    np.testing.assert_array_equal(found.numbers, truth)
    np.testing.assert_allclose(found.centres, [[0, 0, 0]], atol=2.0)


def test_vertebrae_that_the_border_cuts_are_not_whole():
    grid, _, truth = scanned(*stack())
    # Through the bodies of the lowest and of the topmost vertebra.
    z = grid.to_index(stack()[0])[:, 0]
    lowest, topmost = round(z[-1]) + 1, round(z[0]) - 1
    found = separate_vertebrae(
        truth[lowest:topmost] > 0, replace(grid, shape=(topmost - lowest, *grid.shape[1:]))
    )
    assert found.whole == (False, True, True, True, False)
    assert dice(found.numbers, truth[lowest:topmost]).min() > 0.9


# What is no spine


def test_an_empty_mask_has_no_vertebrae():
    grid = Grid((10, 11, 12), (2.0, 2.0, 2.0))
    found = separate_vertebrae(np.zeros(grid.shape, bool), grid)
    assert not found.numbers.any()
    assert found.centres.shape == (0, 3)
    assert found.whole == ()


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 2, 3), (1, 30, 30), (30, 1, 30)])
def test_voxels_that_make_no_body_are_no_vertebra(size):
    grid = Grid((40, 40, 40), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[tuple(slice(3, 3 + n) for n in size)] = True
    found = separate_vertebrae(mask, grid)
    assert not found.numbers.any()
    assert len(found.centres) == 0


def test_a_scan_full_of_bone_is_one_piece():
    grid = Grid((33, 20, 12), (6.0, 3.5, 4.5))
    found = separate_vertebrae(np.ones(grid.shape, bool), grid)
    assert (found.numbers == 1).all()
    assert found.whole == (False,)


def test_a_mask_must_fit_its_grid():
    with pytest.raises(GeometryError, match="does not fit"):
        separate_vertebrae(np.zeros((3, 4, 5), bool), Grid((3, 4, 6), (1.0, 1.0, 1.0)))


# Phantoms and real masks


@cache
def phantom(view, seed):
    recipe = replace(
        DEFAULT,
        field_of_view=view,
        spacing=(1.5, 1.5),
        anisotropy=(1.0, 1.0),
        width=(90.0, 130.0),
        scoliosis=30.0,
    )
    return generate(recipe, seed).labels


@pytest.mark.parametrize("edge", [1.0, 2.0, 4.0])
@pytest.mark.parametrize(("view", "seed"), [("lumbar", 3), ("thoracolumbar", 4), ("thoracic", 5)])
def test_phantoms_with_coarse_voxels(view, seed, edge):
    labels = phantom(view, seed)
    shape = [max(1, round(n * s / edge)) for n, s in zip(labels.grid.shape, labels.grid.spacing, strict=True)]
    truth = numbered(resample_labels(labels.array[0], shape))
    found = separate_vertebrae(truth > 0, labels.grid.resized(shape))
    assert len(found.centres) == truth.max()
    assert dice(found.numbers, truth).min() > 0.8
    assert dice(found.numbers, truth).mean() > 0.9


def test_real_vertebrae(sample_data):
    folder = sample_data / "dataset-verse19training" / "derivatives" / "sub-verse014"
    labels = read_labels(folder / "sub-verse014_seg-vert_msk.nii.gz")
    truth = numbered(labels.array[0].astype(np.uint8))
    found = separate_vertebrae(truth > 0, labels.grid)
    assert len(found.centres) == 5
    # Its spinous processes are long, droop, and touch each other.
    assert dice(found.numbers, truth).min() > 0.8


def test_a_crop_around_a_real_vertebra(sample_data):
    labels = read_labels(sample_data / "tptbox_l3" / "sub-ct_seg-vert_label-22_msk.nii.gz")
    truth = numbered(labels.array[0].astype(np.uint8))
    found = separate_vertebrae(truth > 0, labels.grid)
    assert found.whole == (False, True, False)
    assert dice(found.numbers, truth).min() > 0.95


# The steps


def block(rows, columns, plane=0):
    """A rectangular piece."""
    grid = np.meshgrid(np.arange(*rows), np.arange(*columns), indexing="ij")
    return Piece(plane, *(axis.ravel() for axis in grid))


def straight_planes(length=200, depth=100):
    curve = SpineCurve.through(np.array([[0.0, 0.0, 0.0], [float(length - 40), 0.0, 0.0]]), 1.0)
    behind = np.arange(depth) - 30.0
    return CurvedPlanes(np.zeros((1, len(curve.points), depth), np.float32), curve, np.zeros(1), behind)


def test_the_front_cluster_are_the_bodies():
    behind = np.array([-2.0, 30.0, 1.0, 33.0, 28.0, 2.0])
    areas = np.array([300.0, 250.0, 310.0, 260.0, 240.0, 100.0])
    np.testing.assert_array_equal(two_means(behind, areas), behind < 10)


def test_a_speck_in_front_of_the_bodies_is_none():
    behind, areas = np.array([-60.0, 0.0, 2.0, 1.0]), np.array([50.0, 700.0, 700.0, 700.0])
    np.testing.assert_array_equal(two_means(behind, areas), [False, True, True, True])


def test_without_a_canal_between_them_all_are_bodies():
    assert two_means(np.array([-4.0, 5.0, 0.0, 9.0]), np.ones(4)).all()
    assert two_means(np.array([3.0]), np.ones(1)).all()


@pytest.mark.parametrize(("share", "pieces"), [(0.8, 2), (0.97, 1)])
def test_a_long_piece_is_cut_where_the_column_is_thin(share, pieces):
    profile = np.ones(100)
    profile[48:52] = share
    found = split(block((20, 80), (0, 30)), profile, SETTINGS)
    assert len(found) == pieces
    assert sum(part.area for part in found) == 60 * 30
    if pieces == 2:
        assert abs(found[0].rows.max() - 49) <= 2


@pytest.mark.parametrize(("share", "pieces"), [(0.3, 2), (0.8, 1)])
def test_a_body_of_usual_length_is_cut_only_where_next_to_nothing_is_left(share, pieces):
    profile = np.ones(100)
    profile[48:52] = share
    assert len(split(block((35, 65), (0, 34)), profile, SETTINGS)) == pieces


def test_the_halves_of_a_broken_body_are_one():
    halves = [block((10, 32), (0, 12)), block((9, 33), (16, 30)), block((40, 62), (0, 30))]
    joined = join(halves, SETTINGS)
    assert [piece.area for piece in joined] == [halves[0].area + halves[1].area, halves[2].area]


def test_the_arch_of_c1_in_front_of_the_dens_stays_apart():
    axis, atlas = block((0, 36), (10, 24)), block((22, 32), (0, 8))
    assert len(join([axis, atlas], SETTINGS)) == 2


def test_an_arch_goes_to_the_body_at_its_lamina():
    planes = straight_planes()
    bodies = [block((20, 44), (15, 45)), block((54, 78), (15, 45))]
    lamina, process = block((50, 66), (65, 73)), block((25, 40), (73, 95))
    drooping = lamina.joined(process)
    assert process.rows.mean() < 44
    assert couple([drooping], bodies, planes) == [(drooping, 1)]


def test_laminae_that_have_fused_belong_to_nobody():
    bodies = [block((20, 44), (15, 45)), block((54, 78), (15, 45))]
    assert couple([block((22, 78), (65, 73))], bodies, straight_planes()) == []


# Names


def names(*wanted):
    return tuple(anatomy.label_of(name) for name in wanted)


@pytest.mark.parametrize(
    ("anchor", "count", "expected"),
    [
        (Anchor(anatomy.label_of("T11"), "first"), 4, names("T11", "T12", "L1", "L2")),
        (Anchor(anatomy.label_of("L5"), "last"), 6, names("T12", "L1", "L2", "L3", "L4", "L5")),
        (Anchor(anatomy.label_of("L6"), "last"), 3, names("L4", "L5", "L6")),
        (Anchor(anatomy.label_of("T13"), "first"), 2, names("T13", "L1")),
        (Anchor(anatomy.label_of("T13"), "last"), 2, names("T12", "T13")),
        (Anchor(anatomy.label_of("C1"), "first"), 8, names("C1", "C2", "C3", "C4", "C5", "C6", "C7", "T1")),
        (Anchor(anatomy.label_of("L2"), "first"), 1, names("L2")),
        (Anchor(anatomy.label_of("L2"), "first"), 0, ()),
    ],
)
def test_names_follow_each_other_from_the_anchor(anchor, count, expected):
    assert names_from_anchor(count, anchor) == expected


def test_the_anchor_is_the_first_or_last_whole_vertebra():
    whole = (False, True, True, False)
    first, last = Anchor(anatomy.label_of("L1"), "first"), Anchor(anatomy.label_of("L1"), "last")
    assert names_from_anchor(4, first, whole) == names("T12", "L1", "L2", "L3")
    assert names_from_anchor(4, last, whole) == names("T11", "T12", "L1", "L2")
    assert names_from_anchor(2, first, (False, False)) == names("L1", "L2")


def test_without_an_anchor_nothing_is_named():
    assert names_from_anchor(5, None) is None


@pytest.mark.parametrize(
    ("anchor", "count", "end"),
    [
        (Anchor(anatomy.label_of("L4"), "first"), 6, "L6"),
        (Anchor(anatomy.label_of("C2"), "last"), 3, "C1"),
    ],
)
def test_names_do_not_run_off_the_column(anchor, count, end):
    with pytest.raises(UsageError, match=f"ends at {end}") as caught:
        names_from_anchor(count, anchor)
    assert "correct the anchor" in caught.value.remedy


def test_an_anchor_that_is_no_vertebra_is_refused():
    with pytest.raises(UsageError, match="label 27"):
        names_from_anchor(2, Anchor(27, "first"))
