from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core.dataset import LabelSchema
from autospine.core.ensemble import Ensemble, Member, PostProcessing
from autospine.core.errors import DataError, DocumentError, GeometryError, UsageError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Plan
from autospine.core.trace import Trace
from autospine.inference.prediction import Prediction
from autospine.inference.stored import merge_folders
from autospine.io import documents
from autospine.io.images import read_image

SCHEMA = LabelSchema({0: "background", 1: "L1", 2: "L2"})
PLAN = Plan("toy", "spine", SCHEMA, (0, 1, 2), ())
GRID = Grid((3, 4, 10), (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
TRACE = Trace(
    GRID, Orientation((0, 1, 2), (False, False, False)), Box.whole(GRID.shape), (0, 1, 2), GRID.shape
)


def store(folder, case, label, strength, trace=TRACE):
    """Logits that say ``label`` in the left half, and again in the last column."""
    logits = np.zeros((3, *trace.shape), np.float16)
    logits[0] = 1
    logits[label, ..., :5] = logits[label, ..., -1] = strength
    Prediction(logits, trace).save(folder / case)


@pytest.fixture
def folders(tmp_path):
    """Two folders that disagree: the first says 1 with some confidence, the second 2 with more."""
    for name, label, strength in (("one", 1, 5), ("two", 2, 7)):
        for case in ("a", "b.c"):
            store(tmp_path / name, case, label, strength)
        documents.save(tmp_path / name / "plan.json", PLAN)
    return [tmp_path / "one", tmp_path / "two"], tmp_path / "merged"


def first_voxel(path):
    return int(read_image(path).array[0, 0, 0, 0])


def test_masks_lie_on_the_scans_grid(folders):
    inputs, output = folders
    masks = merge_folders(inputs, output)
    assert [path.name for path in masks] == ["a.nii.gz", "b.c.nii.gz"]
    assert read_image(masks[0]).grid.same_as(GRID)
    assert read_image(masks[0]).array[0, 0, 0].tolist() == [2] * 5 + [0] * 4 + [2]


def test_weights_decide(folders):
    inputs, output = folders
    assert first_voxel(merge_folders(inputs, output)[0]) == 2
    assert first_voxel(merge_folders(inputs, output, [2, 1], force=True)[0]) == 1


def test_post_processing_is_applied(folders):
    inputs, output = folders
    mask = read_image(merge_folders(inputs, output, post_processing=PostProcessing(labels=(2,)))[0])
    assert mask.array[0, 0, 0].tolist() == [2] * 5 + [0] * 5


def test_masks_are_replaced_by_force_only(folders):
    inputs, output = folders
    merge_folders(inputs[:1], output)
    with pytest.raises(UsageError, match=r"a\.nii\.gz.*--force"):
        merge_folders(inputs, output)
    assert first_voxel(output / "a.nii.gz") == 1
    merge_folders(inputs, output, force=True)
    assert first_voxel(output / "a.nii.gz") == 2


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")]])
def test_unusable_weights(folders, weights):
    with pytest.raises(UsageError, match="weight"):
        merge_folders(*folders, weights)


def test_nothing_to_merge(tmp_path):
    with pytest.raises(UsageError, match="nothing to merge"):
        merge_folders([], tmp_path)


@pytest.mark.parametrize("fuller", [0, 1])
def test_the_cases_must_agree(folders, fuller):
    inputs, output = folders
    store(inputs[fuller], "extra", 1, 5)
    with pytest.raises(DataError, match=rf"{inputs[1 - fuller]}.*1 cases of {inputs[fuller]}.*first extra"):
        merge_folders(inputs, output)


def test_the_classes_must_agree(folders):
    inputs, output = folders
    other = replace(PLAN, labels=LabelSchema({0: "background", 1: "L1", 2: "L3"}))
    documents.save(inputs[1] / "plan.json", other)
    with pytest.raises(DataError, match="classes"):
        merge_folders(inputs, output)


def test_the_scans_must_agree(folders):
    inputs, output = folders
    store(inputs[1], "b.c", 2, 7, replace(TRACE, grid=replace(GRID, spacing=(2.0, 1.0, 1.1))))
    with pytest.raises(GeometryError, match=r"b\.c here and in .*one"):
        merge_folders(inputs, output)


def test_folders_without_predictions(folders, tmp_path):
    inputs, output = folders
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match=r"empty/plan\.json"):
        merge_folders([*inputs, tmp_path / "empty"], output)
    documents.save(tmp_path / "empty/plan.json", PLAN)
    with pytest.raises(DataError, match="--save-probabilities"):
        merge_folders([*inputs, tmp_path / "empty"], output)


def test_command(folders, capsys):
    (one, two), output = folders
    command = ["ensemble", "-i", str(one), str(two), "-o", str(output), "--weights", "2", "1"]
    assert run(command) == 0
    assert "Merged 2 cases of 2 folders" in capsys.readouterr().out
    assert first_voxel(output / "a.nii.gz") == 1
    assert run(command) == 2
    assert "--force" in capsys.readouterr().err
    chosen = Ensemble((Member("x", (0,)),), PostProcessing(labels=(1,)))
    documents.save(output / "ensemble.json", chosen)
    post = ["--post-processing", str(output / "ensemble.json"), "--force", "--json"]
    assert run([*command, *post]) == 0
    assert json.loads(capsys.readouterr().out) == [str(output / "a.nii.gz"), str(output / "b.c.nii.gz")]
    assert read_image(output / "a.nii.gz").array[0, 0, 0, -1] == 0
