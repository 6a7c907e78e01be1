"""A data set on disk, in the layout of nnU-Net v2: any such folder is read, and ours is one.

::

    DATASET/imagesTr/CASE_0000.nii.gz   labelsTr/CASE.nii.gz     training cases
            imagesTs/CASE_0000.nii.gz   labelsTs/CASE.nii.gz     test cases, masks where they are known
            dataset.json                                         with our own facts under "autospine"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from autospine.core.dataset import Case, Dataset, LabelSchema
from autospine.core.errors import DataError
from autospine.io.dataset_document import CaseFacts, DatasetDocument, read_document, write_document
from autospine.io.images import SUFFIXES, is_image

#: Name of the document that makes a folder a data set.
DOCUMENT: Final = "dataset.json"
_CHANNEL: Final = "_0000"

_Files = tuple[Path, Path | None]


def image_path(folder: Path, identifier: str, *, test: bool = False, ending: str = ".nii.gz") -> Path:
    """Where a scan stands in the data set ``folder``."""
    return folder / ("imagesTs" if test else "imagesTr") / f"{identifier}{_CHANNEL}{ending}"


def label_path(folder: Path, identifier: str, *, test: bool = False, ending: str = ".nii.gz") -> Path:
    """Where a mask stands in the data set ``folder``."""
    return folder / ("labelsTs" if test else "labelsTr") / f"{identifier}{ending}"


def load_dataset(folder: Path) -> Dataset:
    """Read an nnU-Net v2 raw data set with one channel.

    Args:
        folder: The folder that holds ``dataset.json``; its name is the data set's name.

    Raises:
        DataError: There is no data set, a training case has no mask, the number of training cases is
            not the declared one, or there is more than one channel.
        LabelError: The labels are regions or not consecutive.
        DocumentError: ``dataset.json`` is damaged.
    """
    document = read_document(folder / DOCUMENT)
    listed: dict[str, _Files] = {
        name: (folder / image, folder / label) for name, (image, label) in document.listed.items()
    }
    training = _cases(listed or _found(folder, document.ending, test=False), document)
    _require_complete(training, document, folder)
    test = _cases(_found(folder, document.ending, test=True), document)
    return Dataset(folder.resolve().name, document.labels, training, test, document.channels)


def save_dataset(folder: Path, dataset: Dataset, orientations: Mapping[str, str] | None = None) -> None:
    """Write ``dataset.json``; the images and masks have to stand where ``image_path`` and ``label_path`` say.

    Args:
        folder: The data set's folder.
        dataset: What to describe.
        orientations: Axis codes of the original files by case identifier, as far as they are known.

    Raises:
        DataError: An image stands elsewhere, or the images end differently.
        StorageError: The disk refuses.
    """
    ending = _common_ending(dataset)
    for cases, test in ((dataset.training, False), (dataset.test, True)):
        for case in cases:
            expected = image_path(folder, case.identifier, test=test, ending=ending)
            if case.image != expected:
                raise DataError(
                    "The image does not stand in the data set's folder.",
                    where=case.image,
                    remedy=f"Move it to {expected}.",
                )
    facts = {
        case.identifier: _facts(case, dataset.labels, (orientations or {}).get(case.identifier, ""))
        for case in dataset.training + dataset.test
    }
    document = DatasetDocument(dataset.channels, dataset.labels, len(dataset.training), ending, facts)
    write_document(folder / DOCUMENT, document)


def _found(folder: Path, ending: str, *, test: bool) -> dict[str, _Files]:
    """Images in ``imagesTr`` or ``imagesTs``, each with its mask if there is one."""
    place = image_path(folder, "", test=test).parent
    if not place.is_dir() and not test:
        raise DataError(
            "There is no folder imagesTr.", where=folder, remedy="Name the folder that holds dataset.json."
        )
    cases: dict[str, _Files] = {}
    for image in sorted(place.glob(f"*{ending}")):
        if not is_image(image):
            continue
        stem = image.name.removesuffix(ending)
        if not stem.endswith(_CHANNEL):
            raise DataError(
                f"The image's name does not end in {_CHANNEL}{ending}.",
                where=image,
                remedy=f"Images are called CASE{_CHANNEL}{ending} and have one channel.",
            )
        name = stem.removesuffix(_CHANNEL)
        label = label_path(folder, name, test=test, ending=ending)
        cases[name] = (image, label if label.is_file() else None)
    return cases


def _cases(files: Mapping[str, _Files], document: DatasetDocument) -> tuple[Case, ...]:
    values = {name: value for value, name in document.labels.names.items()}
    cases = []
    for name, (image, label) in sorted(files.items()):
        facts = document.facts.get(name, CaseFacts())
        centroids = {values[n]: position for n, position in facts.centroids.items() if n in values}
        cases.append(Case(name, image, label, facts.patient, facts.source, facts.licence, centroids))
    return tuple(cases)


def _require_complete(training: tuple[Case, ...], document: DatasetDocument, folder: Path) -> None:
    bare = [case for case in training if case.label is None or not case.label.is_file()]
    if bare:
        raise DataError(
            f"{len(bare)} of {len(training)} training cases have no mask, the first is {bare[0].identifier}.",
            where=bare[0].image,
            remedy="Put the masks into labelsTr or move the images to imagesTs.",
        )
    if len(training) != document.training:
        raise DataError(
            f"There are {len(training)} training cases, but numTraining says {document.training}.",
            where=folder / DOCUMENT,
            remedy="Copy the missing files or correct numTraining.",
        )


def _facts(case: Case, labels: LabelSchema, orientation: str) -> CaseFacts:
    centroids = {labels.names[label]: position for label, position in sorted(case.centroids.items())}
    return CaseFacts(case.patient, case.source, case.licence, orientation, centroids)


def _common_ending(dataset: Dataset) -> str:
    names = [case.image.name for case in dataset.training + dataset.test]
    endings = {next((s for s in SUFFIXES if name.endswith(s)), "") for name in names} or {".nii.gz"}
    if len(endings) != 1:
        raise DataError(
            f"The images end differently: {', '.join(sorted(endings))}.", remedy="Use one format throughout."
        )
    return endings.pop()
