"""Pictures of scans with coloured vertebrae, for people to judge a segmentation at a glance.

The slices are curved: they follow the labelled vertebrae, so that a scoliotic column stays in the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from autospine.core import anatomy
from autospine.core.errors import GeometryError
from autospine.core.geometry import Orientation, Triple
from autospine.core.volume import Volume
from autospine.io.files import atomic_path

#: Intensities shown black and white: a bone window, level 350 HU and width 1500 HU.
BONE_WINDOW: Final = (-400.0, 1100.0)

#: A vertebra's body lies about this far in front of the centre of mass of the whole vertebra, mm.
_BODY_AHEAD: Final = 11.0
_HEIGHT: Final = 7.0  # of a picture, inches
_GAP: Final = 0.12  # between its panels, inches
_TITLE: Final = 0.35
_NAMES: Final = 0.45  # beside the sagittal panel
_OPACITY: Final = 0.4
_HATCH: Final = ("///", (0.75, 0.75, 0.75))
_PALETTE: Final = matplotlib.colormaps["tab10"]

IntArray = NDArray[Any]


@dataclass(frozen=True)
class _Panel:
    """One slice: intensities, labels, ignored pixels (z, across), and the millimetres of the pixels."""

    heading: str
    image: NDArray[Any]
    labels: IntArray
    ignored: NDArray[np.bool_]
    pixel: tuple[float, float]
    named: bool

    @property
    def width(self) -> float:
        """Inches of the panel in the picture."""
        rows, columns = self.image.shape
        return float(_HEIGHT * columns * self.pixel[1] / (rows * self.pixel[0]))


def overlay_png(
    path: Path,
    volume: Volume,
    labels: IntArray,
    *,
    title: str = "",
    reference: IntArray | None = None,
    ignored: NDArray[np.bool_] | None = None,
    names: Mapping[int, str] | None = None,
    window: tuple[float, float] = BONE_WINDOW,
) -> None:
    """Draw a scan's curved sagittal and coronal slices with its vertebrae coloured and named.

    Args:
        path: The PNG to write.
        volume: The scan, in any orientation; its first channel is shown.
        labels: Its vertebrae (z, y, x), on the scan's grid.
        title: Written above.
        reference: Other labels to show beside, such as the ground truth.
        ignored: Voxels to hatch, such as those that training leaves out.
        names: Name by label; autospine's labels 1..26 by default.
        window: Intensities shown black and white.

    Raises:
        GeometryError: Scan and labels have different shapes.
        StorageError: The disk refuses.
    """
    sets = {"prediction": labels, "reference": reference} if reference is not None else {"": labels}
    orientation = Orientation.to_canonical(volume.grid)
    image = orientation.apply(volume.array[0])
    spacing = orientation.apply_grid(volume.grid).spacing
    # Both sets are shown on the same slices, found on the one that is more to be trusted.
    guide = labels if reference is None else reference
    hatched = np.zeros(volume.grid.shape, dtype=bool) if ignored is None else ignored
    for array in (labels, guide, hatched):
        if array.shape != volume.grid.shape:
            raise GeometryError(f"Labels of shape {array.shape} do not fit a scan of {volume.grid.shape}.")
    curves = _curves(orientation.apply(guide), spacing)
    hatched = orientation.apply(hatched)
    panels = [
        panel
        for heading, array in sets.items()
        for panel in _panels(heading, (image, orientation.apply(array), hatched), spacing, curves)
    ]
    known = names or {label: anatomy.name_of(label) for label in anatomy.COLUMN_LABELS}
    figure = _figure(panels, title, known, window)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def colour_of(label: int) -> tuple[float, float, float]:
    """A label's colour, red, green and blue in 0..1; neighbouring vertebrae differ clearly."""
    order = anatomy.rank_of(label) if label in anatomy.COLUMN_LABELS else label
    red, green, blue, _ = _PALETTE(order % _PALETTE.N)
    return red, green, blue


def _curves(labels: IntArray, spacing: Triple) -> tuple[IntArray, IntArray]:
    """For every axial slice the row (y) and the column (x) where the vertebral bodies are."""
    depth, height, width = labels.shape
    centres = [np.argwhere(labels == value).mean(axis=0) for value in np.unique(labels) if value > 0]
    if not centres:
        return np.full(depth, height // 2), np.full(depth, width // 2)
    knots = np.array(sorted(centres, key=lambda centre: float(centre[0])))
    z = np.arange(depth)
    rows = np.interp(z, knots[:, 0], knots[:, 1]) - _BODY_AHEAD / spacing[1]
    columns = np.interp(z, knots[:, 0], knots[:, 2])
    return (
        np.clip(np.rint(rows), 0, height - 1).astype(int),
        np.clip(np.rint(columns), 0, width - 1).astype(int),
    )


def _panels(
    heading: str,
    shown: tuple[IntArray, IntArray, NDArray[np.bool_]],
    spacing: Triple,
    curves: tuple[IntArray, IntArray],
) -> list[_Panel]:
    """The sagittal and the coronal slice of intensities, labels and ignored voxels."""
    rows, columns = curves
    z = np.arange(len(rows))
    image, labels, ignored = (array[z, :, columns] for array in shown)
    sagittal = _Panel(heading, image, labels, ignored, (spacing[0], spacing[1]), named=True)
    image, labels, ignored = (array[z, rows] for array in shown)
    coronal = _Panel("", image, labels, ignored, (spacing[0], spacing[2]), named=False)
    return [sagittal, coronal]


def _figure(
    panels: list[_Panel], title: str, names: Mapping[int, str], window: tuple[float, float]
) -> Figure:
    lefts, right = [], _GAP
    for panel in panels:
        lefts.append(right)
        right += panel.width + (_NAMES if panel.named else _GAP)
    total = _HEIGHT + _TITLE + _GAP
    figure = Figure(figsize=(max(right, 2.0), total), dpi=100, facecolor="black")
    FigureCanvasAgg(figure)
    for panel, left in zip(panels, lefts, strict=True):
        frame = (left / right, _GAP / total, panel.width / right, _HEIGHT / total)
        _draw(figure.add_axes(frame), panel, names, window)
    figure.text(_GAP / right, 1 - 0.1 / total, title, color="white", fontsize=11, va="top")
    return figure


def _draw(axes: Any, panel: _Panel, names: Mapping[int, str], window: tuple[float, float]) -> None:
    rows, columns = panel.image.shape
    shown = {"origin": "lower", "aspect": "auto", "extent": (0, columns, 0, rows)}
    axes.imshow(panel.image, cmap="gray", vmin=window[0], vmax=window[1], **shown)
    overlay = np.zeros((rows, columns, 4))
    for value in np.unique(panel.labels[panel.labels > 0]):
        where = panel.labels == value
        overlay[where] = (*colour_of(int(value)), _OPACITY)
        if panel.named:
            height = float(np.argwhere(where)[:, 0].mean()) + 0.5
            text = names.get(int(value), str(value))
            axes.text(
                columns * 1.01,
                height,
                text,
                color=colour_of(int(value)),
                fontsize=11,
                fontweight="bold",
                va="center",
            )
    axes.imshow(overlay, interpolation="nearest", **shown)
    if panel.ignored.any():
        hatch, colour = _HATCH
        across, up = np.arange(columns) + 0.5, np.arange(rows) + 0.5
        hatched = axes.contourf(across, up, panel.ignored, levels=(0.5, 1.5), colors="none", hatches=[hatch])
        hatched.set(edgecolor=colour, linewidth=0)
    axes.text(2, 2, panel.heading, color="white", fontsize=10, va="bottom")
    axes.set_axis_off()
