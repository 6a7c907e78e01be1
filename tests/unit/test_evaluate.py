from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core.errors import DataError, GeometryError, LabelError, UsageError
from autospine.core.geometry import Grid
from autospine.evaluation.report import Report, evaluate
from autospine.evaluation.scores import Coding, score_labels
from autospine.io import documents
from autospine.io.images import write_image

GRID = Grid((12, 10, 10), (2.0, 1.0, 1.0))
T13, L1, L2 = 26, 20, 21


def mask(**boxes):
    """A mask with 4-slice blocks: ``mask(v20=0)`` puts label 20 into the slices 0..3."""
    array = np.zeros(GRID.shape, np.uint8)
    for name, start in boxes.items():
        array[start : start + 4, 2:8, 2:8] = int(name[1:])
    return array


@pytest.fixture
def folders(tmp_path):
    def write(folder, **masks):
        for case, array in masks.items():
            write_image(tmp_path / folder / f"{case}.nii.gz", array, GRID)

    write("reference", a=mask(v20=0, v21=4), b=mask(v20=0, v26=8))
    write("prediction", a=mask(v20=0, v21=4), b=mask(v20=0, v22=4))
    return tmp_path, write


def evaluated(root, **options):
    return evaluate(
        root / "prediction", root / "reference", options.pop("coding", Coding.consecutive()), **options
    )


def test_missed_and_additional_vertebrae(folders):
    report = evaluated(folders[0])
    status = {score.name: (score.status, score.dice, score.nsd) for score in report.cases[1].labels}
    assert status == {"L1": ("found", 1, 1), "T13": ("missed", 0, 0), "L3": ("false positive", 0, 0)}
    assert report.overall.dice.mean == 3 / 4
    assert report.overall.dice_with_false_positives.mean == 3 / 5
    assert (report.overall.pairs, report.overall.missed, report.overall.false_positives) == (4, 1, 1)
    assert report.overall.hd95.mean == report.overall.assd.mean == 0
    assert report.cases[1].dice == 1 / 2
    assert report.cases[1].dice_with_false_positives == pytest.approx(1 / 3)


def test_a_missed_vertebra_has_no_distance(folders):
    missed = next(score for score in evaluated(folders[0]).cases[1].labels if score.status == "missed")
    assert missed.hd95 is None
    assert missed.assd is None


def test_distances_are_millimetres_of_the_grid(folders):
    root, write = folders
    write("prediction", a=mask(v20=1, v21=4))
    shifted = evaluated(root).cases[0].labels[0]
    assert shifted.hd95 == 2
    assert shifted.dice == pytest.approx(2 * 3 / (4 + 3), abs=0.1)


def test_per_level_means_are_over_the_cases_that_show_it(folders):
    levels = {level.name: level.summary for level in evaluated(folders[0]).levels}
    assert levels["L1"].pairs == 2
    assert levels["L2"].pairs == 1
    assert levels["L3"].pairs == 0
    assert levels["L3"].dice is None
    assert levels["T13"].dice.mean == 0


def test_the_interval_is_over_patients(folders):
    one = evaluated(folders[0], patients={"a": "p", "b": "p"}).overall.dice
    two = evaluated(folders[0]).overall.dice
    assert (one.low, one.high) == (None, None)
    assert two.low < two.mean < two.high


def test_a_missing_prediction_is_an_error_unless_allowed(folders):
    root, write = folders
    write("reference", c=mask(v20=0))
    with pytest.raises(DataError, match=r"1 of 3 predictions are missing, first c.*--allow-missing"):
        evaluated(root)
    report = evaluated(root, allow_missing=True)
    assert report.cases[2].dice == 0
    assert report.overall.pairs == 5
    assert "No prediction, counted as Dice 0: c" in report.table()


def test_a_prediction_without_reference_is_named(folders):
    root, write = folders
    write("prediction", extra=mask(v20=0))
    report = evaluated(root)
    assert report.unmatched == ("extra",)
    assert "Not scored, no reference: extra" in report.table()


def test_the_ignore_label_is_not_scored(folders):
    root, write = folders
    reference = mask(v20=0, v21=4)
    reference[4:8] = np.where(reference[4:8] == L2, 27, 0)
    write("reference", a=reference)
    coding = replace(Coding.consecutive(), ignore=27)
    scores = evaluated(root, coding=coding).cases[0].labels
    assert [(score.label, score.dice, score.hd95) for score in scores] == [(L1, 1, 0)]


