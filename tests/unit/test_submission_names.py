"""Which file is which scan's, and which prediction belongs to it."""

from pathlib import Path, PurePosixPath

import pytest

from autospine.core.errors import DataError
from autospine.submission.challenge import Place, Template
from autospine.submission.predictions import PredictedMask
from autospine.submission.scans import find_originals, pair
from autospine.submission.verse import aliases
from autospine.submission.verse19 import VERSE19
from autospine.submission.verse20 import VERSE20
from autospine.submission.xvertseg import XVERTSEG


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def predicted(*names):
    return [PredictedMask(name, Path(f"{name}.nii.gz")) for name in names]


@pytest.mark.parametrize(
    ("text", "place", "path"),
    [
        ("results/{name}_seg.nii.gz", Place("verse014"), "results/verse014_seg.nii.gz"),
        ("results_{team}/{folder}/{name}_ctd.json", Place("a_b", "c", "us"), "results_us/c/a_b_ctd.json"),
        ("Results{folder}/scores.csv", Place("", "2"), "Results2/scores.csv"),
    ],
)
def test_templates_are_filled_and_read(text, place, path):
    assert Template(text).fill(place) == PurePosixPath(path)
    assert Template(text).read(PurePosixPath(path)) == place
    assert Template(text).read(PurePosixPath(path + "x")) is None


def test_templates_respect_what_names_may_be():
    mask = Template("masks/mask{name}.mhd", r"\d{3}")
    assert mask.read(PurePosixPath("masks/mask016.mhd")) == Place("016")
    assert mask.read(PurePosixPath("masks/mask16.mhd")) is None
    assert mask.read(PurePosixPath("masks/mask016xmhd")) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("verse014", ("verse014",)),
        ("verse512_CT-iso", ("verse512_CT-iso", "verse512_iso", "verse512")),
        ("verse401_verse253_CT-iso", ("verse401_verse253_CT-iso", "verse253_iso", "verse253")),
        ("GL124_CT_ax", ("GL124_CT_ax", "gl124_ax", "gl124")),
        ("GL018-GL016", ("GL018-GL016", "gl018")),
        ("sub-verse401_split-verse253_ct", ("sub-verse401_split-verse253_ct", "verse253")),
        ("sub-gl003_dir-ax_ct", ("sub-gl003_dir-ax_ct", "gl003_ax", "gl003")),
        ("someone", ("someone",)),
    ],
)
def test_predictions_may_be_called_as_the_scan_or_as_the_converted_case(name, expected):
    assert aliases(name) == expected


def test_verse19_scans_stand_side_by_side(tmp_path):
    touch(tmp_path, "verse014.nii.gz", "verse014_seg.nii.gz", "verse020.nii.gz", "verse020_ctd.json")
    touch(tmp_path, "results/verse014_seg.nii.gz", "results/other.nii.gz", ".trash/verse099.nii.gz")
    assert [scan.place for scan in find_originals(VERSE19, tmp_path)] == [
        Place("verse014"),
        Place("verse020"),
    ]


def test_verse20_scans_have_folders_of_their_own(tmp_path):
    touch(tmp_path, "03_test/verse512/verse512_CT-iso.nii.gz", "03_test/GL018/GL018-GL016.nii.gz")
    touch(tmp_path, "verse600_CT-sag.nii.gz", "results_us/verse512/verse512_CT-iso_seg.nii.gz")
    touch(tmp_path, "03_test/verse512/verse512_CT-iso_seg.nii.gz", "03_test/verse512/verse512_CT-iso.png")
    assert {scan.place for scan in find_originals(VERSE20, tmp_path)} == {
        Place("verse512_CT-iso", "verse512"),
        Place("GL018-GL016", "GL018"),
        Place("verse600_CT-sag", "verse600"),  # bare: the folder its name would have
    }


def test_xvertseg_results_answer_the_data_folders(tmp_path):
    touch(tmp_path, "Data1/images/image001.mhd", "Data1/images/image001.raw", "Data1/masks/mask001.mhd")
    touch(tmp_path, "Data2/images/image003.mhd", "loose/image016.mhd", "loose/image002.mhd")
    touch(tmp_path, "Results2/masks/mask016.mhd")
    assert {scan.place for scan in find_originals(XVERTSEG, tmp_path)} == {
        Place("001", "1"),
        Place("003", "2"),  # the folder tells …
        Place("016", "2"),  # … and where there is none, the published numbers
        Place("002", "1"),
    }


def test_folders_without_scans_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        find_originals(VERSE19, tmp_path / "nowhere")
    with pytest.raises(DataError, match="Data2/images/image016"):
        find_originals(XVERTSEG, touch(tmp_path, "verse014.nii.gz"))


def test_two_scans_with_the_same_results_are_refused(tmp_path):
    touch(tmp_path, "a/verse014.nii.gz", "b/verse014.nii.gz")
    with pytest.raises(DataError, match="same results"):
        find_originals(VERSE19, tmp_path)


def test_predictions_find_their_scans_under_any_of_their_names(tmp_path):
    touch(tmp_path, *(f"{n}/{n}_CT-ax.nii.gz" for n in ("verse510", "verse511", "verse512", "verse513")))
    scans = find_originals(VERSE20, tmp_path)
    pairing = pair(VERSE20, predicted("verse510", "verse511_ax", "verse512_CT-ax", "verse999"), scans)
    assert [(p.name, s.place.folder) for p, s in pairing.pairs] == [
        ("verse510", "verse510"),
        ("verse511_ax", "verse511"),
        ("verse512_CT-ax", "verse512"),
    ]
    assert [scan.place.folder for scan in pairing.missing] == ["verse513"]
    assert [prediction.name for prediction in pairing.unused] == ["verse999"]


def test_a_prediction_that_fits_two_scans_is_refused(tmp_path):
    touch(tmp_path, "verse512/verse512_CT-ax.nii.gz", "verse512/verse512_CT-sag.nii.gz")
    scans = find_originals(VERSE20, tmp_path)
    with pytest.raises(DataError, match="could be that of"):
        pair(VERSE20, predicted("verse512"), scans)
    assert len(pair(VERSE20, predicted("verse512_ax", "verse512_sag"), scans).pairs) == 2


@pytest.mark.parametrize(
    ("challenge", "name", "place"),
    [
        (VERSE19, "verse014", Place("verse014")),
        (VERSE20, "verse401_verse253_CT-iso", Place("verse401_verse253_CT-iso", "verse401_verse253")),
        (VERSE20, "gl018", Place("gl018", "gl018")),
        (XVERTSEG, "image016", Place("016", "2")),
        (XVERTSEG, "xvertseg015", Place("015", "1")),
    ],
)
def test_without_scans_the_predictions_names_tell(challenge, name, place):
    ((_, scan),) = pair(challenge, predicted(name), None).pairs
    assert (scan.place, scan.path) == (place, None)


def test_names_that_tell_nothing_are_refused():
    with pytest.raises(DataError, match="lumbar7"):
        pair(XVERTSEG, predicted("lumbar7"), None)
    with pytest.raises(DataError, match="same results"):
        pair(XVERTSEG, predicted("image016", "xvertseg016"), None)
