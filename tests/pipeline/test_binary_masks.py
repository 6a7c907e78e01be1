"""Learning from masks that tell no vertebra from another: named from an anchor, numbered without one."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core import anatomy
from autospine.io.images import read_labels, write_image
from autospine.phantom.dataset import write_dataset
from autospine.phantom.recipe import DEMO

_SPEC = importlib.util.spec_from_file_location("overfitting", Path(__file__).with_name("overfitting.py"))
overfitting = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(overfitting)

#: Voxels as coarse as those planned for so little time: what is lost between the two cannot be learnt.
RECIPE = replace(DEMO, spacing=(5.3, 5.3), anisotropy=(1.0, 1.0), series=0.0, fractures=0.0)


@pytest.fixture(scope="module")
def stripped(tmp_path_factory):
    """A lumbar phantom whose labels were stripped to vertebra or not, and the mask as it was."""
    folder = tmp_path_factory.mktemp("binary")
    write_dataset(folder / "verse", "verse", 1, 3, RECIPE)
    dataset = folder / "dataset"
    assert run(["convert-verse", str(folder / "verse"), "-o", str(dataset), "--workers", "1", "--quiet"]) == 0
    (path,) = (dataset / "labelsTr").glob("*.nii.gz")
    labels = read_labels(path)
    write_image(path, (labels.array[0] > 0).astype(np.uint8), labels.grid)
    document = dataset / "dataset.json"
    described = json.loads(document.read_text())
    described["labels"] = {"background": 0, "vertebra": 1}
    del described["autospine"]
    document.write_text(json.dumps(described))
    return dataset, labels.array[0]


@pytest.fixture(scope="module")
def trained(stripped, tmp_path_factory):
    """The system that needs no names, with that phantom learnt by heart."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return overfitting.Overfitted(stripped[0], folder, "kmeans_knn", 400)


def predict(trained, target, *options):
    model, scans = trained.run.folder.root, trained.run.dataset.training[0].image
    arguments = ["predict", "-m", str(model), "-i", str(scans), "-o", str(target), "--device", "cpu"]
    assert run([*arguments, "--configurations", "kmeans_knn", "--quiet", *options]) == 0
    (mask,) = target.glob("*.nii.gz")
    (report,) = target.glob("*_vertebrae.json")
    return read_labels(mask).array[0], json.loads(report.read_text())


@pytest.mark.slow
def test_the_mask_is_learnt(trained):
    assert trained.dice(trained.validation_mask()) > 0.9


@pytest.mark.slow
def test_an_anchor_names_every_vertebra_right(trained, stripped, tmp_path):
    truth = stripped[1]
    levels = sorted((int(v) for v in np.unique(truth) if v), key=anatomy.rank_of)
    mask, report = predict(trained, tmp_path / "named", "--anchor", anatomy.name_of(levels[0]))
    assert [v["name"] for v in report["vertebrae"]] == [anatomy.name_of(level) for level in levels]
    assert report["named"]
    for level in levels:
        found, true = mask == level, truth == level
        overlap = 2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true))
        assert overlap > 0.7


@pytest.mark.slow
def test_without_an_anchor_there_are_numbers_and_no_names(trained, stripped, tmp_path):
    count = len(np.unique(stripped[1])) - 1
    mask, report = predict(trained, tmp_path / "numbered")
    assert np.unique(mask).tolist() == list(range(count + 1))
    assert not report["named"]
    assert not {v["name"] for v in report["vertebrae"]} & set(anatomy.COLUMN)
