"""What is exported comes back: body centres through every format, masks through every challenge's folder.

The scans are oblique, flipped, anisotropic; readers are nibabel and the data sets' converters.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autospine import registry
from autospine.core import anatomy
from autospine.core.column_report import ColumnReport, FoundVertebra
from autospine.core.geometry import Grid, Orientation, matrix_rows
from autospine.core.lattice import on_grid
from autospine.core.volume import Volume
from autospine.io import documents
from autospine.io.centroid_files import (
    Centre,
    read_slicer,
    read_table,
    slicer_text,
    table_text,
    verse_text,
)
from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame, axis_codes, read_centroids
from autospine.io.column_reports import report_path
from autospine.io.conversion import ConversionOptions
from autospine.io.images import read_labels, write_image
from autospine.io.raw_dataset import load_dataset
from autospine.reporting import Reporter
from autospine.submission.challenges import CHALLENGES
from autospine.submission.checking import check_submission
from autospine.submission.writing import SubmissionOptions, write_submission

QUIET = Reporter(quiet=True)
LUMBAR = [anatomy.label_of(f"L{level}") for level in range(1, 6)]

finite = st.floats(-500, 500, allow_nan=False)
positions = st.tuples(finite, finite, finite)
centres = st.dictionaries(st.sampled_from(anatomy.COLUMN_LABELS), positions, max_size=6)
orientations = st.builds(
    lambda axes, flips: Orientation(tuple(axes), flips),
    st.permutations(range(3)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)


@st.composite
def grids(draw, largest=9):
    """Any lattice with perpendicular axes: swapped, flipped and tilted by up to some twenty degrees."""
    tilt = np.linalg.qr(
        np.array([[draw(st.floats(-1, 1)) for _ in range(3)] for _ in range(3)]) * 0.2 + np.eye(3)
    )[0]
    tilt = tilt * np.sign(np.diag(tilt))
    order = draw(st.permutations(range(3)))
    signs = np.array([draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)])
    return Grid(
        tuple(draw(st.integers(2, largest)) for _ in range(3)),
        tuple(draw(st.floats(0.3, 4)) for _ in range(3)),
        draw(positions),
        matrix_rows(tilt[:, order] * signs),
    )


@st.composite
def predictions(draw, values=anatomy.COLUMN_LABELS):
    """A scan's grid, labels (z, y, x) on it, and how the axes of the predicted copy differ."""
    grid = draw(grids())
    seed = draw(st.integers(0, 2**16))
    chosen = draw(st.lists(st.sampled_from(values), min_size=1, max_size=5, unique=True))
    labels = np.random.default_rng(seed).choice([0, *chosen], grid.shape).astype(np.uint8)
    labels.flat[: len(chosen)] = chosen
    return grid, labels, draw(orientations)


def inside(labels, grid):
    """A point within each label: the centre of one of its voxels."""
    return {
        int(label): tuple(float(v) for v in grid.to_world(np.argwhere(labels == label)[0]))
        for label in np.unique(labels)
        if label
    }


def predict(folder, name, labels, grid, orientation):
    """The files of a prediction on a copy of the scan with other axes."""
    write_image(
        folder / f"{name}.nii.gz",
        np.ascontiguousarray(orientation.apply(labels)),
        orientation.apply_grid(grid),
    )
    found = [
        FoundVertebra(label, anatomy.name_of(label), centre, 1.0)
        for label, centre in inside(labels, grid).items()
    ]
    documents.save(report_path(folder, name), ColumnReport("argmax", tuple(found)))


def submit(challenge, folder, scan, name, labels, grid, orientation):
    """Write scan, prediction and submission; the submission's files by their endings."""
    image = np.arange(labels.size, dtype=np.int16).reshape(grid.shape)
    write_image(folder / "scans" / scan, image, grid)
    predict(folder / "masks", name, labels, grid, orientation)
    options = SubmissionOptions("us", folder / "scans")
    report = write_submission(CHALLENGES[challenge], folder / "masks", folder / "out", options, QUIET)
    again = write_submission(CHALLENGES[challenge], folder / "masks", folder / "out", options, QUIET)
    assert [scan.kept for scan in report.scans + again.scans] == [False, True]
    return folder / "out"


