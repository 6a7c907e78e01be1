import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import DataError, GeometryError, ImageError, LabelError
from autospine.core.fingerprint import Fingerprint
from autospine.core.geometry import Grid, Orientation
from autospine.fingerprinting import fingerprint_dataset
from autospine.intensities import ValueCounts
from autospine.io.documents import from_json, to_json
from autospine.io.images import write_image

LABELS = LabelSchema({0: "background", 1: "L1", 2: "L2", 3: "L3", 4: "ignore"}, ignore=4)
PATIENT = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def scan(seed=0, shape=(40, 24, 20)):
    """Noise in air, a body, and three vertebrae whose centres are 12 voxels apart."""
    random = np.random.default_rng(seed)
    image = random.normal(-1000, 20, shape)
    image[:, 4:20, 3:17] += 1040
    labels = np.zeros(shape, dtype=np.uint8)
    for value, start in ((1, 26), (2, 14), (3, 2)):
        part = slice(start, start + 8), slice(8, 16), slice(6, 14)
        image[part] += 300
        labels[part] = value
    return image.round().astype(np.int16), labels


def write_case(folder, name, image, labels, grid=None):
    grid = grid or Grid(image.shape, (2.5, 1.0, 1.0))
    paths = folder / f"{name}.nii.gz", folder / f"{name}_mask.nii.gz"
    write_image(paths[0], image, grid)
    write_image(paths[1], labels, grid)
    return Case(name, *paths)


def dataset(*cases, labels=LABELS):
    return Dataset("tiny", labels, cases)


def test_shapes_spacing_and_levels(tmp_path):
    image, labels = scan()
    image[:3], image[:, :, -2:] = 0, 0
    labels[:3] = 0
    seen = []
    made = fingerprint_dataset(
        dataset(write_case(tmp_path, "a", image, labels)), on_case=seen.append, samples=100
    )
    (case,) = made.cases
    assert seen == ["a"]
    assert (case.shape, case.spacing) == ((40, 24, 20), (2.5, 1.0, 1.0))
    assert case.shape_nonzero == (37, 24, 18)
    assert case.field_of_view == (100.0, 24.0, 20.0)
    assert case.orientation == "SPL"
    assert (case.levels, case.cut_levels) == ((1, 2, 3), ())
    assert case.spine_extent == (31 * 2.5, 8.0, 8.0)
    assert case.plausible_hu
    assert made.median_relative_size == pytest.approx(37 * 18 / 40 / 20)


def test_the_pitch_comes_from_masks_that_are_not_cut(tmp_path):
    image, labels = scan()
    labels[34:] = np.where(labels[33] > 0, 1, 0)
    case = write_case(tmp_path, "a", image, labels)
    (made,) = fingerprint_dataset(dataset(case), samples=10).cases
    assert made.cut_levels == (1,)
    assert made.body_pitch == pytest.approx(12 * 2.5)


def test_given_centroids_set_the_pitch(tmp_path):
    case = write_case(tmp_path, "a", *scan())
    centroids = {1: (0.0, 0.0, 100.0), 2: (0.0, 0.0, 65.0), 3: (0.0, 0.0, 30.0)}
    case = Case(case.identifier, case.image, case.label, centroids=centroids)
    assert fingerprint_dataset(dataset(case), samples=10).median_pitch == pytest.approx(35.0)


def test_levels_that_are_no_neighbours_have_no_pitch(tmp_path):
    image, labels = scan()
    case = write_case(tmp_path, "a", image, np.where(labels == 2, 0, labels))
    assert fingerprint_dataset(dataset(case), samples=10).median_pitch is None


def test_any_orientation_gives_the_same_canonical_fingerprint(tmp_path):
    image, labels = scan()
    turn = Orientation((2, 0, 1), (True, False, True))
    grid = turn.apply_grid(Grid(image.shape, (2.5, 1.0, 1.5), direction=PATIENT))
    turned = write_case(tmp_path, "a", turn.apply(image), turn.apply(labels), grid)
    straight = write_case(tmp_path, "b", image, labels, Grid(image.shape, (2.5, 1.0, 1.5)))
    first, second = fingerprint_dataset(dataset(turned, straight), samples=10).cases
    assert first.orientation == "RSA"
    assert first.spacing == pytest.approx(second.spacing)
    assert (first.shape, first.shape_body, first.levels) == (second.shape, second.shape_body, second.levels)


