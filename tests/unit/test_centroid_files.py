"""Body centres as VerSe, as a table and as points for 3D Slicer; and the command that writes them."""

import json

import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core import anatomy
from autospine.core.column_report import ColumnReport, FoundVertebra
from autospine.core.errors import DocumentError
from autospine.core.geometry import Grid
from autospine.io import documents
from autospine.io.centroid_files import (
    COLUMNS,
    Centre,
    read_slicer,
    read_table,
    slicer_text,
    table_text,
    verse_text,
)
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes, read_centroids
from autospine.io.column_reports import report_path
from autospine.io.images import write_image

#: Canonical: z superior, y posterior, x left; 10 x 20 x 30 voxels of 3 x 2 x 1 mm.
GRID = Grid((10, 20, 30), (3.0, 2.0, 1.0), (100.0, 200.0, 300.0))
T12, T13, L1 = anatomy.label_of("T12"), anatomy.T13, anatomy.label_of("L1")
CENTRES = {T13: (104.0, 206.0, 309.0), L1: (105.0, 207.0, 303.0)}


def test_subject_based_files_name_their_axes_and_count_voxels():
    entries = json.loads(verse_text(CENTRES, GRID, CentroidFrame(axis_codes(GRID))))
    assert entries == [
        {"direction": ["L", "P", "S"]},
        {"label": 20, "X": 5.0, "Y": 3.5, "Z": 1.0},
        {"label": 28, "X": 4.0, "Y": 3.0, "Z": 3.0},
    ]


@pytest.mark.parametrize(
    ("frame", "t13"), [(VERSE19_FLAT, (18.0, 6.0, 4.0)), (VERSE20_FLAT, (6.0, 18.0, 25.0))]
)
def test_flat_files_count_millimetres_and_have_no_direction(frame, t13):
    entries = json.loads(verse_text(CENTRES, GRID, frame))
    assert [entry["label"] for entry in entries] == [20, 28]
    assert tuple(entries[1][key] for key in "XYZ") == t13


def test_verse_files_are_rounded_as_asked(tmp_path):
    centres = {L1: (104.123456, 206.0, 309.0)}
    assert json.loads(verse_text(centres, GRID, VERSE20_FLAT))[0]["Z"] == 24.88
    assert json.loads(verse_text(centres, GRID, VERSE20_FLAT, digits=1))[0]["Z"] == 24.9


def test_no_vertebra_is_an_empty_list():
    assert json.loads(verse_text({}, GRID, VERSE19_FLAT)) == []
    assert json.loads(verse_text({}, GRID, CentroidFrame(("P", "I", "R")))) == [
        {"direction": ["P", "I", "R"]}
    ]


@pytest.mark.parametrize("label", [0, 27, 28])
def test_labels_that_are_no_vertebra_are_refused(label):
    for write in (lambda c: verse_text(c, GRID, VERSE19_FLAT), slicer_text):
        with pytest.raises(KeyError):
            write({label: (0.0, 0.0, 0.0)})
    with pytest.raises(KeyError):
        table_text([Centre("a", label, (0.0, 0.0, 0.0))])


def test_the_table_names_its_columns_and_leaves_empty_what_nobody_knows():
    text = table_text(
        [Centre("a, b", T13, (1.0, -2.0, 3.25), 0.5, 0.98765), Centre("c", L1, (0.0, 0.0, 0.0))]
    )
    header, first, second = text.splitlines()
    assert header.split(",") == list(COLUMNS)
    assert first == '"a, b",26,28,T13,1.000,-2.000,3.250,0.5000,0.9877'
    assert second == "c,20,20,L1,0.000,0.000,0.000,,"


def test_the_table_reads_back(tmp_path):
    rows = (Centre('odd "name"', T13, (1.125, -2.0, 3.25), 0.5, 0.25), Centre("c", L1, (0.0, 0.0, 0.0)))
    (tmp_path / "t.csv").write_text(table_text(rows))
    assert read_table(tmp_path / "t.csv") == rows