def test_verse_coding(folders):
    root, write = folders
    for folder in ("reference", "prediction"):
        write(folder, a=mask(v28=0, v26=4), b=mask(v20=0))
    names = [score.name for score in evaluated(root, coding=Coding.verse()).cases[0].labels]
    assert names == ["T13"]


def test_undeclared_values_are_refused(folders):
    root, write = folders
    write("prediction", b=mask(v28=0))
    with pytest.raises(LabelError, match=r"prediction/b.nii.gz.*28.*--coding verse"):
        evaluated(root)


def test_another_grid_is_refused_naming_both_files(folders):
    root, _ = folders
    write_image(root / "prediction/a.nii.gz", mask(v20=0), replace(GRID, origin=(0.0, 0.0, 0.5)))
    with pytest.raises(GeometryError, match=r"prediction/a.nii.gz.*reference/a.nii.gz"):
        evaluated(root)


def test_single_files(folders):
    root, _ = folders
    report = evaluate(root / "prediction/b.nii.gz", root / "reference/a.nii.gz", Coding.consecutive())
    assert [case.identifier for case in report.cases] == ["a"]
    assert report.overall.missed == 1


def test_unusable_paths(folders):
    root, _ = folders
    with pytest.raises(UsageError, match="no such file"):
        evaluate(root / "nowhere", root / "reference", Coding.consecutive())
    with pytest.raises(UsageError, match="not both"):
        evaluate(root / "prediction", root / "reference/a.nii.gz", Coding.consecutive())
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="no masks"):
        evaluate(root / "prediction", root / "empty", Coding.consecutive())


def test_two_masks_of_one_case_are_refused(folders):
    root, _ = folders
    write_image(root / "prediction/a.mha", mask(v20=0), GRID)
    with pytest.raises(DataError, match=r"a\.mha and a\.nii\.gz"):
        evaluated(root)


def test_empty_masks_score_nothing(folders):
    root, write = folders
    for folder in ("reference", "prediction"):
        write(folder, a=mask(), b=mask())
    report = evaluated(root)
    assert report.overall.dice is None
    assert report.cases[0].dice is None
    assert "mean vertebra Dice" in report.table()


def test_workers_change_nothing(folders):
    assert evaluated(folders[0], workers=2) == evaluated(folders[0], workers=1)


def test_labels_are_scored_where_boxes_only_partly_overlap():
    reference, prediction = np.zeros((2, 30, 30, 30), np.int16)
    reference[2:10, 2:10, 2:10] = 5
    prediction[6:14, 2:10, 20:28] = 5
    (score,) = score_labels(prediction, reference, (1.0, 1.0, 1.0), {5: "five"})
    assert (score.status, score.dice) == ("found", 0)
    assert score.hd95 > 10


def test_command_writes_strict_json_and_prints_a_table(folders, capsys):
    root, _ = folders
    arguments = ["evaluate", "-p", str(root / "prediction"), "-r", str(root / "reference"), "--workers", "1"]
    assert run([*arguments, "-o", str(root / "scores.json")]) == 0
    printed = capsys.readouterr().out
    assert "mean vertebra Dice         0.7500 [" in printed
    assert "L1            2  1.0000" in printed
    saved = documents.load(root / "scores.json", Report)
    assert saved == evaluated(root)
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["pairs"] == 4
    assert run([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_command_with_a_missing_prediction_exits_3(folders, capsys):
    root, _ = folders
    (root / "prediction/a.nii.gz").unlink()
    assert run(["evaluate", "-p", str(root / "prediction"), "-r", str(root / "reference")]) == 3
    assert "--allow-missing" in capsys.readouterr().err


def test_command_takes_names_and_patients_from_a_data_set(folders, capsys):
    root, _ = folders
    document = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {f"part {i}": i for i in range(1, 27)} | {"ignore": 27},
        "numTraining": 2,
        "file_ending": ".nii.gz",
        "autospine": {"cases": {"a": {"patient": "p"}, "b": {"patient": "p"}}},
    }
    for case in "ab":
        write_image(root / f"imagesTr/{case}_0000.nii.gz", mask(), GRID)
        write_image(root / f"labelsTr/{case}.nii.gz", mask(v20=0, v27=4), GRID)
    (root / "dataset.json").write_text(json.dumps(document))
    files = ["-p", str(root / "prediction"), "-r", str(root / "labelsTr"), "-d", str(root)]
    assert run(["evaluate", *files, "--workers", "1", "--json"]) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert overall["pairs"] == 2
    assert overall["false_positives"] == 0
    assert overall["dice"] == {"mean": 1.0, "low": None, "high": None}
