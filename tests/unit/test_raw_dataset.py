import json
from pathlib import Path

import numpy as np
import pytest

from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import DataError, DocumentError, GeometryError, ImageError, LabelError
from autospine.core.geometry import Grid
from autospine.io.checks import check_case
from autospine.io.images import write_image
from autospine.io.raw_dataset import image_path, label_path, load_dataset, save_dataset

GRID = Grid((4, 5, 6), (3.0, 1.0, 1.0))
DOCUMENT = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "L1": 1, "L2": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def image() -> np.ndarray:
    return np.arange(120, dtype=np.int16).reshape(4, 5, 6)


def make(folder: Path, names=("a", "b"), ending=".nii.gz", **changes) -> Path:
    for name in names:
        write_image(image_path(folder, name, ending=ending), image(), GRID)
        write_image(label_path(folder, name, ending=ending), np.ones((4, 5, 6), np.uint8), GRID)
    document = DOCUMENT | {"file_ending": ending, "numTraining": len(names)} | changes
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return folder


def test_a_plain_nnunet_data_set_is_accepted(tmp_path):
    folder = make(tmp_path / "Dataset001_X", description="foreign entries do no harm")
    dataset = load_dataset(folder)
    assert dataset.name == "Dataset001_X"
    assert [case.identifier for case in dataset.training] == ["a", "b"]
    assert dataset.training[0].image == folder / "imagesTr" / "a_0000.nii.gz"
    assert dataset.training[0].label == folder / "labelsTr" / "a.nii.gz"
    assert dataset.labels.vertebrae == {1: 20, 2: 21}
    assert dataset.training[0].group == "a"


@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd"])
def test_other_formats_are_accepted(tmp_path, ending):
    assert len(load_dataset(make(tmp_path, ending=ending)).training) == 2


def test_saving_and_loading_keeps_everything(tmp_path):
    folder = make(tmp_path / "D")
    write_image(image_path(folder, "t", test=True), image(), GRID)
    schema = LabelSchema.vertebral_column(ignore=True)
    training = tuple(
        Case(
            n, image_path(folder, n), label_path(folder, n), f"p{n}", "verse20", "CC", {26: (1.0, 2.5, -3.0)}
        )
        for n in ("a", "b")
    )
    dataset = Dataset("D", schema, training, (Case("t", image_path(folder, "t", test=True)),))
    save_dataset(folder, dataset, {"a": "PIR"})
    assert load_dataset(folder) == dataset
    extra = json.loads((folder / "dataset.json").read_text())["autospine"]
    assert extra["cases"]["a"]["orientation"] == "PIR"
    assert extra["cases"]["a"]["centroids"] == {"T13": [1.0, 2.5, -3.0]}
    assert extra["vertebrae"]["26"] == "T13"


def test_masks_of_test_cases_are_found(tmp_path):
    folder = make(tmp_path)
    for name in ("t", "u"):
        write_image(image_path(folder, name, test=True), image(), GRID)
    write_image(label_path(folder, "u", test=True), np.ones((4, 5, 6), np.uint8), GRID)
    assert [case.label is None for case in load_dataset(folder).test] == [True, False]


def test_names_that_differ_in_left_and_right_are_paired(tmp_path):
    labels = {"background": 0, "Rib_Left": 1, "rib_right": 2, "left_only": 3, "ignore": 4}
    schema = load_dataset(make(tmp_path, labels=labels)).labels
    assert schema.left_right == ((1, 2),)
    assert schema.ignore == 4
    assert schema.vertebrae == {}


