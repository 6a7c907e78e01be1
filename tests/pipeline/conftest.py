"""One tiny data set and one finished run, shared by the pipeline tests."""

from dataclasses import replace

import pytest

from autospine.cli.main import run
from autospine.phantom.dataset import write_dataset
from autospine.phantom.recipe import DEMO

#: One scan, coarse enough to be learnt by heart in a minute.
ONE = replace(DEMO, spacing=(5.0, 5.5), series=0.0, fractures=0.0)
TINY = replace(DEMO, spacing=(5.0, 6.0), series=0.0, extra_lumbar=0.0, fractures=0.0)

#: Two folds, two epochs of two steps: enough to pass through every line, too little to learn anything.
OPTIONS = (
    *("--split", "2", "--device", "cpu", "--step-seconds", "0.05", "--workers", "1", "--quiet"),
    *("--schedule.epochs", "2", "--schedule.steps", "2", "--schedule.validation-steps", "1"),
    *("--schedule.warmup-steps", "0", "--schedule.deterministic"),
)


@pytest.fixture(scope="session")
def options():
    """Command-line options of every run."""
    return OPTIONS


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Four phantoms to train on and one to predict, in VerSe's layout and any orientation."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_dataset(folder, "verse", 4, 3, TINY, test=1)
    return folder


@pytest.fixture(scope="session")
def dataset(phantoms, tmp_path_factory):
    """The phantoms, converted."""
    folder = tmp_path_factory.mktemp("converted") / "phantom"
    assert run(["convert-verse", str(phantoms), "-o", str(folder), "--workers", "1", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="session")
def finished_run(dataset, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert run(["plan-and-train", str(dataset), "-o", str(folder), *OPTIONS]) == 0
    return folder


@pytest.fixture(scope="session")
def one_phantom(tmp_path_factory):
    """A data set of a single scan."""
    folder = tmp_path_factory.mktemp("one")
    write_dataset(folder / "verse", "verse", 1, 3, ONE)
    dataset = folder / "dataset"
    assert run(["convert-verse", str(folder / "verse"), "-o", str(dataset), "--workers", "1", "--quiet"]) == 0
    return dataset
