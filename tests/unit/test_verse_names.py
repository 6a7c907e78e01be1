from pathlib import Path

import pytest

from autospine.dataset_conversion.patients import SERIES, is_gl, licence_of, patient_of
from autospine.dataset_conversion.verse_names import parse
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-verse004_ct.nii.gz", ("image", "verse004", "verse004", "")),
        ("sub-verse500_dir-ax_ct.nii.gz", ("image", "verse500", "verse500", "ax")),
        ("sub-verse401_split-verse253_ct.nii.gz", ("image", "verse253", "verse401", "")),
        ("sub-verse401_split-verse253_dir-iso_seg-vert_msk.nii.gz", ("mask", "verse253", "verse401", "iso")),
        ("sub-gl003_dir-ax_seg-subreg_ctd.json", ("centroids", "gl003", "gl003", "ax")),
        ("sub-verse225_seg-vb_ctd.json", ("centroids", "verse225", "verse225", "")),
        ("verse014.nii.gz", ("image", "verse014", None, "")),
        ("verse014_seg.nii", ("mask", "verse014", None, "")),
        ("verse014_ctd.json", ("centroids", "verse014", None, "")),
        ("verse512_CT-iso.nii.gz", ("image", "verse512", None, "iso")),
        ("verse512_CT-iso_seg.nii.gz", ("mask", "verse512", None, "iso")),
        ("verse512_CT-iso_iso-ctd.json", ("centroids", "verse512", None, "iso")),
        ("verse520_CT_ax.nii.gz", ("image", "verse520", None, "ax")),
        ("verse401_verse253_CT-iso.nii.gz", ("image", "verse253", "verse401", "iso")),
        ("GL124_CT_ax-iso-ctd.json", ("centroids", "gl124", None, "ax")),
        ("GL018-GL016.nii.gz", ("image", "gl018", "gl016", "")),
    ],
)
def test_names_of_both_layouts_are_understood(name, expected):
    file = parse(Path("folder") / name)
    assert file is not None
    assert (file.kind, file.series, file.patient, file.direction) == expected
    assert file.layout == ("subject" if name.startswith("sub-") else "flat")


@pytest.mark.parametrize(
    "name",
    [
        "sub-verse004_ct.json",
        "sub-verse004_seg-vert_snp.png",
        "sub-verse004_seg-subreg_msk.nii.gz",
        "sub-ct_label-22_ct.nii.gz",
        "sub-other7_ct.nii.gz",
        "verse014_snapshot.png",
        "verse512_CT-iso-w.png",
        "verse512.json",
        "example_ct.nii.gz",
        "dataset.json",
    ],
)
def test_everything_else_is_left_alone(name):
    assert parse(Path(name)) is None


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("verse014_ctd.json", VERSE19_FLAT),
        ("verse512_CT-iso_iso-ctd.json", VERSE20_FLAT),
        ("verse512_iso-ctd.json", VERSE20_FLAT),
        ("verse512_ctd-iso.json", VERSE20_FLAT),
        ("GL124_CT_ax-iso-ctd.json", VERSE20_FLAT),
        ("sub-verse004_seg-subreg_ctd.json", None),
    ],
)
def test_the_name_tells_the_frame_of_the_centroids(name, frame):
    assert parse(Path(name)).frame == frame


def test_the_patient_table_holds_what_is_published():
    series = [one for several in SERIES.values() for one in several]
    assert len(SERIES) == 18
    assert len(series) == len(set(series)) == 37
    assert 374 - len(series) + len(SERIES) == 355  # scans and patients of VerSe as a whole


def test_patients_come_from_the_table_before_the_name():
    assert patient_of("verse253") == patient_of("verse201") == "verse401"
    assert patient_of("verse014") == "verse014"
    assert patient_of("gl018", "gl016") == "gl016"


def test_gl_scans_have_their_own_licence():
    assert is_gl("gl003")
    assert licence_of("gl003") == "CC-BY-NC-ND"
    assert licence_of("verse003") == "CC-BY-SA-4.0"
