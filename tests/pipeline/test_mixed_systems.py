"""Published systems beside a U-Net: one run, one leaderboard, one ensemble, one submission."""

import json

import pytest

from autospine.cli.main import run
from autospine.core.ensemble import Ensemble
from autospine.core.plan import Plan
from autospine.io import documents
from autospine.io.images import read_image, read_labels

SYSTEMS = ("iterative", "ssae", "unbalanced_unet")


@pytest.fixture(scope="module")
def mixed(dataset, options, tmp_path_factory):
    """A U-Net, a system that names, one that walks and one that knows no names, hardly trained."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    brief = [*options, "--schedule.pretraining.epochs", "1", "--schedule.pretraining.steps", "2"]
    wanted = ["--configurations", "3d_lowres", *SYSTEMS]
    assert run(["plan-and-train", str(dataset), "-o", str(folder), *brief, *wanted]) == 0
    return folder


def test_every_system_has_its_folds_and_its_place_on_the_leaderboard(mixed):
    plan = documents.load(mixed / "plan.json", Plan)
    assert [c.name for c in plan.configurations] == ["3d_lowres", *SYSTEMS]
    board = documents.load(mixed / "ensemble.json", Ensemble).leaderboard
    alone = {(c.members[0], c.decoding) for c in board if len(c.members) == 1}
    assert alone == {
        ("3d_lowres", "argmax"),
        ("3d_lowres", "sequence"),
        ("iterative", "argmax"),
        ("iterative", "sequence"),
        ("ssae", "clusters"),
        ("unbalanced_unet", "argmax"),
        ("unbalanced_unet", "sequence"),
    }
    assert ("3d_lowres", "ssae", "unbalanced_unet") in {c.members for c in board}
    assert all(c.seconds is None for c in board), "a deterministic run records nothing that never repeats"


def test_pretraining_is_told_and_not_repeated(mixed, dataset, options, capsys):
    brief = [*options, "--schedule.pretraining.epochs", "1", "--schedule.pretraining.steps", "2"]
    before = (mixed / "models/ssae/fold_0/model.safetensors").stat().st_mtime_ns
    wanted = ["--configurations", "3d_lowres", *SYSTEMS]
    assert run(["plan-and-train", str(dataset), "-o", str(mixed), *brief, *wanted]) == 0
    assert (mixed / "models/ssae/fold_0/model.safetensors").stat().st_mtime_ns == before
    capsys.readouterr()


def test_an_ensemble_of_two_systems_and_a_unet_is_predicted_and_submitted(mixed, dataset, tmp_path):
    members = ["3d_lowres", "iterative", "unbalanced_unet"]
    target = tmp_path / "predictions"
    scans = ["-i", str(dataset / "imagesTs"), "-o", str(target), "--device", "cpu", "--quiet"]
    assert run(["predict", "-m", str(mixed), *scans, "--configurations", *members]) == 0
    (mask,) = target.glob("*.nii.gz")
    (scan,) = (dataset / "imagesTs").iterdir()
    assert read_labels(mask).grid.same_as(read_image(scan).grid)
    report = json.loads((target / "prediction_report.json").read_text())
    assert report["device"] == "cpu"
    assert report["scans"][0]["seconds_per_slice"] > 0
    assert run(["submit", "verse19", "-p", str(target), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    assert run(["submit", "verse19", "--check", str(tmp_path / "out"), "--quiet"]) == 0
