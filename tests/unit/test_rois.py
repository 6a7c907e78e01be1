"""Regions around located vertebrae of a phantom, shown to networks that read the answer off the image."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autospine.core.findings import Located
from autospine.inference.decoding import decode_sequence
from autospine.inference.instances import merge_instances
from autospine.inference.rois import outlined

_SPEC = importlib.util.spec_from_file_location(
    "phantom_columns", Path(__file__).with_name("phantom_columns.py")
)
phantoms = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(phantoms)

CPU = torch.device("cpu")
PATCH = (30, 36, 28)
#: One that is mirrored: what a network says must be mirrored back.
CONFIGURATION = phantoms.configuration(PATCH, view="vertebrae", previous_stage="first", mirror_axes=(0, 2))


@pytest.fixture(scope="module")
def column():
    return phantoms.column(2, "thoracolumbar")


def predict_regions(networks, image, located, trace, configuration, plan, device, **options):
    """What is outlined, put together."""
    found = outlined(networks, image, located, trace, configuration, device, **options)
    return merge_instances(found, trace, plan)


def image_of(column):
    """Intensities that tell the label."""
    return column.labels[None].astype(np.float32)


def outlines_what_is_hottest(patches):
    """The vertebra whose label stands where the last channel has its maximum."""
    outputs = []
    for sample in patches:
        label = sample[0].flatten()[sample[-1].argmax()]
        odds = torch.where((sample[0] == label) & (label > 0), 5.0, -5.0)
        outputs.append(torch.stack([-odds / 2, odds / 2]))
    return torch.stack(outputs)


def outlines_nothing(patches):
    return torch.stack([torch.full_like(patches[:, 0], 3.0), torch.zeros_like(patches[:, 0])], 1)


@pytest.mark.parametrize(
    ("axes", "orientations", "oblique"),
    [((0, 1, 2), ("SPL",), 0.0), ((2, 0, 1), ("RIA",), 8.0), ((1, 2, 0), ("PIR",), 12.0)],
)
def test_every_located_vertebra_is_outlined_and_keeps_its_name(axes, orientations, oblique):
    column = phantoms.column(2, "thoracolumbar", axes, orientations, oblique)
    plan = column.plan()
    made = predict_regions(
        [outlines_what_is_hottest], image_of(column), column.located, column.trace, CONFIGURATION, plan, CPU
    )
    # Coarse voxels leave a few tips of processes unconnected.
    assert (made.class_map() != column.labels).sum() < 0.01 * (column.labels > 0).sum()
    decoded = decode_sequence([made], [1.0], plan)
    assert [vertebra.label for vertebra in decoded.column.vertebrae] == list(column.world)


def test_names_that_were_told_stay_as_they_are(column):
    names = [0.0] * 27
    names[20], names[21] = 0.75, 0.25
    told = [replace(v, names=tuple(names)) for v in column.located[3:4]]
    made = predict_regions(
        [outlines_what_is_hottest], image_of(column), told, column.trace, CONFIGURATION, column.plan(), CPU
    )
    own = column.labels == list(column.world)[3]
    powers = np.exp(made.logits[:, own].astype(np.float64))
    shares = (powers / powers.sum(axis=0)).max(axis=1)
    assert shares[20] / shares[21] == pytest.approx(3, rel=0.02)


def test_a_network_sees_the_region_and_where_the_centre_is(column):
    seen = []

    def spy(patches):
        seen.append(patches)
        return outlines_nothing(patches)

    image = np.concatenate([image_of(column), np.ones((1, *column.trace.shape), dtype=np.float32)])
    top = column.located[0]
    configuration = replace(CONFIGURATION, patch=(40, 40, 40), mirror_axes=())
    predict_regions([spy], image, [top], column.trace, configuration, column.plan(), CPU)
    (patch,) = seen[0]
    assert patch.shape == (3, 40, 40, 40)
    centre = np.array(column.centres[next(iter(column.world))])
    start = np.rint(centre - 19.5).astype(int)
    assert (patch[0, -1] == phantoms.AIR).all(), "above the scan is air"
    assert (patch[1, -1] == 0).all(), "and nothing that the previous stage has said"
    places = np.argwhere(np.ones((40, 40, 40))) + start
    squared = (((places - centre) * 4.0) ** 2).sum(axis=1)
    np.testing.assert_allclose(patch[2].flatten(), np.exp(-squared / (2 * 6.0**2)), atol=1e-5)


def test_networks_and_mirrorings_are_averaged(column):
    calls = []

    def sure(sign):
        def network(patches):
            calls.append(len(patches))
            odds = torch.full_like(patches[:, 0], sign)
            return torch.stack([torch.zeros_like(odds), odds], 1)

        return network

    made = predict_regions(
        [sure(4.0), sure(-1.0)],
        image_of(column),
        column.located[:6],
        column.trace,
        CONFIGURATION,
        column.plan(),
        CPU,
    )
    assert calls == [4] * 8 + [2] * 8
    first = next(iter(column.world))
    assert made.logits[first].max() == pytest.approx(1.5, abs=1e-2)
    plain = []
    predict_regions(
        [lambda p: plain.append(len(p)) or outlines_nothing(p)],
        image_of(column),
        column.located[:1],
        column.trace,
        CONFIGURATION,
        column.plan(),
        CPU,
        mirror=False,
    )
    assert plain == [1]


def test_vertebrae_far_outside_the_scan_are_left_out(column):
    x, y, z = column.located[0].centre
    away = Located((x, y, z + 1000.0), phantoms.one_hot(3))
    made = predict_regions(
        [outlines_what_is_hottest], image_of(column), [away], column.trace, CONFIGURATION, column.plan(), CPU
    )
    assert not made.class_map().any()


def test_the_centre_is_found_anew_in_the_outline(column):
    told = [replace(v, centre=(v.centre[0], v.centre[1], v.centre[2] + 5.0)) for v in column.located[4:5]]
    true = np.array(column.located[4].centre)
    arguments = (
        [outlines_what_is_hottest],
        image_of(column),
        told,
        column.trace,
        CONFIGURATION,
        column.plan(),
        CPU,
    )
    (found,) = decode_sequence([predict_regions(*arguments)], [1.0], column.plan()).column.vertebrae
    assert np.linalg.norm(np.array(found.centre) - true) < 3.0


def test_an_outline_far_from_what_was_told_does_not_move_the_centre(column):
    def outlines_the_lowest_slices(patches):
        odds = torch.full_like(patches[:, 0], -5.0)
        odds[:, :3] = 5.0
        return torch.stack([torch.zeros_like(odds), odds], 1)

    configuration = replace(CONFIGURATION, mirror_axes=())
    vertebra = column.located[5]
    made = predict_regions(
        [outlines_the_lowest_slices],
        image_of(column),
        [vertebra],
        column.trace,
        configuration,
        column.plan(),
        CPU,
    )
    own = np.argwhere(made.class_map() == list(column.world)[5])
    told = np.array(column.centres[list(column.world)[5]])
    vectors = made.centres[1:, own[:, 0], own[:, 1], own[:, 2]].T / column.trace.stored_grid.spacing
    np.testing.assert_allclose(own + vectors, np.broadcast_to(told, own.shape), atol=0.02)


def test_no_vertebrae_no_work(column):
    def never(patches):
        raise AssertionError("there is nothing to outline")

    made = predict_regions([never], image_of(column), [], column.trace, CONFIGURATION, column.plan(), CPU)
    assert not made.class_map().any()
