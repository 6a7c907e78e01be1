import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core.dataset import LabelSchema
from autospine.core.fingerprint import Fingerprint
from autospine.core.geometry import Grid
from autospine.core.plan import Plan
from autospine.io.documents import load, save
from autospine.io.images import write_image

_SPEC = importlib.util.spec_from_file_location("golden_plans", Path(__file__).with_name("golden_plans.py"))
golden_plans = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(golden_plans)


@pytest.fixture
def run_folder(tmp_path):
    made = golden_plans.fingerprint(
        [(3, 3, 3)] * 12, [(60, 47, 47)] * 12, LabelSchema.vertebral_column(), levels=(20, 21)
    )
    save(tmp_path / "fingerprint.json", made)
    return tmp_path


@pytest.fixture
def raw_data_set(tmp_path):
    folder = tmp_path / "raw"
    image = np.random.default_rng(0).normal(-200, 300, (20, 16, 16)).astype(np.int16)
    labels = np.zeros(image.shape, dtype=np.uint8)
    labels[4:12, 4:12, 4:12] = 1
    write_image(folder / "imagesTr" / "a_0000.nii.gz", image, Grid(image.shape, (2.0, 1.0, 1.0)))
    write_image(folder / "labelsTr" / "a.nii.gz", labels, Grid(image.shape, (2.0, 1.0, 1.0)))
    document = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "L1": 1},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def test_a_plan_is_written_beside_its_fingerprint_and_explained(run_folder, capsys):
    assert run(["plan", str(run_folder), "--device", "cpu"]) == 0
    plan = load(run_folder / "plan.json", Plan)
    said = capsys.readouterr().out
    assert all(c.name in said for c in plan.configurations)
    assert all(r.decision in said and r.because in said for r in plan.reasons)
    assert "GB disk" in said


def test_the_same_plan_may_be_written_again_but_another_needs_force(run_folder, capsys):
    command = ["plan", str(run_folder / "fingerprint.json"), "--device", "cpu", "--quiet"]
    assert run(command) == 0
    assert run(command) == 0
    assert run([*command, "--planner", "nnunet"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*command, "--planner", "nnunet", "--force"]) == 0
    assert load(run_folder / "plan.json", Plan).planner == "nnunet"


def test_a_plan_is_printed_for_machines(run_folder, capsys):
    target = run_folder / "other.json"
    assert run(["plan", str(run_folder), "--device", "cpu", "--json", "-o", str(target)]) == 0
    assert json.loads(capsys.readouterr().out)["planner"] == "spine"
    assert target.is_file()


def test_planners_and_networks_are_listed(capsys):
    assert run(["plan", "--list"]) == 0
    said = capsys.readouterr().out
    assert "nnunet_resenc_l" in said
    assert "residual_unet" in said


def test_a_missing_fingerprint_is_a_matter_of_usage_or_data(tmp_path, capsys):
    assert run(["plan"]) == 2
    assert run(["plan", str(tmp_path)]) == 3
    assert run(["plan", str(tmp_path), "--planner", "spline"]) != 0
    assert "fingerprint" in capsys.readouterr().err


def test_an_unknown_planner_suggests_near_ones(run_folder, capsys):
    assert run(["plan", str(run_folder), "--device", "cpu", "--planner", "spin"]) == 2
    assert "spine" in capsys.readouterr().err


def test_a_planner_of_ones_own(run_folder, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import replace\n"
        "from autospine.planners.spine import plan as spine\n"
        "def plan(fingerprint, budget):\n"
        "    return replace(spine(fingerprint, budget), planner='mine')\n"
    )
    assert run(["plan", str(run_folder), "--device", "cpu", "--quiet", "--planner", f"{mine}:plan"]) == 0
    assert load(run_folder / "plan.json", Plan).planner == "mine"


def test_a_fingerprint_is_taken_of_a_raw_data_set(raw_data_set, tmp_path, capsys):
    output = tmp_path / "run"
    assert run(["fingerprint", str(raw_data_set), "-o", str(output), "--workers", "1"]) == 0
    made = load(output / "fingerprint.json", Fingerprint)
    assert [case.identifier for case in made.cases] == ["a"]
    assert "L1 1" in capsys.readouterr().out
