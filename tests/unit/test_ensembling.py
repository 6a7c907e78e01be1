from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from autospine import candidates
from autospine.candidates import Contender, Scored, all_combinations, all_contenders
from autospine.cli.main import run as run_command
from autospine.core import anatomy, leaderboard
from autospine.core.anchor import Anchor
from autospine.core.column import ColumnModel, Succession
from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.ensemble import Ensemble, Member, PostProcessing
from autospine.core.errors import DataError, GeometryError, UsageError
from autospine.core.geometry import Box, Grid, Orientation
from autospine.core.plan import Configuration, NetworkSpec, Plan
from autospine.core.run import RunFolder
from autospine.core.trace import Trace
from autospine.core.volume import Volume
from autospine.ensembling import Model, choose, choose_ensemble
from autospine.evaluation.overlap import Overlap
from autospine.inference.prediction import Prediction
from autospine.io import documents
from autospine.io.images import write_image

SCHEMA = LabelSchema({0: "background", 1: "T12", 2: "L1", 3: "ignore"}, ignore=3)
GRID = Grid((6, 8, 16), (2.0, 1.0, 1.0))
IDENTITY = Orientation((0, 1, 2), (False, False, False))
CASES = ("a", "b", "c")
PATIENTS = {"a": "p1", "b": "p1", "c": "p2"}


# Choosing, from simulated counts


def simulated(**dice):
    """Scores of combinations: ``simulated(x=[80, 90])`` is Dice 0.8 and 0.9 of label 1 in cases 0, 1."""
    return {
        Contender(tuple(names.split("_"))): {
            str(i): scored({1: Overlap(value, 100, 100)}) for i, value in enumerate(values)
        }
        for names, values in dice.items()
    }


def scored(counts, identified=1, vertebrae=1, invented=0):
    return Scored((counts,), identified, vertebrae, invented)


def chosen(scores, tolerance=0.001):
    names = {name for contender in scores for name in contender.members}
    models = {name: Model((0, 1), 10.0) for name in names}
    cases = next(iter(scores.values()))
    return choose(scores, SCHEMA, {case: case for case in cases}, models, tolerance)


def test_the_best_combination_wins():
    ensemble = chosen(simulated(x=[80, 80], y=[70, 70], x_y=[90, 90]))
    assert ensemble.members == (Member("x", (0, 1)), Member("y", (0, 1)))
    assert [candidate.name for candidate in ensemble.leaderboard] == ["x + y", "x", "y"]
    assert ensemble.score.mean == 0.9
    assert "x + y is the best of 3 candidates: mean Dice 0.9000" in ensemble.reason


def test_a_tie_goes_to_the_simpler_and_the_earlier():
    assert chosen(simulated(x=[80], y=[80], x_y=[80])).name == "x"
    assert chosen(simulated(x=[70], y=[80], z=[80], y_z=[80])).name == "y"


def test_of_equally_simple_ones_the_better_wins_however_small_the_difference():
    assert chosen(simulated(x=[80], y=[81]), tolerance=0.5).name == "y"


@pytest.mark.parametrize(("tolerance", "name"), [(0.009, "x + y"), (0.011, "x")])
def test_small_differences_decide_nothing(tolerance, name):
    ensemble = chosen(simulated(x=[80], y=[70], x_y=[81]), tolerance)
    assert ensemble.name == name
    assert ensemble.leaderboard[0].name == "x + y"
    assert ("simpler than x + y" in ensemble.reason) == (name == "x")


def test_only_reference_labels_enter_the_mean():
    counts = {1: Overlap(90, 100, 100), 2: Overlap(0, 50, 0)}
    scores = {Contender(("x",)): {"0": scored(counts), "1": scored({}, 0, 0)}}
    assert chosen(scores).score.mean == 0.9


def test_cases_without_labels_cannot_be_compared():
    with pytest.raises(DataError, match="no label"):
        chosen({Contender(("x",)): {"0": scored({1: Overlap(0, 5, 0)})}})


def test_leaderboard_shows_regions_and_seconds():
    counts = {1: Overlap(50, 100, 100), 2: Overlap(100, 100, 100)}
    board = chosen({Contender(("x",)): {"0": scored(counts, identified=1, vertebrae=2)}}).leaderboard
    assert board[0].regions == {"lumbar": 1, "thoracic": 0.5}
    assert leaderboard.as_csv(board, 1, board[0]).splitlines() == [
        "rank,members,decoding,identified,all_right,mean_dice,low,high,lumbar,thoracic,cases,seconds,chosen",
        "1,x,argmax,0.500000,0.000000,0.750000,,,1.000000,0.500000,1,10.00,yes",
    ]
    cells = ["x", "argmax", "0.5000", "0.0000", "0.7500", "-", "..", "-", "1.0000", "0.5000", "10.0"]
    assert leaderboard.as_table(board).splitlines()[2].split() == cells


