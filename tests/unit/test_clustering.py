"""A binary prediction of a phantom, its vertebrae told apart and named from one that is known."""

from dataclasses import replace

import numpy as np
import pytest

from autospine.core import anatomy
from autospine.core.anchor import Anchor
from autospine.core.dataset import LabelSchema
from autospine.core.errors import DataError, UsageError
from autospine.core.geometry import Box, Orientation
from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.inference.clustering import decode_clusters, export_joined
from autospine.inference.prediction import Prediction
from autospine.phantom import DEMO, generate

COLUMN = LabelSchema.vertebral_column()
NAMED = Plan("toy", "spine", COLUMN, tuple(range(27)), ())
BINARY = Plan("toy", "spine", LabelSchema({0: "background", 1: "bone"}), (0, 1), ())
RECIPE = replace(DEMO, spacing=(2.5, 2.5), anisotropy=(1.0, 1.0), field_of_view="lumbar")


@pytest.fixture(scope="module")
def phantom():
    """A lumbar scan with its labels, in a flipped and oblique orientation."""
    return generate(replace(RECIPE, orientations=("ARI",), oblique=8.0), 4)


def predicted(phantom, plan):
    """What a perfect binary network says, on the oriented scan's own voxels."""
    grid = phantom.labels.grid
    orientation = Orientation.to_canonical(grid)
    labels = orientation.apply(phantom.labels.array[0])
    trace = Trace(grid, orientation, Box.whole(labels.shape), (0, 1, 2), labels.shape)
    foreground = np.where(labels > 0, 6.0, -6.0).astype(np.float32)
    binary = Prediction(np.stack([-foreground, foreground]), trace)
    return binary.spread_over(plan.vertebra_channels, len(plan.classes))


def levels(phantom):
    present = [int(v) for v in np.unique(phantom.labels.array) if v]
    return sorted(present, key=anatomy.rank_of)


def dice(first, second, value):
    one, two = first == value, second == value
    return 2 * np.count_nonzero(one & two) / (np.count_nonzero(one) + np.count_nonzero(two))


@pytest.mark.parametrize("plan", [NAMED, BINARY], ids=["named", "binary"])
@pytest.mark.parametrize("position", ["first", "last"])
def test_one_known_vertebra_names_all(phantom, plan, position):
    present = levels(phantom)
    anchor = Anchor(present[0 if position == "first" else -1], position)
    decoded = decode_clusters([predicted(phantom, plan)], [1.0], plan, anchor)
    truth = phantom.labels.array[0]
    assert [v.name for v in decoded.column.vertebrae] == [anatomy.name_of(level) for level in present]
    assert min(dice(decoded.labels, truth, level) for level in present) > 0.8
    assert decoded.column.named
    assert decoded.column.doubts == ()


def test_without_an_anchor_vertebrae_are_numbered_and_nothing_is_named(phantom):
    decoded = decode_clusters([predicted(phantom, BINARY)], [1.0], BINARY)
    count = len(levels(phantom))
    assert sorted(np.unique(decoded.labels)) == list(range(count + 1))
    assert [v.label for v in decoded.column.vertebrae] == list(range(1, count + 1))
    assert not decoded.column.named
    assert "anchor" in decoded.column.doubts[0]
    assert not {v.name for v in decoded.column.vertebrae} & set(anatomy.COLUMN)


def test_an_anchor_that_leads_beyond_the_column_is_refused(phantom):
    with pytest.raises(UsageError, match="ends at L6"):
        decode_clusters([predicted(phantom, BINARY)], [1.0], BINARY, Anchor(anatomy.label_of("L4")))


def test_a_name_that_the_data_set_lacks_is_refused(phantom):
    few = LabelSchema({0: "background", 1: "L1", 2: "L2"})
    plan = Plan("toy", "spine", few, (0, 1, 2), ())
    with pytest.raises(DataError, match="no label for"):
        decode_clusters([predicted(phantom, plan)], [1.0], plan, Anchor(anatomy.label_of("T11")))


def test_an_empty_mask_has_no_vertebrae(phantom):
    full = predicted(phantom, BINARY)
    empty = Prediction(np.stack([full.logits[1] * 0 + 5, full.logits[1] * 0 - 5]), full.trace)
    decoded = decode_clusters([empty], [1.0], BINARY, Anchor(20))
    assert decoded.column.vertebrae == ()
    assert not decoded.labels.any()


def test_the_joined_mask_is_that_of_all_vertebrae(phantom):
    mask, one = export_joined([predicted(phantom, NAMED)], [1.0], NAMED)
    assert one == 1
    assert np.array_equal(mask == one, phantom.labels.array[0] > 0)
