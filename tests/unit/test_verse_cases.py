"""From written masks to VerSe's figures."""

import json
from dataclasses import replace

import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core.column_report import ColumnReport, FoundVertebra
from autospine.core.dataset import Case, LabelSchema
from autospine.core.errors import DataError, DocumentError, GeometryError, LabelError, UsageError
from autospine.core.geometry import Grid, Orientation, matrix_rows
from autospine.evaluation.scores import Coding
from autospine.evaluation.verse import Missing
from autospine.evaluation.verse_cases import Meaning, measure
from autospine.evaluation.verse_report import VerseReport, official_report, strict_report
from autospine.io import documents
from autospine.io.centroids import CentroidFrame, axis_codes
from autospine.io.images import write_image
from autospine.vertebrae.centroids import body_centres

GRID = Grid((60, 14, 16), (2.0, 3.0, 2.0), (10.0, -20.0, 30.0))
TURN = np.deg2rad(20)
OBLIQUE = replace(
    GRID,
    direction=matrix_rows(
        np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])
        @ np.asarray(GRID.direction)
    ),
)
FLIPPED = Orientation((2, 0, 1), (True, False, True))
T12, L1, L2, L3, T13 = 19, 20, 21, 22, 26

OWN = Meaning(Coding.consecutive())


def mask(*labels, top=59, drop=0):
    """Bodies of 12 x 24 x 24 mm, one every 24 mm from the top downwards, ``drop`` slices lower."""
    array = np.zeros(GRID.shape, np.uint8)
    for step, label in enumerate(labels):
        stop = top - 12 * step - drop
        array[stop - 6 : stop, 3:11, 2:14] = label
    return array


@pytest.fixture
def write(tmp_path):
    def write(folder, grid=GRID, **masks):
        for name, array in masks.items():
            write_image(tmp_path / folder / f"{name}.nii.gz", array, grid)

    return write


@pytest.fixture
def measured(tmp_path):
    def measured(meaning=OWN, **options):
        return measure(tmp_path / "prediction", tmp_path / "reference", meaning, **options)

    return measured


def command(root, *options):
    return run(
        [
            "evaluate",
            "-p",
            str(root / "prediction"),
            "-r",
            str(root / "reference"),
            "--workers",
            "1",
            *options,
        ]
    )


def test_a_perfect_prediction(write, measured):
    for folder in ("reference", "prediction"):
        write(folder, a=mask(T12, T13, L1, L2))
    found = measured()
    (case,) = found.cases
    assert [vertebra.name for vertebra in case.vertebrae] == ["T12", "T13", "L1", "L2"]
    assert all(v.official and v.strict and v.dice == 1 for v in case.vertebrae)
    assert all(v.distance == v.hausdorff == 0 for v in case.vertebrae)
    assert (case.foreground_dice, case.shift.offset, case.shift.hits) == (1, 0, 4)
    assert (case.reference_source, case.prediction_source) == ("mask", "mask")
    assert strict_report(found, Missing.of("cap")).summary.all_right.mean == 1


def test_a_shifted_column_is_well_segmented_and_not_identified(write, measured):
    write("reference", a=mask(T12, L1, L2, L3))
    write("prediction", a=mask(L1, L2, L3, L3 + 1))
    (case,) = measured().cases
    assert case.foreground_dice == 1
    assert not any(v.official or v.strict for v in case.vertebrae)
    assert (case.shift.offset, case.shift.hits) == (1, 4)


def test_distances_are_millimetres(write, measured):
    write("reference", a=mask(L1, L2))
    write("prediction", a=mask(L1, L2, drop=2))
    for vertebra in measured().cases[0].vertebrae:
        assert vertebra.distance == pytest.approx(4)
        assert vertebra.hausdorff == 4
        assert vertebra.dice == pytest.approx(2 * 4 / 12)


def test_the_maximum_distance_is_the_hausdorff_distance(write, measured):
    speck = mask(L1)
    speck[20, 6, 6] = L1
    write("reference", a=mask(L1))
    write("prediction", a=speck)
    # From the speck's lower corners to those below the lowest slice of the body, 53.
    assert measured().cases[0].vertebrae[0].hausdorff == 2 * (53 - 20)


