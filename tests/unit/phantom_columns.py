"""Phantom columns on the grid of a network, and the plan and configuration that go with them."""

from dataclasses import dataclass, replace

import numpy as np

from autospine.core import anatomy
from autospine.core.dataset import LabelSchema
from autospine.core.findings import Located
from autospine.core.geometry import Box, Orientation
from autospine.core.plan import Configuration, NetworkSpec, Normalisation, Plan
from autospine.core.trace import Trace
from autospine.phantom import DEMO, generate
from autospine.resampling import resample_labels
from autospine.vertebrae.statistics import ObservedColumn, learn_column

#: Label values are channel indices; T13, the last one, stands between T12 and L1.
CLASSES = tuple(range(27))
SPACING = (4.0, 4.0, 4.0)
AIR = -2.0


@dataclass(frozen=True)
class Column:
    """A phantom as a network sees it.

    Args:
        labels: Channel indices, int8 of shape ``trace.shape``.
        trace: From the scan to the labels.
        world: Centre of each vertebra's body by channel, LPS mm; from head to foot.
    """

    labels: np.ndarray
    trace: Trace
    world: dict[int, tuple[float, float, float]]

    @property
    def centres(self):
        """In voxels of the stored grid."""
        return {c: tuple(self.trace.stored_grid.to_index(p).tolist()) for c, p in self.world.items()}

    @property
    def volumes(self):
        """mm³ by channel."""
        voxel = self.trace.stored_grid.voxel_volume
        return {c: float((self.labels == c).sum() * voxel) for c in self.world}

    @property
    def located(self):
        """The vertebrae as a perfect stage would have found them."""
        return [Located(world, one_hot(channel)) for channel, world in self.world.items()]

    def plan(self, **changes):
        """A plan that knows this column."""
        known = learn_column([ObservedColumn(self.world, self.volumes)], anatomy.COLUMN_LABELS)
        return Plan("toy", "spine", LabelSchema.vertebral_column(), CLASSES, (), column=known, **changes)


def column(seed=1, view="lumbar", axes=(0, 1, 2), orientations=("SPL",), oblique=0.0):
    """A phantom, resampled to ``SPACING``, its upper and lower border cut off by two voxels."""
    recipe = replace(
        DEMO,
        field_of_view=view,
        spacing=(4.2, 4.2),
        anisotropy=(1.0, 1.0),
        orientations=orientations,
        oblique=oblique,
    )
    made = generate(recipe, seed)
    grid = made.labels.grid
    orientation = Orientation.to_canonical(grid)
    canonical = orientation.apply_grid(grid)
    box = Box((2, 0, 0), (canonical.shape[0] - 2, *canonical.shape[1:]))
    size = [round(n * s / t) for n, s, t in zip(box.shape, canonical.spacing, SPACING, strict=True)]
    trace = Trace(grid, orientation, box, axes, tuple(size[a] for a in axes))
    cropped = orientation.apply(made.labels.array[0].astype(np.int8))[box.slices]
    labels = resample_labels(Orientation.permutation(axes).apply(cropped), trace.shape)
    present = [c for c in anatomy.COLUMN_LABELS if (labels == c).any()]
    return Column(labels, trace, {c: made.centroids[c] for c in present})


def configuration(patch, **changes):
    """One with that patch, and the spacing of the phantoms."""
    d = len(patch)
    values = {
        "name": "test",
        "axes": (0, 1, 2),
        "spacing": SPACING,
        "patch": patch,
        "batch_size": 1,
        "median_shape": (1.0, 1.0, 1.0),
        "network": NetworkSpec("plain_unet", (4,), ((3,) * d,), ((1,) * d,), (1,), ()),
        "crop": "body",
        "normalisation": (Normalisation("ct", -1000, 1000, 0, 1),),
        "padding": (AIR,),
        "mirror_axes": (),
        "batch_dice": False,
    }
    return Configuration(**(values | changes))


def one_hot(channel):
    """All probability on one channel."""
    return tuple(float(c == channel) for c in CLASSES)