def test_files_named_in_the_document_are_used(tmp_path):
    folder = make(tmp_path)
    (folder / "elsewhere").mkdir()
    (folder / "imagesTr" / "b_0000.nii.gz").rename(folder / "elsewhere" / "scan.nii.gz")
    listed = {
        "a": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"},
        "b": {"images": ["elsewhere/scan.nii.gz"], "label": "labelsTr/b.nii.gz"},
    }
    (folder / "dataset.json").write_text(json.dumps(DOCUMENT | {"dataset": listed}))
    assert load_dataset(folder).training[1].image == folder / "elsewhere" / "scan.nii.gz"
    (folder / "dataset.json").write_text(json.dumps(DOCUMENT | {"dataset": {"a": {"images": []}}}))
    with pytest.raises(DocumentError, match="entry dataset"):
        load_dataset(folder)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"labels": {"background": 0, "spine": [1, 2]}}, LabelError, "region"),
        ({"labels": {"background": 0, "a": 1, "b": 3}}, LabelError, "consecutive"),
        ({"labels": {"background": 0, "ignore": 1, "b": 2}}, LabelError, "ignore"),
        ({"labels": {"0": "background", "1": "L1"}}, LabelError, "whole number"),
        ({"labels": {"air": 0, "L1": 1}}, LabelError, "background"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, LabelError, "same value"),
        ({"labels": None}, DocumentError, "labels"),
        ({"numTraining": "two"}, DocumentError, "numTraining"),
        ({"numTraining": 3}, DataError, "numTraining says 3"),
        ({"file_ending": ".png"}, DataError, r"\.png"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, DataError, "2 channels"),
        ({"autospine": {"cases": {"a": {"sex": "f"}}}}, DocumentError, "sex"),
    ],
)
def test_unusable_documents_are_refused(tmp_path, changes, kind, message):
    with pytest.raises(kind, match=message) as caught:
        load_dataset(make(tmp_path, **changes))
    assert caught.value.where == tmp_path / "dataset.json"


def test_damaged_or_absent_documents_are_refused(tmp_path):
    with pytest.raises(DataError, match="no data set"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": ')
    with pytest.raises(DocumentError, match="complete"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DocumentError, match="missing"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps(DOCUMENT))
    with pytest.raises(DataError, match="imagesTr"):
        load_dataset(tmp_path)


def test_images_without_mask_or_channel_number_are_refused(tmp_path):
    folder = make(tmp_path)
    (folder / "labelsTr" / "b.nii.gz").unlink()
    with pytest.raises(DataError, match="first is b"):
        load_dataset(folder)
    (folder / "imagesTr" / "b_0000.nii.gz").rename(folder / "imagesTr" / "b.nii.gz")
    with pytest.raises(DataError, match="does not end in _0000"):
        load_dataset(folder)


def test_only_files_in_their_place_are_described(tmp_path):
    folder = make(tmp_path / "D")
    stray = Case("a", tmp_path / "a_0000.nii.gz")
    with pytest.raises(DataError, match="does not stand"):
        save_dataset(folder, Dataset("D", LabelSchema.vertebral_column(), (stray,)))
    mixed = tuple(Case(n, image_path(folder, n, ending=e)) for n, e in (("a", ".nii"), ("b", ".mha")))
    with pytest.raises(DataError, match="differently"):
        save_dataset(folder, Dataset("D", LabelSchema.vertebral_column(), mixed))


@pytest.mark.parametrize(
    ("scan", "mask", "grid", "kind", "message"),
    [
        (np.full((4, 5, 6), 7, np.int16), None, GRID, ImageError, "value 7"),
        (image(), np.full((4, 5, 6), 9, np.uint8), GRID, LabelError, "9"),
        (image(), np.ones((4, 5, 7), np.uint8), Grid((4, 5, 7), (3.0, 1.0, 1.0)), GeometryError, "4 x 5 x 7"),
        (
            image(),
            np.ones((4, 5, 6), np.uint8),
            Grid((4, 5, 6), (2.0, 1.0, 1.0)),
            GeometryError,
            "2 x 1 x 1 mm",
        ),
    ],
)
def test_unusable_cases_are_refused(tmp_path, scan, mask, grid, kind, message):
    case = load_dataset(make(tmp_path)).training[0]
    write_image(case.image, scan.astype(np.float32) if scan.dtype == float else scan, GRID)
    if mask is not None:
        write_image(case.label, mask, grid)
    with pytest.raises(kind, match=message):
        check_case(case, LabelSchema({0: "background", 1: "L1", 2: "L2"}))


@pytest.mark.parametrize(("shift", "sound"), [(0.1, True), (9.0, False)])
def test_a_masks_origin_may_only_be_rounded(tmp_path, shift, sound):
    dataset = load_dataset(make(tmp_path))
    case = dataset.training[0]
    write_image(case.label, np.ones((4, 5, 6), np.uint8), Grid(GRID.shape, GRID.spacing, (shift, 0.0, 0.0)))
    if sound:
        check_case(case, dataset.labels)
    else:
        with pytest.raises(GeometryError, match="origin or direction"):
            check_case(case, dataset.labels)