@pytest.mark.parametrize("grid", [GRID, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("stored", [Orientation.permutation((0, 1, 2)), FLIPPED], ids=["as is", "flipped"])
def test_storage_changes_nothing(tmp_path, write, measured, grid, stored):
    masks = {"reference": mask(T12, L1, L2, L3), "prediction": mask(T12, L1, L2, drop=1)}
    write("reference", grid, a=masks["reference"])
    write("prediction", grid, a=masks["prediction"])
    plain = measured().cases[0]
    for folder, array in masks.items():
        write(folder, stored.apply_grid(grid), a=stored.apply(array))
    case = measured().cases[0]
    assert [v.name for v in case.vertebrae if v.strict] == ["T12", "L1", "L2"]
    assert [v.centre for v in case.vertebrae] == ["both", "both", "both", "reference"]
    for one, other in zip(case.vertebrae, plain.vertebrae, strict=True):
        # Which voxels a coarse look at the body skips may depend on where counting begins.
        assert one.distance == (None if other.distance is None else pytest.approx(other.distance, abs=0.5))
        assert one.hausdorff == (None if other.hausdorff is None else pytest.approx(other.hausdorff))


def test_centroid_files_count_voxels_of_the_grid_they_stand_beside(tmp_path, write, measured):
    grid, array = FLIPPED.apply_grid(OBLIQUE), FLIPPED.apply(mask(T12, L1, L2))
    codes = axis_codes(grid)
    for folder in ("reference", "prediction"):
        write(folder, grid, a=array)
    entries = [
        {"label": label} | dict(zip("XYZ", CentroidFrame(codes).from_world(grid, position), strict=True))
        for label, position in body_centres(array, grid).items()
    ]
    (tmp_path / "reference/a_ctd.json").write_text(json.dumps([{"direction": codes}, *entries]))
    (case,) = measured().cases
    assert (case.reference_source, case.prediction_source) == ("centroid file", "mask")
    assert [v.distance for v in case.vertebrae] == pytest.approx([0, 0, 0], abs=1e-9)


def test_reports_and_lists_are_preferred_to_masks(tmp_path, write, measured):
    for folder in ("reference", "prediction"):
        write(folder, a=mask(L1, L2))
    vertebrae = (FoundVertebra(L1, "L1", (1.0, 2.0, 3.0), 1.0),)
    documents.save(tmp_path / "prediction/a_vertebrae.json", ColumnReport("argmax", vertebrae))
    centroids = {L1: (1.0, 2.0, 13.0), L2: (1.0, 2.0, -17.0)}
    known = {"a": Case("a", tmp_path / "a", patient="p", centroids=centroids)}
    (case,) = measured(Meaning(Coding.consecutive(), known)).cases
    assert (case.reference_source, case.prediction_source, case.patient) == ("data set", "report", "p")
    assert [(v.name, v.centre, v.distance) for v in case.vertebrae] == [
        ("L1", "both", 10),
        ("L2", "reference", None),
    ]


def test_verse_coding_maps_t13_and_leaves_the_sacrum_out(write, measured):
    write("reference", a=mask(T12, 28, L1, 26))
    write("prediction", a=mask(T12, 28, L1))
    (case,) = measured(Meaning(Coding.verse())).cases
    assert [(v.name, v.label, v.strict) for v in case.vertebrae] == [
        ("T12", T12, True),
        ("T13", T13, True),
        ("L1", L1, True),
    ]
    assert case.foreground_dice == 1


def test_a_data_sets_own_values_are_mapped_by_name(write, measured):
    names = dict(enumerate(["background", "L2", "T13", "rib", "L1"]))
    write("reference", a=mask(2, 4, 1, 3))
    write("prediction", a=mask(2, 4, 1))
    centroids = {1: (0.0, 0.0, 0.0)}
    meaning = Meaning(Coding.of_schema(LabelSchema(names)), {"a": Case("a", None, centroids=centroids)})
    (case,) = measured(meaning).cases
    assert [(v.name, v.label, v.dice) for v in case.vertebrae] == [
        ("T13", T13, 1),
        ("L1", L1, 1),
        ("L2", L2, 1),
    ]
    assert [v.name for v in case.vertebrae if v.has_reference_centre] == ["L2"]


def test_labels_without_vertebrae_are_refused(write, measured):
    write("reference", a=mask(1))
    write("prediction", a=mask(1))
    with pytest.raises(UsageError, match="called like a vertebra"):
        measured(Meaning(Coding.of_schema(LabelSchema({0: "background", 1: "bone"}))))


def test_a_reference_vertebra_without_a_centre_is_not_judged(write, measured, tmp_path):
    for folder in ("reference", "prediction"):
        write(folder, a=mask(L1, L2))
    known = {"a": Case("a", tmp_path / "a", centroids={L1: (42.0, 0.0, 0.0)})}
    found = measured(Meaning(Coding.consecutive(), known))
    unlisted = found.cases[0].vertebrae[1]
    assert (unlisted.name, unlisted.centre, unlisted.mask, unlisted.dice) == ("L2", "neither", "both", 1)
    report = strict_report(found, Missing.of("cap"))
    assert (report.summary.false_positives, report.sources.without_centre) == (0, 1)
    assert "without a centre, not identified: 1" in report.table()


def test_what_is_predicted_where_nothing_is_scored_is_no_false_positive(write, measured):
    write("reference", a=mask(L1, 27))
    write("prediction", a=mask(L1, L2))
    coding = replace(Coding.consecutive(), ignore=27)
    (case,) = measured(Meaning(coding)).cases
    assert [(v.name, v.strict) for v in case.vertebrae] == [("L1", True)]
    assert case.all_right


def test_a_report_about_what_is_not_scored_is_no_false_positive_either(tmp_path, write, measured):
    write("reference", a=mask(L1, 27))
    write("prediction", a=mask(L1, L2))
    centres = body_centres(mask(L1, L2), GRID)
    found = tuple(FoundVertebra(v, n, centres[v], 1.0) for v, n in ((L1, "L1"), (L2, "L2")))
    documents.save(tmp_path / "prediction/a_vertebrae.json", ColumnReport("sequence", found))
    (case,) = measured(Meaning(replace(Coding.consecutive(), ignore=27))).cases
    assert case.all_right


def test_empty_masks(write, measured):
    for folder in ("reference", "prediction"):
        write(folder, a=mask())
    (case,) = measured().cases
    assert (case.vertebrae, case.foreground_dice, case.all_right) == ((), 1, None)


def test_workers_change_nothing(write, measured):
    write("reference", a=mask(L1, L2), b=mask(T12, L1))
    write("prediction", a=mask(L1, L2, drop=1), b=mask(L1))
    assert measured(workers=2) == measured(workers=1)


def test_a_missing_prediction_has_missed_everything(write, measured):
    write("reference", a=mask(L1, L2), b=mask(L1))
    write("prediction", b=mask(L1))
    with pytest.raises(DataError, match="--allow-missing"):
        measured()
    found = measured(allow_missing=True)
    summary = official_report(found).summary
    assert summary.identification.scans.mean == 1 / 2
    assert summary.distance.scans.mean == 500
    assert found.cases[0].prediction_source == "none"
    assert "No prediction, all vertebrae missed: a" in official_report(found).table()


def test_unusable_input_names_the_file(tmp_path, write, measured):
    write("reference", a=mask(L1))
    write("prediction", replace(GRID, origin=(0.0, 0.0, 0.0)), a=mask(L1))
    with pytest.raises(GeometryError, match=r"prediction/a\.nii\.gz.*reference/a\.nii\.gz"):
        measured()
    write("prediction", a=mask(28))
    with pytest.raises(LabelError, match=r"prediction/a\.nii\.gz.*28.*--coding verse"):
        measured()
    write("prediction", a=mask(L1))
    (tmp_path / "reference/a_ctd.json").write_text('[{"label": 20, "X": 1, "Y": 1, "Z": 1}]')
    with pytest.raises(DocumentError, match=r"reference/a_ctd\.json.*--flat-centroids"):
        measured()


def test_command_by_the_official_rules(tmp_path, write, capsys):
    write("reference", FLIPPED.apply_grid(OBLIQUE), a=FLIPPED.apply(mask(T12, L1, L2, L3)))
    write("prediction", FLIPPED.apply_grid(OBLIQUE), a=FLIPPED.apply(mask(T12, L1, L2)))
    assert command(tmp_path, "--protocol", "verse", "-o", str(tmp_path / "scores.json")) == 0
    printed = capsys.readouterr().out
    assert ["identification", "rate", "0.7500", "0.7500", "0.7500"] in map(str.split, printed.splitlines())
    assert "3 of 4 vertebrae identified in 1 scans." in printed
    assert "Centres of the references: mask (1)." in printed
    saved = documents.load(tmp_path / "scores.json", VerseReport)
    assert saved.table() + "\n" == printed
    assert saved.protocol == "verse"


def test_command_by_strict_rules(tmp_path, write, capsys):
    write("reference", a=mask(T12, 28, L1), b=mask(L1, L2))
    write("prediction", a=mask(L1, L2, L3), b=mask(L1, L2, L3))
    options = ("--protocol", "verse-strict", "--coding", "verse")
    assert command(tmp_path, *options, "--missing", "skip", "-o", str(tmp_path / "scores.json")) == 0
    printed = capsys.readouterr().out
    saved = documents.load(tmp_path / "scores.json", VerseReport)
    assert saved.table() + "\n" == printed
    assert "Scans by best-matching shift in levels: 0: 1, +2: 1" in printed
    assert command(tmp_path, *options, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["summary"]["false_positives"] == 3
    assert shown["summary"]["missing"] == {"choice": "cap", "centre": 20.0, "hausdorff": 100.0}
    assert command(tmp_path, *options, "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_command_takes_centres_from_a_data_set(tmp_path, write, capsys):
    centres = body_centres(mask(L1, L2), GRID)
    document = {
        "channel_names": {"0": "CT"},
        "labels": {name: value for value, name in LabelSchema.vertebral_column().names.items()},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "autospine": {"cases": {"a": {"centroids": {"L1": centres[L1], "L2": centres[L2]}}}},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    write("imagesTr", a_0000=mask())
    for folder in ("labelsTr", "reference", "prediction"):
        write(folder, a=mask(L1, L2))
    assert command(tmp_path, "--protocol", "verse", "-d", str(tmp_path), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sources"] == {"reference": {"data set": 1}, "prediction": {"mask": 1}, "without_centre": 0}
    assert shown["summary"]["distance"]["pooled"]["mean"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        ("--missing", "cap"),
        ("--protocol", "verse", "--missing", "cap"),
        ("--protocol", "verse", "--tolerance", "2"),
        ("--flat-centroids", "verse19"),
    ],
)
def test_options_that_a_protocol_would_ignore_are_refused(tmp_path, options, capsys):
    assert command(tmp_path, *options) == 2
    assert "means nothing to the protocol" in capsys.readouterr().err