@pytest.mark.parametrize(
    "text",
    [
        "",
        "case,label\na,1\n",
        table_text([]) + "a,99,99,X,0,0,0,,\n",
        table_text([]) + "a,1,1,C1,far,0,0,,\n",
    ],
)
def test_garbled_tables_are_named(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_table(tmp_path / "t.csv")
    assert caught.value.where == tmp_path / "t.csv"


def test_slicer_gets_labelled_points_from_head_to_foot_in_lps():
    document = json.loads(slicer_text({**CENTRES, T12: (0.0, 0.0, 400.0)}))
    assert "/markups-schema-v1." in document["@schema"]
    (markup,) = document["markups"]
    assert (markup["type"], markup["coordinateSystem"], markup["coordinateUnits"]) == (
        "Fiducial",
        "LPS",
        "mm",
    )
    points = markup["controlPoints"]
    assert [point["label"] for point in points] == ["T12", "T13", "L1"]
    assert points[1]["position"] == [104.0, 206.0, 309.0]
    assert len({point["id"] for point in points}) == 3


def test_slicer_s_own_files_are_read_in_either_convention(tmp_path):
    document = json.loads(slicer_text(CENTRES))
    document["markups"][0]["coordinateSystem"] = "RAS"
    document["markups"][0]["controlPoints"] += [
        {"label": "F-1", "position": [0, 0, 0]},
        {"label": "C1", "position": [0, 0, 0], "positionStatus": "undefined"},
    ]
    (tmp_path / "p.mrk.json").write_text(json.dumps(document))
    assert read_slicer(tmp_path / "p.mrk.json") == {T13: (-104.0, -206.0, 309.0), L1: (-105.0, -207.0, 303.0)}
    (tmp_path / "p.mrk.json").write_text('{"markups": [{}]}')
    with pytest.raises(DocumentError):
        read_slicer(tmp_path / "p.mrk.json")


def predictions(folder, report=True):
    """Two masks; the first has values of its own, which its report explains."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[6:9, 5:15, 10:20] = 1 if report else T13
    labels[1:4, 5:15, 10:20] = 2 if report else L1
    write_image(folder / "a.nii.gz", labels, GRID)
    if report:
        found = (
            FoundVertebra(1, "T13", CENTRES[T13], 900.0, visible=0.5, probability=0.75),
            FoundVertebra(2, "L1", CENTRES[L1], 900.0),
        )
        documents.save(report_path(folder, "a"), ColumnReport("sequence", found))
    write_image(folder / "b.nii.gz", np.zeros(GRID.shape, np.uint8), GRID)
    return folder


def test_the_command_writes_every_format_from_the_reports(tmp_path, capsys):
    folder, out = predictions(tmp_path / "p"), tmp_path / "out"
    formats = ["verse", "verse19", "verse20", "csv", "slicer"]
    command = ["export-centroids", "-p", str(folder), "-o", str(out), "--format", *formats]
    assert run(command) == 0
    assert capsys.readouterr().out == "a: T13, L1\nb: no vertebra\n"
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [f"{case}{end}" for case in "ab" for end in ("_ctd.json", "_iso-ctd.json", ".mrk.json")]
        + ["a_seg-subreg_ctd.json", "b_seg-subreg_ctd.json", "centroids.csv"]
    )
    assert read_centroids(out / "a_seg-subreg_ctd.json", GRID) == CENTRES
    assert read_centroids(out / "a_ctd.json", GRID, VERSE19_FLAT) == CENTRES
    assert read_centroids(out / "a_iso-ctd.json", GRID, VERSE20_FLAT) == CENTRES
    assert read_slicer(out / "a.mrk.json") == CENTRES
    assert read_table(out / "centroids.csv") == (
        Centre("a", T13, CENTRES[T13], 0.5, 0.75),
        Centre("a", L1, CENTRES[L1], 1.0, None),
    )
    assert run([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vertebrae"] == {"a": ["T13", "L1"], "b": []}


def test_without_a_report_the_centres_are_found_in_the_mask(tmp_path, capsys):
    folder = predictions(tmp_path / "p", report=False)
    assert run(["export-centroids", "-p", str(folder), "-o", str(tmp_path / "o"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    first, second = read_table(tmp_path / "o" / "centroids.csv")
    assert (first.label, second.label) == (T13, L1)
    assert (first.visible, first.probability) == (None, None)
    np.testing.assert_allclose(second.position, (114.5, 219.0, 306.0), atol=4)


def test_other_content_is_replaced_by_force_only(tmp_path, capsys):
    folder, out = predictions(tmp_path / "p"), tmp_path / "o"
    out.mkdir()
    (out / "a.mrk.json").write_text("mine")
    command = ["export-centroids", "-p", str(folder), "-o", str(out), "-f", "csv", "slicer"]
    assert run(command) == 2
    assert "a.mrk.json" in capsys.readouterr().err
    assert not (out / "centroids.csv").exists()  # nothing was written at all
    assert run([*command, "--force"]) == 0
    assert run(command) == 0


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: report_path(folder, "a").write_text("{"), "a_vertebrae.json"),
        (lambda folder: report_path(folder, "a").write_text(renamed(folder)), "'S1'"),
        (lambda folder: report_path(folder, "a").unlink(), ""),  # the values 1 and 2 are C1 and C2 then
        (lambda folder: (folder / "a.nii.gz").write_bytes(b"no image"), "a.nii.gz"),
        (lambda folder: write_image(folder / "a.nii.gz", np.full(GRID.shape, 1, np.uint8), GRID), "1, 2"),
        (lambda folder: write_image(folder / "a.nii", np.full(GRID.shape, 1, np.uint8), GRID), "two masks"),
        (lambda folder: write_image(folder / "c.nii.gz", np.full(GRID.shape, 27, np.uint8), GRID), "27"),
        (lambda folder: write_image(folder / "c.nii.gz", np.full(GRID.shape, -3, np.int16), GRID), "-3"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path, capsys, damage, named):
    folder = predictions(tmp_path / "p")
    damage(folder)
    code = run(["export-centroids", "-p", str(folder), "-o", str(tmp_path / "o")])
    assert code == (3 if named else 0)
    assert named in capsys.readouterr().err
    assert (tmp_path / "o").exists() == (not named)


def renamed(folder):
    return report_path(folder, "a").read_text().replace('"T13"', '"S1"')


def test_a_folder_without_masks_is_refused(tmp_path, capsys):
    assert run(["export-centroids", "-p", str(tmp_path), "-o", str(tmp_path / "o")]) == 3
    assert "no masks" in capsys.readouterr().err
