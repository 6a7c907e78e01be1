"""Predictions become a challenge's files: codes, names, lattices; and nothing is lost on the way."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from autospine import registry
from autospine.cli.main import run
from autospine.core import anatomy
from autospine.core.column_report import ColumnReport, FoundVertebra
from autospine.core.geometry import Grid, Orientation
from autospine.io import documents
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, read_centroids
from autospine.io.column_reports import report_path
from autospine.io.conversion import ConversionOptions
from autospine.io.images import read_grid, read_labels, write_image
from autospine.io.raw_dataset import load_dataset

#: Axes swapped, two of them flipped, and tilted by eight degrees.
C, S = np.cos(np.deg2rad(8)), np.sin(np.deg2rad(8))
GRID = Grid((14, 20, 36), (1.5, 1.0, 2.0), (-20.0, 31.0, 7.0), ((-1.0, 0.0, 0.0), (0.0, C, S), (0.0, S, -C)))
CANONICAL = Orientation.to_canonical(GRID)
NAMES = ("T12", "T13", "L1", "L2", "L5")


def labels(names=NAMES):
    """Blocks along the third axis, which runs to the feet; shape (z, y, x) of ``GRID``."""
    mask = np.zeros(GRID.shape, np.uint8)
    for k, name in enumerate(names):
        mask[4:11, 5:14, 2 + 7 * k : 8 + 7 * k] = anatomy.label_of(name)
    return mask


def scan_array():
    """Bone where the mask is, fat elsewhere."""
    noise = np.random.default_rng(0).normal(0, 20, GRID.shape)
    return np.rint(np.where(labels() > 0, 300, -100) + noise).astype(np.int16)


def centre(k):
    return tuple(float(v) for v in GRID.to_world((7.0, 9.0, 4.5 + 7 * k)))


def scan(path):
    write_image(path, scan_array(), GRID)
    return path


def prediction(path, *, canonical=False, report=True, names=NAMES):
    """A mask on the scan's grid or on that of the converted scan, and a report with the blocks' centres."""
    array, grid = labels(names), GRID
    if canonical:
        array, grid = CANONICAL.apply(array), CANONICAL.apply_grid(grid)
    write_image(path, array, grid)
    if report:
        found = tuple(
            FoundVertebra(anatomy.label_of(name), name, centre(k), 900.0) for k, name in enumerate(names)
        )
        documents.save(
            report_path(path.parent, path.name.removesuffix(".nii.gz")), ColumnReport("argmax", found)
        )


def verse_coded():
    mask = labels()
    return np.where(mask == anatomy.T13, 28, mask)


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def submit(tmp_path, challenge, *more):
    common = ["-p", str(tmp_path / "p"), "-o", str(tmp_path / "o"), "--team", "us"]
    return run(["submit", challenge, *common, *more])


@pytest.mark.parametrize("canonical", [False, True])
def test_verse19(tmp_path, canonical):
    original = scan(tmp_path / "i" / "verse014.nii.gz")
    prediction(tmp_path / "p" / "verse014.nii.gz", canonical=canonical)
    assert submit(tmp_path, "verse19", "--scans", str(tmp_path / "i")) == 0
    assert tree(tmp_path / "o") == ["results/verse014_ctd.json", "results/verse014_seg.nii.gz"]
    written, expected = nib.load(tmp_path / "o/results/verse014_seg.nii.gz"), nib.load(original)
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), verse_coded().T)
    np.testing.assert_array_equal(written.affine, expected.affine)
    np.testing.assert_array_equal(written.header["pixdim"], expected.header["pixdim"])
    assert (written.get_qform(coded=True)[1], written.get_sform(coded=True)[1]) == (1, 1)
    assert written.get_data_dtype() == np.uint8
    found = read_centroids(tmp_path / "o/results/verse014_ctd.json", read_grid(original), VERSE19_FLAT)
    assert set(found) == {anatomy.label_of(name) for name in NAMES}
    np.testing.assert_allclose(found[anatomy.T13], centre(1), atol=0.02)


@pytest.mark.parametrize("name", ["verse401_verse253_CT-iso", "verse253_iso", "verse253"])
def test_verse20(tmp_path, name):
    original = scan(tmp_path / "i" / "verse401_verse253" / "verse401_verse253_CT-iso.nii.gz")
    prediction(tmp_path / "p" / f"{name}.nii.gz", canonical=name == "verse253")
    assert submit(tmp_path, "verse20", "--scans", str(tmp_path / "i")) == 0
    stem = "results_us/verse401_verse253/verse401_verse253_CT-iso"
    assert tree(tmp_path / "o") == [f"{stem}_ctd.json", f"{stem}_seg.nii.gz"]
    np.testing.assert_array_equal(read_labels(tmp_path / f"o/{stem}_seg.nii.gz").array[0], verse_coded())
    entries = json.loads((tmp_path / f"o/{stem}_ctd.json").read_text())
    assert [entry["label"] for entry in entries] == [19, 20, 21, 24, 28]
    assert all(set(entry) == {"label", "X", "Y", "Z"} for entry in entries)
    found = read_centroids(tmp_path / f"o/{stem}_ctd.json", read_grid(original), VERSE20_FLAT)
    np.testing.assert_allclose(found[anatomy.label_of("L5")], centre(4), atol=0.02)


def test_xvertseg(tmp_path, capsys):
    original = scan(tmp_path / "i" / "Data2" / "images" / "image016.mhd")
    prediction(tmp_path / "p" / "xvertseg016.nii.gz", canonical=True)
    assert submit(tmp_path, "xvertseg", "--scans", str(tmp_path / "i")) == 0
    assert tree(tmp_path / "o") == [
        "Results2/masks/mask016.mhd",
        "Results2/masks/mask016.raw",
        "Results2/scores/scores.csv",
    ]
    image, expected = sitk.ReadImage(tmp_path / "o/Results2/masks/mask016.mhd"), sitk.ReadImage(original)
    assert image.GetDirection() == pytest.approx(expected.GetDirection())
    assert image.GetOrigin() == pytest.approx(expected.GetOrigin())
    values = {"L1": 200, "L2": 210, "L5": 240}
    coded = np.zeros(GRID.shape, np.uint8)
    for name, value in values.items():
        coded[labels() == anatomy.label_of(name)] = value
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), coded)
    said = capsys.readouterr().out
    assert "xvertseg016: xVertSeg has no code for T12, T13" in said
    assert "autospine does not judge" in said
    rows = list(csv.reader((tmp_path / "o/Results2/scores/scores.csv").read_text().splitlines()))
    assert rows == [["image", "vertebra", "type", "grade"], *(["image016", name, "", ""] for name in values)]


def test_what_a_person_has_scored_stays(tmp_path, capsys):
    prediction(tmp_path / "p" / "image016.nii.gz")
    assert submit(tmp_path, "xvertseg") == 0
    table = tmp_path / "o/Results2/scores/scores.csv"
    table.write_text(table.read_text().replace("L2,,", "L2,wedge,1"))
    prediction(tmp_path / "p" / "image017.nii.gz", names=("L1",))
    assert submit(tmp_path, "xvertseg") == 0
    rows = table.read_text().splitlines()
    assert rows[1:] == ["image016,L1,,", "image016,L2,wedge,1", "image016,L5,,", "image017,L1,,"]
    assert "4 vertebrae" not in capsys.readouterr().out.splitlines()[-2]
    table.write_text("name;grade\n")
    assert submit(tmp_path, "xvertseg") == 2
    assert "columns" in capsys.readouterr().err
    assert submit(tmp_path, "xvertseg", "--force") == 0
    assert "wedge" not in table.read_text()


def test_the_converters_read_the_submissions_back(tmp_path):
    options = ConversionOptions(workers=1, quiet=True)
    prediction(tmp_path / "p" / "verse014.nii.gz")
    assert submit(tmp_path, "verse19") == 0
    scan(tmp_path / "o/results/verse014.nii.gz")
    registry.find("datasets", "verse")(tmp_path / "o", tmp_path / "Dataset1", options)
    (case,) = load_dataset(tmp_path / "Dataset1").training
    np.testing.assert_array_equal(read_labels(case.label).array[0], CANONICAL.apply(labels()))
    np.testing.assert_allclose(case.centroids[anatomy.T13], centre(1), atol=0.02)


def test_a_second_run_changes_nothing(tmp_path, capsys):
    for name in ("verse014", "verse015"):
        prediction(tmp_path / "p" / f"{name}.nii.gz")
    assert submit(tmp_path, "verse19") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("*.*")}
    (tmp_path / "o/results/verse015_seg.nii.gz").unlink()  # as if the first run had been killed
    (tmp_path / "o/results/.partial-999999999-verse015_seg.nii.gz").touch()
    capsys.readouterr()
    assert submit(tmp_path, "verse19", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [scan["kept"] for scan in report["scans"]] == [True, False]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("*.*")}
    assert before.keys() == after.keys()
    assert [path.name for path in before if before[path] != after[path]] == ["verse015_seg.nii.gz"]


@pytest.mark.parametrize("file", ["verse014_seg.nii.gz", "verse014_ctd.json"])
def test_other_content_is_replaced_by_force_only(tmp_path, capsys, file):
    prediction(tmp_path / "p" / "verse014.nii.gz")
    assert submit(tmp_path, "verse19") == 0
    whole = (tmp_path / "o/results" / file).read_bytes()
    (tmp_path / "o/results" / file).write_bytes(whole[:-9])
    assert submit(tmp_path, "verse19") == 2
    assert file in capsys.readouterr().err
    assert (tmp_path / "o/results" / file).read_bytes() == whole[:-9]
    assert submit(tmp_path, "verse19", "--force") == 0
    assert submit(tmp_path, "verse19") == 0


def test_without_a_report_the_centres_are_found_in_the_mask(tmp_path):
    prediction(tmp_path / "p" / "verse014.nii.gz", report=False)
    assert submit(tmp_path, "verse19") == 0
    found = read_centroids(tmp_path / "o/results/verse014_ctd.json", GRID, VERSE19_FLAT)
    np.testing.assert_allclose(found[anatomy.label_of("L2")], centre(3), atol=5)


def test_values_that_a_report_explains_are_understood(tmp_path):
    write_image(tmp_path / "p" / "verse014.nii.gz", (labels(("L1", "L2")) > 0).astype(np.uint8), GRID)
    report = ColumnReport("argmax", (FoundVertebra(1, "L1", centre(0), 900.0),))
    documents.save(report_path(tmp_path / "p", "verse014"), report)
    assert submit(tmp_path, "verse19") == 0
    assert set(np.unique(read_labels(tmp_path / "o/results/verse014_seg.nii.gz").array)) == {0, 20}


def test_what_a_report_does_not_name_is_no_vertebra(tmp_path, capsys):
    prediction(tmp_path / "p" / "verse014.nii.gz", names=("L1", "L2"))
    mask = labels(("L1", "L2", "T12"))
    mask[mask == anatomy.label_of("T12")] = 30  # a sacrum, say
    write_image(tmp_path / "p" / "verse014.nii.gz", mask, GRID)
    assert submit(tmp_path, "verse19") == 0
    assert "background in the mask: 30" in capsys.readouterr().out
    assert set(np.unique(read_labels(tmp_path / "o/results/verse014_seg.nii.gz").array)) == {0, 20, 21}


def test_a_report_of_another_mask_is_noticed(tmp_path, capsys):
    prediction(tmp_path / "p" / "verse014.nii.gz", names=("L1", "L2"))
    write_image(tmp_path / "p" / "verse014.nii.gz", labels(("L2", "L5")), GRID)
    assert submit(tmp_path, "verse19") == 3
    assert "verse014_vertebrae.json" in capsys.readouterr().err


def test_scans_without_a_prediction_are_an_error_unless_allowed(tmp_path, capsys):
    for name in ("verse014", "verse015", "verse016"):
        scan(tmp_path / "i" / f"{name}.nii.gz")
    prediction(tmp_path / "p" / "verse015.nii.gz")
    prediction(tmp_path / "p" / "verse099.nii.gz")
    assert submit(tmp_path, "verse19", "-i", str(tmp_path / "i")) == 3
    assert "verse014, verse016" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert submit(tmp_path, "verse19", "-i", str(tmp_path / "i"), "--allow-missing") == 0
    said = capsys.readouterr().out
    assert "without a prediction: verse014, verse016" in said
    assert "of no scan, left out: verse099" in said
    assert len(tree(tmp_path / "o")) == 2
    for path in (tmp_path / "p").glob("verse015*"):
        path.unlink()
    assert submit(tmp_path, "verse19", "-i", str(tmp_path / "i"), "--allow-missing") == 3


def test_a_mask_on_another_lattice_is_named_with_its_scan(tmp_path, capsys):
    write_image(tmp_path / "i" / "verse014.nii.gz", scan_array()[:-1], GRID.resized((13, 20, 36)))
    prediction(tmp_path / "p" / "verse014.nii.gz")
    assert submit(tmp_path, "verse19", "-i", str(tmp_path / "i")) == 3
    error = capsys.readouterr().err
    assert str(tmp_path / "p" / "verse014.nii.gz") in error
    assert str(tmp_path / "i" / "verse014.nii.gz") in error
    assert tree(tmp_path / "o") == []


def test_values_that_mean_no_vertebra_are_named(tmp_path, capsys):
    write_image(tmp_path / "p" / "verse014.nii.gz", verse_coded().astype(np.uint8), GRID)
    assert submit(tmp_path, "verse19") == 3
    error = capsys.readouterr().err
    assert "28" in error
    assert "verse014.nii.gz" in error


def test_an_empty_mask_is_submitted_with_a_remark(tmp_path, capsys):
    prediction(tmp_path / "p" / "verse014.nii.gz", names=())
    assert submit(tmp_path, "verse19") == 0
    assert "no vertebra in the mask" in capsys.readouterr().out
    assert (tmp_path / "o/results/verse014_ctd.json").read_text() == "[]\n"


@pytest.mark.parametrize("team", ["", "a/b", "..", "a b"])
def test_a_team_s_name_can_be_that_of_a_folder(tmp_path, capsys, team):
    prediction(tmp_path / "p" / "verse014.nii.gz")
    files = ["-p", str(tmp_path / "p"), "-o", str(tmp_path / "o")]
    assert run(["submit", "verse20", *files, "--team", team]) == 2
    assert "--team" in capsys.readouterr().err
    assert run(["submit", "verse19", *files]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["verse21", "-p", "p", "-o", "o"],
        ["verse19"],
        ["verse19", "-p", "p"],
        ["verse19", "--check", ".", "-o", "o"],
        ["verse19", "--check", ".", "-p", "p"],
    ],
)
def test_wrong_command_lines_are_usage_errors(arguments):
    assert run(["submit", *arguments]) == 2


def test_quiet_says_nothing(tmp_path, capsys):
    prediction(tmp_path / "p" / "verse014.nii.gz")
    assert submit(tmp_path, "verse19", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
