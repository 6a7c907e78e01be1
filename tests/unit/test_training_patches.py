"""Training's examples do not depend on how much is read around a patch, on workers or on a restart."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from autospine.augmentation.affine import largest_margins
from autospine.core.dataset import LabelSchema
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Augmentation, Configuration, NetworkSpec, Normalisation, Plan, Schedule
from autospine.core.run import FoldTask
from autospine.core.trace import Trace
from autospine.io.store import save_array
from autospine.preprocessed import StoredCase, save_case
from autospine.trainers import patches
from autospine.trainers.patches import training_examples, validation_examples

CPU = torch.device("cpu")
SHAPE = (40, 30, 28)
PATCH = (14, 12, 10)
STEPS = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A stored case of noise in which two boxes are labelled, and what a previous stage said of it."""
    folder = tmp_path_factory.mktemp("data")
    grid = Grid(SHAPE, (1.0, 1.0, 1.0))
    trace = Trace(grid, Orientation.to_canonical(grid), Box.whole(SHAPE), (0, 1, 2), SHAPE)
    labels = np.zeros(SHAPE, dtype=np.int8)
    labels[4:16, 8:20, 6:18], labels[20:34, 8:20, 6:18] = 1, 2
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32)
    centres = {1: (9.5, 13.5, 11.5), 2: (26.5, 13.5, 11.5)}
    save_case(folder, StoredCase("case", trace, "hash", centres), image, labels, PATCH)
    save_array(folder / "previous" / "case.b2nd", labels)
    return folder


@pytest.fixture
def task_with(data, tmp_path):
    """Makes tasks whose configuration differs."""

    def make(probability=0.6, previous=False, **changes):
        names = [name for name in Augmentation.__dataclass_fields__ if name.endswith("_probability")]
        schedule = Schedule(augmentation=Augmentation(**dict.fromkeys(names, probability)), workers=1)
        configuration = Configuration(
            name="x",
            axes=(0, 1, 2),
            spacing=(1.0, 1.0, 1.0),
            patch=PATCH,
            batch_size=3,
            median_shape=(40.0, 30.0, 28.0),
            network=NetworkSpec("plain_unet", (4,), ((3, 3, 3),), ((1, 1, 1),), (1,), ()),
            crop="body",
            normalisation=(Normalisation("ct", -1000, 1000, 0, 1),),
            padding=(-1.5,),
            mirror_axes=(0, 1, 2),
            batch_dice=False,
            schedule=schedule,
        )
        configuration = replace(configuration, **changes)
        schema = LabelSchema.vertebral_column()
        plan = Plan("toy", "spine", schema, (0, 1, 2), (configuration,))
        fed = data / "previous" if previous else None
        return FoldTask(plan, configuration, 0, ("case",), ("case",), data, fed, tmp_path, "cpu")

    return make


def examples(task, start=0, count=STEPS):
    with training_examples(task, start, CPU) as stream:
        return list(islice(stream, count))


def assert_alike(found, expected, atol):
    assert found.image.dtype == expected.image.dtype == torch.float32
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=atol)
    assert (found.labels != expected.labels).float().mean() <= atol
    if expected.extra is not None:
        torch.testing.assert_close(found.extra, expected.extra, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"patch": (14, 12), "mirror_axes": (0, 1)},
        {"view": "vertebrae", "previous_stage": "coarse", "feed": "none"},
        {"view": "walk"},
        {"centres": True},
    ],
)
def test_as_much_is_read_as_is_needed(task_with, changes, monkeypatch):
    task = task_with(**changes)
    fitted = examples(task)
    configuration = task.configuration
    largest = largest_margins(configuration)
    assert all(largest)
    monkeypatch.setattr(patches, "_margins", lambda *_: [largest] * configuration.batch_size)
    for found, expected in zip(fitted, examples(task), strict=True):
        assert found.labels.shape == (3, *configuration.patch)
        assert_alike(found, expected, 1e-3)


def test_without_augmentation_a_patch_is_what_is_stored(task_with):
    task = task_with(0.0, mirror_axes=())
    loader = patches.training_loader(task, 0)
    for step, example in enumerate(examples(task)):
        batch = loader.batch(step)
        assert torch.equal(example.image, torch.from_numpy(np.stack(batch["image"]).astype(np.float32)))
        assert torch.equal(example.labels, torch.from_numpy(np.stack(batch["labels"])))


@pytest.mark.parametrize("previous", [False, True])
def test_a_restart_and_more_workers_change_nothing(task_with, previous):
    task = task_with(previous=previous, previous_stage="coarse" if previous else None)
    whole = examples(task)
    assert whole[0].image.shape[1] == (3 if previous else 1)
    schedule = replace(task.configuration.schedule, workers=3)
    other = replace(task, configuration=replace(task.configuration, schedule=schedule))
    for found, expected in zip(examples(other, 2, STEPS - 2), whole[2:], strict=True):
        assert_alike(found, expected, 0.0)


def test_validation_sees_patches_as_they_are_in_float32(task_with):
    with validation_examples(task_with(), 0, CPU) as stream:
        example = next(stream)
    assert example.image.shape == (3, 1, *PATCH)
    assert example.image.dtype == torch.float32
    assert example.labels.shape == (3, *PATCH)