def assert_same_points(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for label, position in expected.items():
        np.testing.assert_allclose(found[label], position, atol=tolerance)


@settings(max_examples=60)
@given(grids(largest=600), centres)
def test_centres_survive_every_format(grid, points):
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "centres"
        for frame in (VERSE19_FLAT, VERSE20_FLAT, CentroidFrame(axis_codes(grid))):
            path.write_text(verse_text(points, grid, frame))
            back = read_centroids(path, grid, frame if frame.millimetres else None)
            assert_same_points(back, points, 0.005 * 3 * max(1, *grid.spacing))
        rows = [Centre("case", label, position, 0.5) for label, position in points.items()]
        path.write_text(table_text(rows))
        assert_same_points({row.label: row.position for row in read_table(path)}, points, 1e-3)
        path.write_text(slicer_text(points))
        assert_same_points(read_slicer(path), points, 1e-3)


@settings(max_examples=60)
@given(grids(), orientations)
def test_a_mask_finds_back_from_any_order_of_its_axes(grid, orientation):
    array = np.arange(np.prod(grid.shape)).reshape(1, *grid.shape)
    moved = Volume(array, grid).reoriented(orientation)
    np.testing.assert_array_equal(on_grid(moved, grid), array[0])
    np.testing.assert_array_equal(on_grid(Volume(array, grid), moved.grid), moved.array[0])


@settings(max_examples=25)
@given(predictions(), st.sampled_from(["verse19", "verse20"]))
def test_nibabel_and_the_converter_read_verse_submissions_back(given_case, challenge):
    grid, labels, orientation = given_case
    name = "verse014" if challenge == "verse19" else "verse014_CT-iso"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scan = f"{name}.nii.gz" if challenge == "verse19" else f"verse014/{name}.nii.gz"
        out = submit(challenge, folder, scan, name, labels, grid, orientation)
        (mask,) = out.rglob("*_seg.nii.gz")
        image = nib.load(mask)
        coded = np.where(labels == anatomy.T13, 28, labels)
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), coded.T)
        corner = np.array(grid.shape) - 1
        world = (image.affine @ [*corner[::-1], 1])[:3] * (-1, -1, 1)
        np.testing.assert_allclose(world, grid.to_world(corner), atol=1e-2)
        # The converter finds scan and mask side by side.
        (folder / "scans" / scan).rename(mask.parent / f"{name}.nii.gz")
        options = ConversionOptions(workers=1, quiet=True)
        registry.find("datasets", "verse")(out, folder / "Dataset1", options)
        (case,) = load_dataset(folder / "Dataset1").training
        canonical = Orientation.to_canonical(grid).apply(labels)
        np.testing.assert_array_equal(read_labels(case.label).array[0], canonical)
        assert_same_points(case.centroids, inside(labels, grid), 0.05)


@settings(max_examples=15)
@given(predictions(LUMBAR))
def test_the_converter_reads_xvertseg_submissions_back(given_case):
    grid, labels, orientation = given_case
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scan = "Data2/images/image016.mhd"
        out = submit("xvertseg", folder, scan, "xvertseg016", labels, grid, orientation)
        (folder / "scans/Data2").rename(out / "Data1")
        (out / "Results2/masks").rename(out / "Data1/masks")
        options = ConversionOptions(workers=1, quiet=True, intensity_shift=0)
        registry.find("datasets", "xvertseg")(out, folder / "Dataset1", options)
        (case,) = load_dataset(folder / "Dataset1").training
        canonical = Orientation.to_canonical(grid).apply(labels)
        np.testing.assert_array_equal(read_labels(case.label).array[0], canonical)


@settings(max_examples=20)
@given(predictions(), st.sampled_from(["verse19", "verse20"]))
def test_the_checker_finds_fault_with_places_never_with_what_was_written(given_case, challenge):
    grid, labels, orientation = given_case
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scan = {"verse19": "verse014.nii.gz", "verse20": "verse014/verse014.nii.gz"}[challenge]
        out = submit(challenge, folder, scan, "verse014", labels, grid, orientation)
        report = check_submission(CHALLENGES[challenge], out, QUIET)
        # Labels drawn at random stand in no anatomical order; nothing else may be wrong.
        assert [f for f in report.findings if "on its head" not in f.message] == []
        (mask,) = out.rglob("*_seg.nii.gz")
        written = read_labels(mask)
        x, y, z = written.grid.origin
        moved = replace(written.grid, origin=(x + 50.0, y, z))
        write_image(mask, written.array[0].astype(np.uint8), moved)
        report = check_submission(CHALLENGES[challenge], out, QUIET, scans=folder / "scans")
        assert any("another lattice" in finding.message for finding in report.problems)