def nnunet_statistics(cases, samples):
    """nnU-Net's rule, written down naively: all samples of all cases in one array."""
    pooled = []
    for image, labels in cases:
        foreground = image[labels > 0].astype(np.float32)
        pooled.append(np.random.RandomState(1234).choice(foreground, samples // len(cases), replace=True))
    values = np.concatenate(pooled).astype(np.float64)
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    return [values.mean(), median, values.std(), values.min(), values.max(), low, high]


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_intensities_are_sampled_as_nnunet_does(tmp_path, kind):
    scans = []
    for seed in (1, 2, 3):
        image, labels = scan(seed)
        exact = image + (np.random.default_rng(seed).random(image.shape) if kind is np.float32 else 0)
        scans.append((exact.astype(kind), labels))
    cases = [write_case(tmp_path, str(n), *pair) for n, pair in enumerate(scans)]
    found = fingerprint_dataset(dataset(*cases), samples=30_000).foreground[0]
    values = [found.mean, found.median, found.std, found.minimum, found.maximum]
    values += [found.percentile_00_5, found.percentile_99_5]
    assert values == pytest.approx(nnunet_statistics(scans, 30_000), rel=1e-6)


def test_many_samples_are_drawn_in_pieces(monkeypatch):
    values = np.arange(50.0)
    whole = ValueCounts.sampled(values, 1000)
    monkeypatch.setattr("autospine.intensities._CHUNK", 7)
    pieces = ValueCounts.sampled(values, 1000)
    assert whole.counts.tolist() == pieces.counts.tolist()
    assert whole.counts.sum() == 1000


@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_percentiles_of_a_table_are_those_of_the_values(count):
    values = np.random.default_rng(count).integers(-200, 1500, count)
    table = ValueCounts.of(values, np.ones(count, dtype=np.int64))
    for percent in (0, 0.5, 50, 99.5, 100):
        assert table.percentile(percent) == pytest.approx(np.percentile(values, percent))


def test_workers_change_nothing(tmp_path):
    cases = [write_case(tmp_path, str(n), *scan(n)) for n in range(3)]
    alone = fingerprint_dataset(dataset(*cases), samples=300)
    assert fingerprint_dataset(dataset(*cases), workers=2, samples=300) == alone
    assert [case.identifier for case in alone.cases] == ["0", "1", "2"]


def test_a_fingerprint_survives_its_document(tmp_path):
    made = fingerprint_dataset(dataset(write_case(tmp_path, "a", *scan())), samples=100)
    assert from_json(Fingerprint, to_json(made)) == made
    assert json.loads(to_json(made))["cases"][0]["levels"] == [1, 2, 3]


def test_shifted_units_are_noticed(tmp_path):
    image, labels = scan()
    case = write_case(tmp_path, "a", image + 1024, labels)
    assert not fingerprint_dataset(dataset(case), samples=10).cases[0].plausible_hu


def test_a_case_without_foreground_contributes_nothing(tmp_path):
    image, labels = scan()
    full = write_case(tmp_path, "a", image, labels)
    empty = write_case(tmp_path, "b", image, np.zeros_like(labels))
    made = fingerprint_dataset(dataset(full, empty), samples=200)
    assert made.cases[1].levels == ()
    assert made.cases[1].spine_extent == (0.0, 0.0, 0.0)
    assert made.level_counts == {1: 1, 2: 1, 3: 1}


def test_the_ignored_label_is_no_level(tmp_path):
    image, labels = scan()
    labels[36:] = 4
    case = write_case(tmp_path, "a", image, labels)
    assert fingerprint_dataset(dataset(case), samples=10).cases[0].levels == (1, 2, 3)


def broken(tmp_path, name, change):
    image, labels = scan()
    image, labels = change(image.astype(np.float32), labels)
    return write_case(tmp_path, name, image, labels)


def undeclared(image, labels):
    return image, np.where(labels == 1, 9, labels)


def constant(image, labels):
    return np.zeros_like(image), labels


@pytest.mark.parametrize(("change", "error"), [(undeclared, LabelError), (constant, ImageError)])
def test_unusable_cases_are_refused_by_name(tmp_path, change, error):
    case = broken(tmp_path, "odd", change)
    with pytest.raises(error) as caught:
        fingerprint_dataset(dataset(case), samples=10)
    assert "odd" in Path(caught.value.where).name


def test_a_scan_with_holes_is_refused(tmp_path):
    image, labels = scan()
    case = write_case(tmp_path, "odd", image, labels)
    holes = sitk.GetImageFromArray(np.where(image > 0, np.nan, image))
    holes.CopyInformation(sitk.ReadImage(str(case.image)))
    sitk.WriteImage(holes, str(case.image))
    with pytest.raises(ImageError, match="NaN"):
        fingerprint_dataset(dataset(case), samples=10)


def test_a_truncated_scan_is_refused(tmp_path):
    case = write_case(tmp_path, "odd", *scan())
    case.image.write_bytes(case.image.read_bytes()[:2000])
    with pytest.raises(ImageError):
        fingerprint_dataset(dataset(case), samples=10)


def test_a_mask_of_another_shape_is_refused(tmp_path):
    image, labels = scan()
    case = write_case(tmp_path, "odd", image, labels)
    write_image(case.label, labels[:-1], Grid(labels[:-1].shape, (2.5, 1.0, 1.0)))
    with pytest.raises(GeometryError, match="mask"):
        fingerprint_dataset(dataset(case), samples=10)


def test_all_unusable_cases_are_listed_at_once(tmp_path):
    cases = [broken(tmp_path, name, undeclared) for name in ("first", "second")]
    fine = write_case(tmp_path, "fine", *scan())
    with pytest.raises(DataError) as caught:
        fingerprint_dataset(dataset(cases[0], fine, cases[1]), samples=10)
    text = str(caught.value)
    assert "2 cases" in text
    assert "first" in text
    assert "second" in text


def test_nothing_to_train_on_is_refused(tmp_path):
    with pytest.raises(DataError, match="no training cases"):
        fingerprint_dataset(dataset())
    image, labels = scan()
    case = write_case(tmp_path, "a", image, np.zeros_like(labels))
    with pytest.raises(DataError, match="labelled"):
        fingerprint_dataset(dataset(case), samples=10)


def test_a_training_case_needs_a_mask(tmp_path):
    case = write_case(tmp_path, "a", *scan())
    with pytest.raises(DataError, match="mask"):
        fingerprint_dataset(dataset(Case("a", case.image)), samples=10)


def test_body_centres_are_given_or_found_in_masks(tmp_path):
    image, labels = scan()
    labels[34:] = np.where(labels[33] > 0, 1, 0)  # the border cuts L1
    case = write_case(tmp_path, "a", image, labels)
    case = Case(case.identifier, case.image, case.label, patient="p", centroids={2: (9.5, 11.0, 44.0)})
    (made,) = fingerprint_dataset(dataset(case), samples=10).cases
    assert list(made.centres) == [1, 2, 3]
    assert made.centres[2] == (9.5, 11.0, 44.0)
    found = np.array(made.centres[3])
    assert np.abs(found - [9.5, 11.5, 5.5 * 2.5]).max() < 2.5
    assert made.patient == "p"


def test_volumes_and_cut_ends(tmp_path):
    image, labels = scan()
    labels[34:] = np.where(labels[33] > 0, 1, 0)
    labels[14:22, 8:16, 14:] = 2  # the border cuts L2 at the side
    (made,) = fingerprint_dataset(dataset(write_case(tmp_path, "a", image, labels)), samples=10).cases
    assert made.volumes[3] == pytest.approx(8 * 8 * 8 * 2.5)
    assert made.cut_levels == (1, 2)
    assert made.end_cut_levels == (1,)
