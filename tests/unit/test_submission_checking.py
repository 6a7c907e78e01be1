"""A clean submission passes; every kind of damage is found, and all of them at once."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from autospine.cli.main import run
from autospine.core import anatomy
from autospine.core.geometry import Grid, matrix_rows
from autospine.io.centroid_files import verse_text
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes
from autospine.io.images import write_image
from autospine.reporting import Reporter
from autospine.submission.challenges import CHALLENGES
from autospine.submission.checking import check_submission

C, S = np.cos(np.deg2rad(8)), np.sin(np.deg2rad(8))
#: Canonical but for a tilt; bone lies off the middle of every axis.
GRID = Grid(
    (36, 24, 20), (2.0, 1.0, 1.5), (-20.0, 31.0, 7.0), matrix_rows([[0, 0, 1], [-S, C, 0], [C, S, 0]])
)
NAMES = ("T11", "T12", "T13", "L1")
IDS = [anatomy.to_verse(anatomy.label_of(name)) for name in NAMES]


def labels(values=IDS):
    """From head to foot, the first axis running up."""
    mask = np.zeros(GRID.shape, np.uint8)
    for k, value in enumerate(values):
        mask[28 - 6 * k : 33 - 6 * k, 13:21, 2:8] = value
    return mask


def centres():
    return {
        anatomy.label_of(name): tuple(map(float, GRID.to_world((30.0 - 6 * k, 16.5, 4.5))))
        for k, name in enumerate(NAMES)
    }


def image():
    noise = np.random.default_rng(0).normal(0, 20, GRID.shape)
    return np.rint(np.where(labels() > 0, 300, -50) + noise).astype(np.int16)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Scans and flawless submissions of two challenges."""
    folder = tmp_path_factory.mktemp("checked")
    for name in ("verse014", "verse015"):
        write_image(folder / "scans" / f"{name}.nii.gz", image(), GRID)
        write_image(folder / "out/results" / f"{name}_seg.nii.gz", labels(), GRID)
        text = verse_text(centres(), GRID, VERSE19_FLAT)
        (folder / "out/results" / f"{name}_ctd.json").write_text(text)
    for number in ("016", "017"):
        write_image(folder / "images" / f"image{number}.mhd", image(), GRID)
        write_image(folder / f"x/Results2/masks/mask{number}.mhd", labels((200, 210, 220, 230)), GRID)
    table = ["image,vertebra,type,grade"]
    table += [f"image{number},L{level},," for number in ("016", "017") for level in range(1, 5)]
    (folder / "x/Results2/scores").mkdir()
    (folder / "x/Results2/scores/scores.csv").write_text("\n".join(table) + "\n")
    return folder


@pytest.fixture
def folder(template, tmp_path):
    return shutil.copytree(template, tmp_path / "checked")


def found(challenge, folder, scans=None, team=""):
    report = check_submission(CHALLENGES[challenge], folder, Reporter(quiet=True), team=team, scans=scans)
    return [f"{finding.file}: {finding.message}" for finding in report.problems]


def test_a_clean_submission_passes(folder, capsys):
    assert found("verse19", folder / "out") == []
    assert found("verse19", folder / "out" / "results") == []
    assert found("verse19", folder / "out", folder / "scans") == []
    assert found("xvertseg", folder / "x", folder / "images") == []
    assert run(["submit", "verse19", "--check", str(folder / "out"), "-i", str(folder / "scans")]) == 0
    assert capsys.readouterr().out.endswith("2 scans for VerSe'19, nothing wrong.\n")


