import json

import numpy as np
import pytest

from autospine.core.column_report import ColumnReport, FoundVertebra
from autospine.core.errors import DocumentError
from autospine.core.geometry import Grid
from autospine.evaluation.case_centres import centroid_file, predicted_centres, reference_centres
from autospine.io import documents

GRID = Grid((20, 20, 20), (3.0, 2.0, 2.0), (100.0, 200.0, 300.0))
L1 = 20
LISTED = {L1: (1.0, 2.0, 3.0)}


@pytest.fixture
def labels():
    array = np.zeros(GRID.shape, np.int32)
    array[5:12, 4:14, 4:14] = L1
    return array


@pytest.fixture
def mask(tmp_path):
    return tmp_path / "a.nii.gz"


def write_report(mask, name="L1", centre=(7.0, 8.0, 9.0)):
    vertebra = FoundVertebra(L1, name, centre, 1000.0)
    documents.save(mask.with_name("a_vertebrae.json"), ColumnReport("argmax", (vertebra,)))


def write_file(mask, name="a_ctd.json", position=(5, 6, 7), direction=("L", "P", "S")):
    entries = [{"direction": direction}] if direction else []
    entries += [{"label": L1} | dict(zip("XYZ", position, strict=True))]
    (mask.parent / name).write_text(json.dumps(entries))


def test_a_prediction_has_report_then_file_then_mask(mask, labels):
    derived = predicted_centres(mask, labels, GRID)
    assert derived.source == "mask"
    index = GRID.to_index(derived.positions[L1])
    assert labels[tuple(np.rint(index).astype(int))] == L1
    write_file(mask)
    found = predicted_centres(mask, labels, GRID)
    assert (found.source, found.positions) == ("centroid file", {L1: (110.0, 212.0, 321.0)})
    write_report(mask)
    found = predicted_centres(mask, labels, GRID)
    assert (found.source, found.positions) == ("report", {L1: (7.0, 8.0, 9.0)})


def test_a_missing_prediction_has_none(labels):
    found = predicted_centres(None, labels, GRID)
    assert (found.source, found.positions) == ("none", {})


def test_a_reference_has_data_set_then_file_then_mask(mask, labels):
    write_report(mask)
    assert reference_centres(mask, labels, GRID, {}).source == "mask"
    write_file(mask)
    assert reference_centres(mask, labels, GRID, {}).source == "centroid file"
    found = reference_centres(mask, labels, GRID, LISTED)
    assert (found.source, found.positions) == ("data set", LISTED)


def test_names_of_centroid_files(tmp_path):
    assert centroid_file(tmp_path / "a_seg.nii.gz") is None
    write_file(tmp_path / "a_seg.nii.gz")
    assert centroid_file(tmp_path / "a_seg.nii.gz") == tmp_path / "a_ctd.json"
    write_file(tmp_path / "a_seg.nii.gz", "a_seg_ctd.json")
    assert centroid_file(tmp_path / "a_seg.nii.gz") == tmp_path / "a_seg_ctd.json"


def test_a_flat_file_must_be_told(mask, labels):
    write_file(mask, direction=None, position=(27, 6, 4))
    for centres in (predicted_centres, reference_centres):
        with pytest.raises(DocumentError, match=r"a_ctd\.json.*--flat-centroids verse19"):
            centres(mask, labels, GRID)
    # VerSe'19 counts mm from the upper, anterior, right corner; VerSe'20 from the anterior, upper, left one.
    found = reference_centres(mask, labels, GRID, flat="verse19").positions[L1]
    assert found == pytest.approx((104.0, 206.0, 300 + 57 - 27))
    found = predicted_centres(mask, labels, GRID, flat="verse20").positions[L1]
    assert found == pytest.approx((100 + 38 - 4, 200 + 27, 300 + 57 - 6))


def test_a_reference_far_outside_its_scan_is_refused(mask, labels):
    write_file(mask, position=(5, 6, 33))  # 14 voxels above the top, 42 mm
    with pytest.raises(DocumentError, match=r"a_ctd\.json: L1 lies 42 mm outside.*--flat-centroids"):
        reference_centres(mask, labels, GRID)
    assert predicted_centres(mask, labels, GRID).source == "centroid file"
    write_file(mask, position=(5, 6, 22))  # a body cut by the border may have its centre just beyond
    assert reference_centres(mask, labels, GRID).source == "centroid file"


def test_damaged_files_are_named(mask, labels):
    write_file(mask, direction=("L", "P"))
    with pytest.raises(DocumentError, match=r"a_ctd\.json.*remove it"):
        predicted_centres(mask, labels, GRID)
    mask.with_name("a_vertebrae.json").write_text("{")
    with pytest.raises(DocumentError, match=r"a_vertebrae\.json"):
        predicted_centres(mask, labels, GRID)
    write_report(mask, name="S1")
    with pytest.raises(DocumentError, match=r"a_vertebrae\.json.*'S1'"):
        predicted_centres(mask, labels, GRID)
