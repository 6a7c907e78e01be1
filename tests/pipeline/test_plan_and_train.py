import json
from dataclasses import replace

from autospine.cli.main import run
from autospine.core.ensemble import Ensemble
from autospine.core.plan import Plan
from autospine.io import documents

CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "run.json"}


def test_four_configurations_are_trained_in_every_fold(finished_run):
    plan = documents.load(finished_run / "plan.json", Plan)
    assert {c.name for c in plan.configurations} == set(CONFIGURATIONS)
    for name in CONFIGURATIONS:
        for fold in range(2):
            folder = finished_run / "models" / name / f"fold_{fold}"
            assert (folder / "model.safetensors").is_file()
            assert (folder / "progress.png").is_file()
            assert len((folder / "log.jsonl").read_text().splitlines()) == 2


def test_every_case_has_an_out_of_fold_prediction(finished_run, dataset):
    cases = {p.name for p in (dataset / "labelsTr").iterdir()}
    for name in CONFIGURATIONS:
        found = [p.name for p in finished_run.glob(f"models/{name}/fold_*/validation/*.nii.gz")]
        assert sorted(found) == sorted(cases)


def test_the_ensemble_is_the_best_of_all_combinations(finished_run):
    ensemble = documents.load(finished_run / "ensemble.json", Ensemble)
    assert len(ensemble.leaderboard) == 15 + 14
    assert ensemble.members
    assert ensemble.cases == 4
    assert (finished_run / "leaderboard.csv").read_text().count("\n") == 30


def test_the_plan_gives_its_reasons(finished_run):
    plan = documents.load(finished_run / "plan.json", Plan)
    assert len(plan.reasons) >= 5
    assert all(reason.because for reason in plan.reasons)


def test_the_record_names_versions_and_durations(finished_run):
    session = json.loads((finished_run / "run.json").read_text())["sessions"][0]
    assert session["versions"]["torch"]
    assert {"fingerprint", "preprocess", "train 3d_cascade_fullres", "find best"} <= set(session["seconds"])


def test_the_same_command_again_changes_nothing(finished_run, dataset, options, capsys):
    before = stamps(finished_run / "models") | stamps(finished_run / "preprocessed")
    assert run(["plan-and-train", str(dataset), "-o", str(finished_run), *options]) == 0
    assert stamps(finished_run / "models") | stamps(finished_run / "preprocessed") == before
    assert "members" in capsys.readouterr().out


def test_other_options_on_the_same_folder_are_refused(finished_run, dataset, options, capsys):
    other = [*options, "--schedule.learning-rate", "0.5"]
    assert run(["plan-and-train", str(dataset), "-o", str(finished_run), *other]) == 2
    assert "another run folder" in capsys.readouterr().err


def test_a_cascade_waits_for_all_folds_of_its_previous_stage(dataset, options, tmp_path, capsys):
    folder, cascade = tmp_path / "run", "3d_cascade_fullres"
    few = ["--configurations", cascade, "--folds", "0"]
    assert run(["plan-and-train", str(dataset), "-o", str(folder), *options, *few]) == 2
    assert "Train all folds of 3d_lowres first" in capsys.readouterr().err
    assert (folder / "models/3d_lowres/fold_0/model.safetensors").is_file()
    assert run(["train", str(folder), "3d_lowres", "--device", "cpu", "--quiet"]) == 0
    assert run(["train", str(folder), cascade, "--folds", "1", "--device", "cpu", "--quiet"]) == 0
    assert (folder / f"models/{cascade}/fold_1/model.safetensors").is_file()


def test_the_steps_one_by_one_lead_to_an_ensemble_as_well(dataset, tmp_path):
    folder = str(tmp_path / "run")
    assert run(["fingerprint", str(dataset), "-o", folder, "--workers", "1", "--quiet"]) == 0
    assert run(["plan", folder, "--device", "cpu", "--step-seconds", "0.05", "--quiet"]) == 0
    shorten(tmp_path / "run" / "plan.json")
    assert run(["preprocess", folder, "--workers", "1", "--quiet"]) == 0
    assert run(["train", folder, "3d_lowres", "--split", "2", "--device", "cpu", "--quiet"]) == 0
    assert run(["find-best", folder, "--workers", "1", "--quiet"]) == 0
    ensemble = documents.load(tmp_path / "run" / "ensemble.json", Ensemble)
    assert [member.configuration for member in ensemble.members] == ["3d_lowres"]


def shorten(path):
    """Edit a plan by hand, as a user may: one configuration, one epoch of one step."""
    plan = documents.load(path, Plan)
    lowres = plan.configuration("3d_lowres")
    brief = replace(lowres.schedule, epochs=1, steps=1, validation_steps=0)
    documents.save(path, replace(plan, configurations=(replace(lowres, schedule=brief),)))