def test_all_problems_are_listed_and_the_exit_code_tells(folder, capsys):
    (folder / "out/results/verse015_ctd.json").unlink()
    (folder / "out/results/notes.txt").touch()
    write_image(folder / "out/results/verse014_seg.nii.gz", np.zeros_like(labels()), GRID)
    command = ["submit", "verse19", "--check", str(folder / "out")]
    assert run(command) == 3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[-1].endswith("2 scans for VerSe'19, 4 problems.")
    assert run([*command, "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert report["challenge"] == "VerSe'19"
    assert {finding["file"] for finding in report["findings"] if finding["problem"]} == {
        "results/verse014_seg.nii.gz",
        "results/verse014_ctd.json",
        "results/verse015_ctd.json",
        "results/notes.txt",
    }


def test_scans_without_results_and_results_without_scans_are_named(folder):
    results = folder / "out/results"
    for end in ("seg.nii.gz", "ctd.json"):
        (results / f"verse014_{end}").rename(results / f"verse099_{end}")
    assert found("verse19", folder / "out") == []  # only the scans know better
    assert found("verse19", folder / "out", folder / "scans") == [
        "results/verse014_seg.nii.gz: This file is missing.",
        "results/verse014_ctd.json: This file is missing.",
        "results/verse099_ctd.json: This file belongs to no scan.",
        "results/verse099_seg.nii.gz: This file belongs to no scan.",
    ]


def test_verse20_wants_a_team_and_a_folder_a_scan(folder):
    results = folder / "out/results"
    assert found("verse20", folder / "out") == [": There is no folder results_{team}."]
    results.rename(folder / "out/results_us")
    problems = found("verse20", folder / "out")
    assert len(problems) == 5
    assert problems[0] == ": There is no mask."
    assert "is not named as VerSe'20 wants it" in problems[1]
    shutil.rmtree(folder / "out/results_us")
    for team in ("us", "them"):
        place = folder / f"out/results_{team}/verse014"
        write_image(place / "verse014_CT-ax_seg.nii.gz", labels(), GRID)
        (place / "verse014_CT-ax_ctd.json").write_text(verse_text(centres(), GRID, VERSE20_FLAT))
    assert found("verse20", folder / "out") == [": There are several teams: them, us."]
    assert found("verse20", folder / "out", team="us") == []
    assert found("verse20", folder / "out", team="nobody") == [": There is no folder results_{team}."]


def replace_mask(folder, array, grid=GRID):
    write_image(folder / "out/results/verse014_seg.nii.gz", np.ascontiguousarray(array), grid)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (labels([26, 27, 29, 44]), "does not have: 26, 27, 29, 44"),
        (labels().astype(np.int16) * 2000, "does not have: "),
        (-labels().astype(np.int16), "does not have: -28, -20"),
        (labels().astype(np.float64), "stored as float64"),
        (labels() / 3, "holds fractions"),
        (np.zeros_like(labels()), "It is empty"),
        (labels(IDS[::-1]), "stands on its head: L1 lies above T11"),
        (labels()[::-1], "stands on its head"),
        (labels()[:, :, ::-1], "its first axis flipped: 300"),
        (labels()[:, ::-1], "its second axis flipped"),
        (labels()[::-1], "its third axis flipped"),
    ],
)
def test_damaged_masks_are_described(folder, array, said):
    replace_mask(folder, array)
    problems = [
        line
        for line in found("verse19", folder / "out", folder / "scans")
        if line.startswith("results/verse014_seg.nii.gz: ")
    ]
    assert any(said in line for line in problems), problems


@pytest.mark.parametrize(
    ("array", "grid", "said"),
    [
        (labels()[:-1], GRID.resized((35, 24, 20)), "on another lattice than its scan: 35 x 24 x 20"),
        (labels(), Grid(GRID.shape, GRID.spacing, (0.0, 0.0, 0.0), GRID.direction), "another lattice"),
        (
            labels().transpose(2, 1, 0),
            Grid(
                GRID.shape[::-1],
                GRID.spacing[::-1],
                GRID.origin,
                matrix_rows(np.asarray(GRID.direction)[:, ::-1]),
            ),
            "axes have another order or sense",
        ),
    ],
)
def test_masks_that_do_not_lie_on_their_scan_are_described(folder, array, grid, said):
    replace_mask(folder, array, grid)
    (problem,) = found("verse19", folder / "out", folder / "scans")
    assert said in problem


def test_files_that_cannot_be_read_are_described(folder):
    (folder / "out/results/verse014_seg.nii.gz").write_bytes(b"no image")
    (folder / "out/results/verse015_ctd.json").write_text("[{")
    first, second = found("verse19", folder / "out")
    assert "verse014_seg.nii.gz: The file is damaged" in first
    assert "verse015_ctd.json: It is no complete JSON document" in second
    (folder / "scans/verse015.nii.gz").write_bytes(b"no image")
    assert any(
        "Its scan cannot be read" in line for line in found("verse19", folder / "out", folder / "scans")
    )


