import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine.vertebrae.spine_curve import SpineCurve, curve_of_mask, smooth_curve


@st.composite
def bows(draw):
    """A curve of 300 mm that bends to the front and to the side, nowhere more than a circle of 100 mm."""
    z = np.linspace(0.0, 300.0, 100)
    waves = [
        draw(st.floats(-20, 20)) * np.sin(2 * np.pi * z / draw(st.floats(300, 900)) + draw(st.floats(0, 6)))
        for _ in range(2)
    ]
    return SpineCurve.through(np.stack([z, *waves], axis=1), draw(st.sampled_from([0.5, 1.0, 2.0])))


@settings(max_examples=40)
@given(bows(), st.floats(-20, 20), st.floats(-15, 15))
def test_what_stands_beside_a_curve_lies_as_far_along(curve, behind, left):
    rows = np.arange(5, len(curve.points) - 5)
    places = curve.beside(rows, np.full(len(rows), behind), np.full(len(rows), left))
    np.testing.assert_allclose(curve.along(places), rows * curve.step, atol=2.5 * curve.step)
    distances = np.linalg.norm(places - curve.points[rows], axis=1)
    np.testing.assert_allclose(distances, np.hypot(behind, left), atol=1e-6)


@settings(max_examples=40)
@given(bows())
def test_points_are_equally_far_apart_and_head_upwards(curve):
    steps = np.diff(curve.points, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), curve.step, rtol=0.02)
    assert (steps[:, 0] > 0).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(5.0, 40.0))
def test_a_sloping_line_stays_straight_to_its_ends(back, side, smoothing):
    z = np.arange(0.0, 120.0, 3.0)
    line = np.stack([z, 50 + back * z, 40 + side * z], axis=1)
    curve = smooth_curve(line, np.ones(len(z)), smoothing, 1.0)
    wanted = np.stack(
        [curve.points[:, 0], 50 + back * curve.points[:, 0], 40 + side * curve.points[:, 0]], axis=1
    )
    np.testing.assert_allclose(curve.points, wanted, atol=1e-6)


@settings(max_examples=25)
@given(st.floats(-0.4, 0.4), st.sampled_from([(1.0, 1.0, 1.0), (2.0, 1.0, 3.0)]))
def test_the_curve_of_a_sloping_column_is_its_axis(slope, spacing):
    shape = tuple(int(n / s) for n, s in zip((90, 100, 40), spacing, strict=True))
    z, y, x = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    middle = 50 + slope * (z - 45)
    mask = (abs(y[None, :, None] - middle[:, None, None]) < 8) & (abs(x - 20.0) < 9)
    curve = curve_of_mask(mask, spacing, 20.0, 1.0)
    inside = (curve.points[:, 0] > 0) & (curve.points[:, 0] < 88)
    np.testing.assert_allclose(
        curve.points[inside, 1], np.interp(curve.points[inside, 0], z, middle), atol=1.0
    )
    np.testing.assert_allclose(curve.points[:, 2], x[abs(x - 20.0) < 9].mean(), atol=1e-6)
