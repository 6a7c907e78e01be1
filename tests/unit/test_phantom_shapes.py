"""Distance functions of the phantom's solids, and the canvas that samples them."""

import numpy as np
import pytest

from autospine.core.geometry import Grid
from autospine.phantom.canvas import Bone, Canvas
from autospine.phantom.shapes import WORLD, Body, Capsule, Ellipsoid, Plate, Shell, blend, chain, mirrored

SHAPES = [
    Capsule((-5.0, 2.0, 0.0), (8.0, 0.0, 4.0), 3.0, 2.0),
    Ellipsoid((1.0, 2.0, 3.0), (9.0, 5.0, 4.0)),
    Plate((-6.0, 0.0, 1.0), (7.0, 4.0, 0.0), 9.0, 4.0),
    Body(14.0, 24.0, 18.0, uncus=2.0),
    Shell((0.0, 0.0, 0.0), (14.0, 12.0, 10.0), 3.0, bottom=-6.0, top=8.0, front=-20.0),
]


def _lattice(step=0.5, half=20.0):
    axis = np.arange(-half, half + step, step, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return x, y, z


def _at(shape, *points):
    x, y, z = np.array(points, np.float32).T
    return shape.distance(x, y, z)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_all_of_a_shape_lies_inside_its_bounds(shape):
    x, y, z = _lattice()
    inside = shape.distance(x, y, z) < 0
    low, high = shape.bounds
    assert inside.sum() > 500
    for axis, coordinate in enumerate((x, y, z)):
        assert coordinate[inside].min() >= low[axis] - 0.5
        assert coordinate[inside].max() <= high[axis] + 0.5


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_distances_grow_about_a_millimetre_a_millimetre_near_the_surface(shape):
    distance = shape.distance(*_lattice())
    slope = np.sqrt(sum(g**2 for g in np.gradient(distance, 0.5)))
    near = slope[np.abs(distance) < 1]
    assert 0.6 < np.median(near) < 1.3


def test_a_capsules_distance_is_exact():
    rod = Capsule((0.0, 0.0, -10.0), (0.0, 0.0, 10.0), 2.0, 2.0)
    np.testing.assert_allclose(_at(rod, (0, 0, 0), (5, 0, 0), (0, 0, 15)), (-2, 3, 3), atol=1e-5)


def test_an_ellipsoids_volume_is_right():
    ball = Ellipsoid((0.0, 0.0, 0.0), (12.0, 8.0, 6.0))
    volume = (ball.distance(*_lattice()) < 0).sum() * 0.5**3
    assert volume == pytest.approx(4 / 3 * np.pi * 12 * 8 * 6, rel=0.02)


def test_a_body_is_waisted_and_its_plates_are_hollow():
    body = Body(20.0, 30.0, 24.0, waist=0.15, hollow=3.0)
    rim, waist = _at(body, (14.0, 0.0, 7.5), (14.0, 0.0, 0.0))
    assert rim < 0 < waist
    edge, middle = _at(body, (11.0, 0.0, 8.5), (0.0, 0.0, 8.5))
    assert edge < 0 < middle


def test_a_wedge_is_lower_in_front_than_behind():
    wedge = Body(20.0, 30.0, 24.0, hollow=0.0, wedge=0.4)
    front, back = _at(wedge, (0.0, -9.0, 6.0), (0.0, 9.0, 6.0))
    assert back < 0 < front


def test_a_shell_is_open_in_the_middle_and_at_its_hole():
    shell = Shell((0.0, 0.0, 0.0), (14.0, 12.0, 10.0), 3.0, -20.0, 20.0, -20.0, hole=3.0)
    inside, wall, hole, opposite = _at(shell, (0, 0, 0), (14, 0, 0), (0, 0, -10), (0, 0, 10))
    assert wall < 0
    assert opposite < 0
    assert min(inside, hole) > 0


def test_mirrored_shapes_stand_on_both_sides():
    for shape in SHAPES[:3]:
        original, image = mirrored((shape,))
        assert _at(original, (4.0, 1.0, 2.0)) == pytest.approx(_at(image, (-4.0, 1.0, 2.0)), abs=1e-5)


def test_blending_fills_the_groove_but_leaves_what_is_far_apart():
    near = blend(np.float32([1.0]), np.float32([1.0]), 2.0)
    far = blend(np.float32([1.0]), np.float32([9.0]), 2.0)
    assert near[0] == pytest.approx(0.5)
    assert far[0] == pytest.approx(1.0)
    assert blend(np.float32([1.0]), np.float32([1.0]), 0.0)[0] == pytest.approx(1.0)


def test_a_chain_has_one_rod_between_neighbours():
    rods = chain(np.array([[0.0, 0, 0], [1, 0, 0], [2, 1, 0]]), np.array([1.0, 2.0, 3.0]))
    assert [(rod.radius, rod.end_radius) for rod in rods] == [(1.0, 2.0), (2.0, 3.0)]
    assert rods[0].end == rods[1].start


def _canvas(spacing=(1.0, 1.0, 1.0), shape=(40, 40, 40)):
    origin = tuple(-(n - 1) / 2 * s for n, s in zip(shape[::-1], spacing[::-1], strict=True))
    canvas = Canvas(Grid(shape, spacing, origin), np.random.default_rng(0))
    canvas.background(0, np.zeros(shape, np.float32))
    return canvas


def test_two_touching_bones_never_share_a_voxel_and_keep_a_joint_space():
    canvas = _canvas()
    balls = [Ellipsoid((x, 0.0, 0.0), (9.0, 9.0, 9.0)) for x in (-6.0, 6.0)]
    for value, ball in enumerate(balls, start=1):
        solid = canvas.sample((ball,), WORLD)
        canvas.paint_bone(solid, Bone(900.0, 200.0, 1.0), value)
    row = canvas.labels[20, 20]
    assert {1, 2} <= set(row.tolist())
    between = row[np.flatnonzero(row == 1).max() + 1 : np.flatnonzero(row == 2).min()]
    assert 1 <= len(between) <= 3
    assert (between == 0).all()


def test_thick_slices_average_the_shell_away():
    peaks = []
    for spacing, shape in (((1.0, 1.0, 1.0), (40, 40, 40)), ((6.0, 1.0, 1.0), (7, 40, 40))):
        canvas = _canvas(spacing, shape)
        solid = canvas.sample((Ellipsoid((0.0, 0.0, 0.0), (15.0, 15.0, 10.5)),), WORLD)
        canvas.paint_bone(solid, Bone(1000.0, 100.0, 1.5))
        peaks.append(canvas.finished()[:, shape[1] // 2, shape[2] // 2].max())
    assert peaks[0] > 800
    assert peaks[1] < 500


def test_what_lies_outside_the_scan_is_not_sampled_and_counts_as_missing():
    canvas = _canvas()
    assert canvas.sample((Ellipsoid((90.0, 0.0, 0.0), (9.0, 9.0, 9.0)),), WORLD) is None
    solid = canvas.sample((Ellipsoid((0.0, 0.0, 20.0), (9.0, 9.0, 9.0)),), WORLD)
    inside, upright = canvas.shares_inside(solid.distance, solid.box)
    assert inside == pytest.approx(0.5, abs=0.1)
    assert upright == pytest.approx(inside)
    sideways = canvas.sample((Ellipsoid((20.0, 0.0, 0.0), (9.0, 9.0, 9.0)),), WORLD)
    inside, upright = canvas.shares_inside(sideways.distance, sideways.box)
    assert inside == pytest.approx(0.5, abs=0.1)
    assert upright == pytest.approx(1.0)