def test_all_combinations_simplest_first():
    assert all_combinations("xyz") == (
        ("x",),
        ("y",),
        ("z",),
        ("x", "y"),
        ("x", "z"),
        ("y", "z"),
        ("x", "y", "z"),
    )
    assert all_combinations("xyz", largest=2)[-1] == ("y", "z")
    assert all_combinations("x", largest=5) == (("x",),)


def two_decodings(identified, dice):
    """Scores of one combination, voxel by voxel and as a column: of ten vertebrae so many are identified."""
    return {
        Contender(("x",), decoding): {"0": scored({1: Overlap(overlap, 100, 100)}, hits, 10)}
        for decoding, hits, overlap in zip(("argmax", "sequence"), identified, dice, strict=True)
    }


@pytest.mark.parametrize(
    ("identified", "dice", "winner"),
    [
        ((7, 9), (90, 80), "sequence"),
        ((9, 7), (80, 90), "argmax"),
        ((9, 9), (80, 81), "sequence"),
        ((9, 9), (81, 80), "argmax"),
        ((9, 9), (80, 80), "argmax"),
    ],
)
def test_identification_decides_how_names_are_given_and_then_dice(identified, dice, winner):
    ensemble = chosen(two_decodings(identified, dice))
    assert ensemble.decoding == winner
    for share, overlap in zip(identified, dice, strict=True):
        assert f"identifies {share / 10:.4f} of the vertebrae at Dice {overlap / 100:.4f}" in ensemble.reason


def test_a_case_is_all_right_only_without_invented_names():
    assert scored({}, 2, 2).all_right
    assert not scored({}, 2, 2, invented=1).all_right
    assert not scored({}, 1, 2).all_right


def test_columns_are_named_only_with_members_that_know_where_vertebrae_are():
    knowing = replace(configuration("3d"), centres=True)
    column = ColumnModel((19, 20), (Succession(19, 20, 1.0, 30.0, 0.1),))
    plan = Plan("toy", "spine", SCHEMA, (0, 1, 2), (configuration("2d"), knowing), column=column)
    every = all_combinations(["2d", "3d"])
    columns = [c.members for c in all_contenders(plan, every) if c.decoding == "sequence"]
    assert columns == [("3d",), ("2d", "3d")]
    without = replace(plan, column=None)
    assert {c.decoding for c in all_contenders(without, every)} == {"argmax"}


def test_what_knows_no_names_is_clustered_alone_and_helps_to_find_a_column():
    knowing = replace(configuration("3d"), centres=True)
    binary = replace(configuration("binary"), target="foreground")
    column = ColumnModel((19, 20), (Succession(19, 20, 1.0, 30.0, 0.1),))
    plan = Plan("toy", "spine", SCHEMA, (0, 1, 2), (binary, knowing), column=column)
    found = all_contenders(plan, all_combinations(["binary", "3d"]))
    assert set(found) == {
        Contender(("3d",), "argmax"),
        Contender(("3d",), "sequence"),
        Contender(("binary", "3d"), "sequence"),
        Contender(("binary",), "clusters"),
    }


def test_what_was_told_a_name_is_shown_but_not_chosen_beside_what_was_not():
    told = Contender(("binary",), "clusters")
    scores = simulated(x=[50, 50]) | {told: {str(i): scored({1: Overlap(99, 100, 100)}) for i in range(2)}}
    ensemble = chosen(scores)
    assert (ensemble.name, ensemble.decoding) == ("x", "argmax")
    assert ensemble.leaderboard[0].decoding == "clusters"
    assert chosen({told: scores[told]}).decoding == "clusters"


def block(*, lowest):
    """A reference whose T12 begins at a slice and reaches far up; L1 stands in the middle of the scan."""
    array = np.zeros((1, 60, 20, 20), np.int32)
    array[0, lowest : lowest + 12, 6:14, 6:14] = 1
    array[0, 24:34, 6:14, 6:14] = 2
    volume = Volume(array, Grid((60, 20, 20), (2.0, 2.0, 2.0)))
    centres = {v: volume.grid.to_world(np.argwhere(array[0] == v).mean(axis=0)) for v in (1, 2)}
    return volume, {v: tuple(map(float, c)) for v, c in centres.items()}


