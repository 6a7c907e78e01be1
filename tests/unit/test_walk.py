"""Walks along phantoms, led by networks that read the answer off the image, and by hostile ones."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autospine.core import anatomy
from autospine.inference.decoding import decode_sequence
from autospine.inference.walk import WalkSettings, stops, walk

_SPEC = importlib.util.spec_from_file_location(
    "phantom_columns", Path(__file__).with_name("phantom_columns.py")
)
phantoms = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(phantoms)

CPU = torch.device("cpu")
CONFIGURATION = phantoms.configuration((24, 24, 22), view="walk")
LEAST = 16  # 1000 mm³ in voxels of 64 mm³


class Guide:
    """Outlines the first vertebra of its patch that is not in memory; counts how often it is asked.

    Args:
        whole: Completeness it tells, as a logit, by channel.
    """

    def __init__(self, whole=None):
        self.calls = 0
        self.whole = whole or {}

    def __call__(self, patches):
        self.calls += 1
        assert patches.shape == (1, 2, *CONFIGURATION.patch)
        image, memory = patches[0].numpy()
        outputs = np.full((28, *image.shape), -9.0, dtype=np.float32)
        outputs[0] = 9.0
        for channel in anatomy.COLUMN_LABELS:
            mask = image == channel
            if mask.sum() >= LEAST and memory[mask].mean() < 0.5:
                outputs[0, mask], outputs[channel, mask] = -9.0, 9.0
                outputs[-1] = self.whole.get(channel, 0.0)
                break
        return torch.from_numpy(outputs)[None]


@pytest.fixture(scope="module")
def column():
    return phantoms.column(2, "thoracolumbar")


def image_of(column):
    """Intensities that tell the label, in air."""
    return np.where(column.labels > 0, column.labels, phantoms.AIR)[None].astype(np.float32)


def all_stops(networks, column, settings=WalkSettings(), configuration=CONFIGURATION):  # noqa: B008
    return list(stops(networks, image_of(column), column.trace, configuration, column.plan(), CPU, settings))


def names_of(found):
    return [int(stop.vertebra.names.argmax()) for stop in found]


@pytest.mark.parametrize(
    ("view", "axes", "orientations", "oblique"),
    [
        ("thoracolumbar", (0, 1, 2), ("SPL",), 0.0),
        ("thoracolumbar", (2, 0, 1), ("RIA",), 8.0),
        ("full", (1, 2, 0), ("PIR",), 12.0),
    ],
)
def test_every_vertebra_is_visited_from_head_to_foot(view, axes, orientations, oblique):
    column = phantoms.column(2, view, axes, orientations, oblique)
    guide = Guide()
    assert names_of(all_stops([guide], column)) == list(column.world)
    made = walk([guide], image_of(column), column.trace, CONFIGURATION, column.plan(), CPU)
    assert (made.class_map() != column.labels).sum() < 0.02 * (column.labels > 0).sum()
    decoded = decode_sequence([made], [1.0], column.plan())
    assert [vertebra.label for vertebra in decoded.column.vertebrae] == list(column.world)


def test_centres_are_those_of_the_bodies(column):
    for stop, centre in zip(all_stops([Guide()], column), column.centres.values(), strict=True):
        assert np.linalg.norm(np.subtract(stop.vertebra.centre, centre)) * 4.0 < 5.0


def test_a_small_scan_lies_within_one_patch():
    column = phantoms.column(3, "lumbar")
    configuration = replace(CONFIGURATION, patch=(100, 80, 90))
    guide = Guide()

    def cropping(patches):
        assert patches.shape[2:] == (100, 80, 90)
        return guide_any_size(guide, patches)

    assert names_of(all_stops([cropping], column, configuration=configuration)) == list(column.world)


def guide_any_size(guide, patches):
    image = patches[0, 0].numpy()
    outputs = np.full((28, *image.shape), -9.0, dtype=np.float32)
    outputs[0] = 9.0
    for channel in anatomy.COLUMN_LABELS:
        mask = image == channel
        if mask.sum() >= LEAST and patches[0, 1].numpy()[mask].mean() < 0.5:
            outputs[0, mask], outputs[channel, mask] = -9.0, 9.0
            break
    return torch.from_numpy(outputs)[None]


def test_how_whole_a_vertebra_is_said_to_be_is_noted_and_it_is_kept(column):
    first, second, *_ = column.world
    found = all_stops([Guide({first: -2.0, second: 3.0})], column)
    assert found[0].whole == pytest.approx(1 / (1 + np.exp(2.0)))
    assert found[1].whole == pytest.approx(1 / (1 + np.exp(-3.0)))
    assert len(found) == len(column.world)


def test_names_are_the_mean_over_the_vertebra(column):
    guide = Guide()

    def unsure(patches):
        outputs = guide(patches)
        outputs[:, 5] = torch.where(outputs[:, 0] < 0, 9.0 - np.log(3.0), -9.0)
        return outputs

    vertebra = all_stops([unsure], column)[0].vertebra
    own = next(iter(column.world))
    assert vertebra.names[own] == pytest.approx(0.75, abs=1e-3)
    assert vertebra.names[5] == pytest.approx(0.25, abs=1e-3)
    assert vertebra.names[0] == 0
    assert vertebra.names.sum() == pytest.approx(1)


def test_folds_are_averaged(column):
    def silent(patches):
        outputs = torch.zeros((1, 28, *patches.shape[2:]))
        outputs[:, 0] = 30.0  # outvotes the guide's 18
        return outputs

    assert all_stops([Guide(), silent], column) == []


def test_air_is_not_looked_at(column):
    guide = Guide()
    air = np.full((1, *column.trace.shape), phantoms.AIR, dtype=np.float16).astype(np.float32)
    assert list(stops([guide], air, column.trace, CONFIGURATION, column.plan(), CPU)) == []
    assert guide.calls == 0


def test_a_previous_stages_channels_and_the_memory_come_after_the_image(column):
    seen = []

    def spy(patches):
        seen.append(patches.clone())
        return Guide()(patches[:, [0, 2]])

    image = np.concatenate([image_of(column), np.full((1, *column.trace.shape), 0.5, dtype=np.float32)])
    settings = WalkSettings(most=2)
    found = list(stops([spy], image, column.trace, CONFIGURATION, column.plan(), CPU, settings))
    assert names_of(found) == list(column.world)[:2]
    assert all(patch.shape[1] == 3 for patch in seen)
    assert not seen[0][:, 2].any()
    assert seen[-1][:, 2].any()
    assert {0.0, 0.5} >= set(seen[-1][:, 1].unique().tolist())


def test_no_more_than_so_many_vertebrae(column):
    assert names_of(all_stops([Guide()], column, WalkSettings(most=3))) == list(column.world)[:3]


def test_fragments_must_be_large_enough(column):
    assert all_stops([Guide()], column, WalkSettings(least_volume=1e6)) == []
    settings = WalkSettings()
    assert settings.least(1.0) == 1000
    assert settings.least(64.0) == LEAST
    assert settings.least(512.0) == 15


def everything(patches):
    outputs = torch.zeros((1, 28, *patches.shape[2:]))
    outputs[:, 7] = 5.0
    return outputs


def nothing_but_noise():
    generator = torch.Generator().manual_seed(0)

    def network(patches):
        coarse = torch.randn((1, 28, 6, 6, 6), generator=generator) * 9
        return torch.nn.functional.interpolate(coarse, patches.shape[2:])

    return network


def runs_away(patches):
    """Sees something in the far corner, wherever it looks."""
    outputs = torch.zeros((1, 28, *patches.shape[2:]))
    outputs[:, 0] = 9.0
    outputs[:, 0, :4, :4, :4], outputs[:, 7, :4, :4, :4] = -9.0, 9.0
    return outputs


def not_a_number(patches):
    return torch.full((1, 28, *patches.shape[2:]), torch.nan)


@pytest.mark.parametrize(
    ("network", "fewest"), [(everything, 5), (nothing_but_noise(), 5), (runs_away, 0), (not_a_number, 0)]
)
def test_a_walk_ends_whatever_the_network_says(column, network, fewest):
    calls = []

    def counted(patches):
        calls.append(1)
        return network(patches)

    settings = WalkSettings()
    image = np.ones((1, *column.trace.shape), dtype=np.float32)
    found = list(stops([counted], image, column.trace, CONFIGURATION, column.plan(), CPU, settings))
    windows = 7 * 3 * 2  # half a patch apart: 91 x 47 x 29 voxels
    assert fewest <= len(found) <= settings.most
    assert len(calls) <= (windows + 2 * len(found) + windows) * (settings.moves + 1)
    prediction = walk([network], image, column.trace, CONFIGURATION, column.plan(), CPU)
    assert np.isfinite(prediction.logits).all()


def test_a_network_without_memory_finds_no_vertebra_twice(column):
    guide = Guide()

    def forgetful(patches):
        return guide(torch.cat([patches[:, :1], torch.zeros_like(patches[:, 1:])], 1))

    names = names_of(all_stops([forgetful], column))
    assert len(names) == len(set(names))


def test_what_vanishes_when_looked_at_again_is_no_vertebra(column):
    start = []

    def flickers(patches):
        """Sees something once, then nothing in the patch that was moved there."""
        outputs = torch.zeros((1, 28, *patches.shape[2:]))
        outputs[:, 0] = 9.0
        if len(start) % 2 == 0:
            outputs[:, 0, :4, :4, :4], outputs[:, 7, :4, :4, :4] = -9.0, 9.0
        start.append(1)
        return outputs

    image = np.ones((1, *column.trace.shape), dtype=np.float32)
    assert list(stops([flickers], image, column.trace, CONFIGURATION, column.plan(), CPU)) == []
