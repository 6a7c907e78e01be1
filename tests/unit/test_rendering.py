"""Pictures of scans with coloured vertebrae."""

import numpy as np
import pytest
from matplotlib.image import imread

from autospine.core import anatomy
from autospine.core.errors import GeometryError
from autospine.core.geometry import Grid, Orientation
from autospine.core.volume import Volume
from autospine.rendering import colour_of, overlay_png


@pytest.fixture
def scan():
    """A column of three cubes that drifts to the left, in a scan with thick slices."""
    grid = Grid((30, 40, 50), (3.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, np.uint8)
    for step, label in enumerate((20, 21, 22)):
        labels[20 - 8 * step : 26 - 8 * step, 10:24, 10 + 10 * step : 20 + 10 * step] = label
    return Volume(np.where(labels > 0, 300, -100)[None].astype(np.int16), grid), labels


def _share(picture, label):
    """Share of a picture that is tinted with a label's colour, against the bone it lies on."""
    tinted = 0.4 * np.array(colour_of(label)) + 0.6 * (300 + 400) / 1500
    return (np.abs(picture[..., :3] - tinted).max(axis=-1) < 0.02).mean()


def test_curved_slices_show_every_vertebra_in_its_colour(tmp_path, scan):
    path = tmp_path / "new" / "overlay.png"
    overlay_png(path, *scan, title="case")
    picture = imread(path)
    assert all(_share(picture, label) > 0.01 for label in (20, 21, 22))
    assert _share(picture, 23) == 0


def test_the_picture_does_not_depend_on_the_scans_orientation(tmp_path, scan):
    volume, labels = scan
    turned = Orientation((2, 0, 1), (True, False, True))
    overlay_png(tmp_path / "a.png", volume, labels)
    overlay_png(tmp_path / "b.png", volume.reoriented(turned), turned.apply(labels))
    np.testing.assert_array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def test_a_reference_is_drawn_beside_the_prediction(tmp_path, scan):
    volume, labels = scan
    overlay_png(tmp_path / "one.png", volume, labels)
    overlay_png(tmp_path / "two.png", volume, np.where(labels == 21, 0, labels), reference=labels)
    one, two = imread(tmp_path / "one.png"), imread(tmp_path / "two.png")
    assert two.shape[1] > 1.8 * one.shape[1]
    middle = two.shape[1] // 2
    assert _share(two[:, :middle], 21) == 0
    assert _share(two[:, middle:], 21) > 0.01


def test_millimetres_are_equally_long_along_both_axes(tmp_path, scan):
    volume, labels = scan
    labels = np.where(labels == 20, 20, 0)  # 18 mm high, 14 mm deep
    overlay_png(tmp_path / "a.png", volume, labels)
    picture = imread(tmp_path / "a.png")
    tinted = 0.4 * np.array(colour_of(20)) + 0.6 * (300 + 400) / 1500
    hit = np.abs(picture[..., :3] - tinted).max(axis=-1) < 0.02
    sagittal = hit[:, : int(hit.shape[1] * 0.45)]
    height, depth = (np.ptp(np.flatnonzero(sagittal.any(axis=axis))) for axis in (1, 0))
    assert height / depth == pytest.approx(18 / 14, rel=0.06)


def test_scans_without_labels_are_drawn_too(tmp_path, scan):
    volume, labels = scan
    overlay_png(tmp_path / "a.png", volume, np.zeros_like(labels))
    assert imread(tmp_path / "a.png").std() > 0


def test_labels_of_another_shape_are_refused(tmp_path, scan):
    volume, labels = scan
    with pytest.raises(GeometryError, match="do not fit"):
        overlay_png(tmp_path / "a.png", volume, labels[1:])
    with pytest.raises(GeometryError, match="do not fit"):
        overlay_png(tmp_path / "a.png", volume, labels, reference=labels[1:])
    assert not (tmp_path / "a.png").exists()


def test_neighbours_differ_in_colour():
    for upper in anatomy.COLUMN_LABELS:
        assert all(colour_of(upper) != colour_of(lower) for lower in anatomy.successors(upper))
    assert colour_of(99) != colour_of(100)