@pytest.mark.parametrize(("lowest", "first"), [(40, "T12"), (48, "L1")])
def test_the_anchor_is_the_first_vertebra_that_the_border_does_not_cut(lowest, first):
    plan = Plan("toy", "spine", SCHEMA, (0, 1, 2), ())
    volume, centres = block(lowest=lowest)
    assert candidates._first_anchor(plan, centres, volume) == Anchor(anatomy.label_of(first))


def test_more_clusters_than_names_name_nothing(monkeypatch):
    def refuse(*_):
        raise UsageError("too many")

    monkeypatch.setattr(candidates, "decode_clusters", refuse)
    plan = Plan("toy", "spine", SCHEMA, (0, 1, 2), ())
    trace = Trace(GRID, IDENTITY, Box.whole(GRID.shape), (0, 1, 2), GRID.shape)
    member = Prediction(np.zeros((3, *GRID.shape), np.float16), trace)
    decoded = candidates._clustered([member], [1.0], plan, Anchor(19))
    assert decoded.column.vertebrae == ()
    assert not decoded.labels.any()


# A run folder with hand-made predictions


def truth(case):
    array = np.zeros(GRID.shape, np.uint8)
    array[1:5, 2:6, 1:5] = 1
    array[1:5, 2:6, 6 + CASES.index(case) % 2 : 11] = 2
    return array


def configuration(name):
    network = NetworkSpec("plain_unet", (4,), ((3, 3, 3),), ((1, 1, 1),), (1,), ())
    return Configuration(
        name,
        (0, 1, 2),
        GRID.spacing,
        GRID.shape,
        2,
        GRID.shape,
        network,
        "body",
        (),
        (),
        (),
        batch_dice=False,
    )


def predict(folder, name, fold, case, labels, strength=4.0, grid=GRID):
    """A finished fold that predicts ``labels`` for a case with logits of ``strength``."""
    logits = np.stack([(labels == label) * strength for label in (0, 1, 2)]).astype(np.float16)
    path = folder.validation(name, fold) / case
    Prediction(logits, Trace(grid, IDENTITY, Box.whole(grid.shape), (0, 1, 2), grid.shape)).save(path)
    write_image(path.with_name(f"{case}.nii.gz"), labels, grid)
    folder.weights(name, fold).touch()


def worse(labels, cut):
    """The mask without its first ``cut`` columns of label 1, and with debris of label 2."""
    result = labels.copy()
    result[:, :, : 1 + cut][result[:, :, : 1 + cut] == 1] = 0
    result[0, 0, 14:16] = 2
    return result


@pytest.fixture
def made(tmp_path):
    """Two configurations, each the better one in a part of the spine; three cases in two folds."""
    folder = RunFolder(tmp_path / "run")
    cases = []
    for index, case in enumerate(CASES):
        label, image = (tmp_path / f"{kind}/{case}.nii.gz" for kind in ("labels", "images"))
        write_image(label, truth(case), GRID)
        cases.append(Case(case, image, label, PATIENTS[case]))
        predict(folder, "3d", index % 2, case, worse(truth(case), 1))
        predict(folder, "2d", index % 2, case, worse(truth(case), 2), strength=2.0)
    plan = Plan("toy", "spine", SCHEMA, (0, 1, 2), (configuration("2d"), configuration("3d")))
    documents.save(folder.plan, plan)
    return folder, Dataset("toy", SCHEMA, tuple(cases)), plan


def test_run_folder_gets_its_ensemble(made):
    folder, dataset, plan = made
    choice = choose_ensemble(folder, dataset, plan)
    ensemble = documents.load(folder.ensemble, Ensemble)
    assert ensemble == choice.ensemble
    assert [member.configuration for member in ensemble.members] == ["3d"]
    assert ensemble.members[0].folds == (0, 1)
    assert ensemble.cases == 3
    assert choice.left_out == ()
    rows = folder.leaderboard.read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["members", "3d", "2d + 3d", "2d"]
    assert ensemble.reason in choice.table()


def test_debris_is_removed_because_it_helps(made):
    ensemble = choose_ensemble(*made).ensemble
    assert ensemble.post_processing == PostProcessing(labels=(2,))
    assert ensemble.score.mean > ensemble.leaderboard[0].score.mean
    assert "kept of: L1" in ensemble.reason


def test_scores_are_those_of_the_masks(made):
    folder, dataset, plan = made
    best = choose_ensemble(folder, dataset, plan).ensemble.leaderboard[0]
    dice = []
    for case in CASES:
        prediction, reference = worse(truth(case), 1), truth(case)
        for label in (1, 2):
            p, r = prediction == label, reference == label
            dice.append(2 * (p & r).sum() / (p.sum() + r.sum()))
    assert best.score.mean == pytest.approx(np.mean(dice))