GOOD = json.loads(verse_text(centres(), GRID, VERSE19_FLAT))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"label": 20}, "It is no list"),
        (["T11", *GOOD], "Entry 1: it is no object"),
        ([{"direction": ["P", "I", "R"]}, *GOOD], "Entry 1: VerSe'19 has no direction entry"),
        ([*GOOD, {"label": 1, "X": 1, "Y": 2}], "Entry 5: it lacks Z"),
        ([*GOOD, {"label": 1, "X": 1, "Y": 2, "Z": None}], "not all finite numbers"),
        ([*GOOD, {"label": 1, "X": 1, "Y": 2, "Z": float("nan")}], "not all finite numbers"),
        ([*GOOD, {"label": "1", "X": 1, "Y": 2, "Z": 3}], "not all finite numbers"),
        ([*GOOD, {"label": 26, "X": 1, "Y": 2, "Z": 3}], "the label 26 is no vertebra of VerSe'19"),
        ([*GOOD, GOOD[0]], "has occurred before"),
        (GOOD[1:], "Labels of the mask have no centre: T11 (18)"),
        ([*GOOD, {"label": 1, "X": 1, "Y": 2, "Z": 3}], "Centres have no label in the mask: C1 (1)"),
        (
            [{**GOOD[0], "Y": GOOD[0]["Y"] + 30}, *GOOD[1:]],
            "1 of 4 centres miss their own vertebra: T11 (18)",
        ),
        ([{**GOOD[0], "X": 9999}, *GOOD[1:]], "1 of 4 centres miss"),
    ],
)
def test_damaged_centroid_files_are_described(folder, entries, said):
    (folder / "out/results/verse014_ctd.json").write_text(json.dumps(entries))
    problems = found("verse19", folder / "out")
    assert all(line.startswith("results/verse014_ctd.json: ") for line in problems)
    assert any(said in line for line in problems), problems


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (VERSE20_FLAT, "VerSe'20's flat frame"),
        (CentroidFrame(axis_codes(GRID)), "voxels along the file's own axes"),
        (CentroidFrame(VERSE20_FLAT.codes), "voxels to P, I, R"),
    ],
)
def test_the_frame_that_was_used_by_mistake_is_recognised(folder, frame, named):
    entries = [e for e in json.loads(verse_text(centres(), GRID, frame)) if "label" in e]
    (folder / "out/results/verse014_ctd.json").write_text(json.dumps(entries))
    (problem,) = found("verse19", folder / "out")
    assert f"Read as {named}" in problem
    assert "4 would be right" in problem


def test_a_centre_just_outside_its_vertebra_is_a_remark_only(folder):
    entries = [{**GOOD[0], "Y": GOOD[0]["Y"] + 6.0}, *GOOD[1:]]
    (folder / "out/results/verse014_ctd.json").write_text(json.dumps(entries))
    report = check_submission(CHALLENGES["verse19"], folder / "out", Reporter(quiet=True))
    assert report.problems == ()
    (remark,) = report.findings
    assert "T11 (18) lies 2." in remark.message


def test_masks_stored_with_a_scale_are_noticed(folder):
    path = folder / "out/results/verse014_seg.nii.gz"
    loaded = nib.load(path)
    scaled = nib.Nifti1Image(np.asanyarray(loaded.dataobj), loaded.affine)
    scaled.header.set_slope_inter(2.0, 0.0)
    nib.save(scaled, path)
    assert any("does not have" in line or "stored as" in line for line in found("verse19", folder / "out"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image,vertebra", "scan,level", "columns are not image, vertebra, type, grade"),
        ("image016,L1,,\n", "", "Vertebrae of the masks have no row: image016 L1"),
        ("image016,L1,,", "image016,L5,,", "Rows have no vertebra in the masks: image016 L5"),
        ("image016,L1,,", "image016,L1,,\nimage016,L1,,", "Rows occur more than once: image016 L1"),
        (
            "image016,L1,,",
            "image016,L1,bent,1",
            "none of normal, wedge, biconcave, crush: image016 L1",
        ),
        ("image016,L1,,", "image016,L1,wedge,4", "Grades are none of 0, 1, 2, 3: image016 L1"),
        ("image016,L1,,", "image016,L1,", "columns are not"),
    ],
)
def test_damaged_score_tables_are_described(folder, old, new, said):
    path = folder / "x/Results2/scores/scores.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    assert any(said in line for line in found("xvertseg", folder / "x"))


def test_xvertseg_masks_need_their_voxels(folder):
    masks = folder / "x/Results2/masks"
    (masks / "mask016.raw").unlink()
    (masks / "mask017.mhd").rename(masks / "mask17.mhd")
    problems = found("xvertseg", folder / "x", folder / "images")
    assert "Results2/masks/mask016.raw: This file is missing." in problems
    assert "Results2/masks/mask017.mhd: This file is missing." in problems
    assert "Results2/masks/mask17.mhd: This file is not named as xVertSeg wants it." in problems


def test_folders_that_are_not_there_are_data_errors(folder, capsys):
    assert run(["submit", "verse19", "--check", str(folder / "nowhere")]) == 3
    assert run(["submit", "verse19", "--check", str(folder / "out"), "-i", str(folder / "nowhere")]) == 3
    assert capsys.readouterr().err.count("There is no such folder") == 2