def outputs(folder):
    paths = [folder.ensemble, folder.leaderboard, *sorted((folder.root / "ensembling").rglob("*.json"))]
    return {path: path.read_bytes() for path in paths}


def test_a_killed_run_goes_on_and_writes_the_same(made, monkeypatch):
    folder, dataset, plan = made
    choose_ensemble(folder, dataset, plan)
    expected = outputs(folder)
    for path in expected:
        if path.stem != "a":
            path.unlink()
    (folder.root / "ensembling/combinations/b.json").write_text('{"inputs": "cut off')
    scored = []
    export = candidates.export_combinations
    monkeypatch.setattr(candidates, "export_combinations", lambda *a: scored.append(1) or export(*a))
    choose_ensemble(folder, dataset, plan)
    assert outputs(folder) == expected
    assert len(scored) == 8, "the cases b and c: each one alone, together, and the post-processing"


def test_a_new_prediction_is_scored_again(made):
    folder, dataset, plan = made
    before = choose_ensemble(folder, dataset, plan).ensemble
    for case in CASES:
        predict(folder, "2d", CASES.index(case) % 2, case, truth(case))
    after = choose_ensemble(folder, dataset, plan).ensemble
    assert before.name == "3d"
    assert after.name == "2d"
    assert after.score.mean == 1


def test_only_cases_that_all_have_predicted_are_compared(made):
    folder, dataset, plan = made
    for file in folder.validation("2d", 1).iterdir():
        os.remove(file)  # noqa: PTH107
    choice = choose_ensemble(folder, dataset, plan)
    assert choice.ensemble.cases == 2
    assert choice.left_out == ("b",)
    assert "first b" in choice.table()


def test_half_written_predictions_are_not_taken(made):
    folder, dataset, plan = made
    (folder.validation("3d", 0) / "a.nii.gz").unlink()
    assert choose_ensemble(folder, dataset, plan).left_out == ("a",)


def test_no_case_in_common(made):
    folder, dataset, plan = made
    folder.weights("2d", 0).unlink()
    folder.weights("3d", 1).unlink()
    with pytest.raises(UsageError, match="2d, 3d have no predicted case"):
        choose_ensemble(folder, dataset, plan)


def test_nothing_trained(tmp_path, made):
    with pytest.raises(UsageError, match="Train at least one fold"):
        choose_ensemble(RunFolder(tmp_path / "new"), *made[1:])


def test_one_configuration_needs_no_comparison(made):
    folder, dataset, plan = made
    only = replace(plan, configurations=plan.configurations[1:])
    assert "3d is the only candidate" in choose_ensemble(folder, dataset, only).ensemble.reason


def test_a_changed_reference_grid_is_refused(made):
    folder, dataset, plan = made
    write_image(dataset.training[0].label, truth("a"), replace(GRID, origin=(5.0, 0.0, 0.0)))
    with pytest.raises(GeometryError, match=r"labels/a\.nii\.gz.*(2d|3d).*reference"):
        choose_ensemble(folder, dataset, plan)


def test_recorded_seconds_are_summed_over_folds_and_members(made):
    folder, dataset, plan = made
    for name, seconds in (("2d", 1.5), ("3d", 4.0)):
        for fold in (0, 1):
            documents.save(folder.validation(name, fold) / "seconds.json", {"a": seconds, "b": seconds})
    board = choose_ensemble(folder, dataset, plan).ensemble.leaderboard
    assert {row.name: row.seconds for row in board} == {"3d": 8.0, "2d + 3d": 11.0, "2d": 3.0}


def test_command(made, capsys):
    folder, dataset, _ = made
    root = folder.root.parent
    for case in CASES:
        write_image(root / f"data/imagesTr/{case}_0000.nii.gz", truth(case), GRID)
        write_image(root / f"data/labelsTr/{case}.nii.gz", truth(case), GRID)
    labels = {name: value for value, name in dataset.labels.names.items()}
    document = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 3, "file_ending": ".nii.gz"}
    (root / "data/dataset.json").write_text(json.dumps(document))
    command = ["find-best", str(folder.root), "-d", str(root / "data"), "--workers", "1"]
    assert run_command(command) == 0
    assert "3d is the best of 3 candidates" in capsys.readouterr().out
    assert run_command([*command, "--largest", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["leaderboard"]) == 2
