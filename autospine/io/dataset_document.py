"""``dataset.json`` of nnU-Net v2, with our own facts under the key ``autospine``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from autospine.core.dataset import LabelSchema
from autospine.core.errors import DataError, DocumentError, LabelError
from autospine.core.geometry import Triple
from autospine.io import documents
from autospine.io.files import write_text
from autospine.io.images import SUFFIXES

_ENTRIES: Final = {"channel_names": dict, "labels": dict, "numTraining": int, "file_ending": str}
_OWN: Final = "autospine"
_BACKGROUND: Final = "background"
_IGNORE: Final = "ignore"


@dataclass(frozen=True)
class CaseFacts:
    """What nnU-Net has no place for.

    Args:
        patient: See ``autospine.core.dataset.Case``, like the next two.
        source: Where the scan comes from.
        licence: Its licence.
        orientation: Where the axes x, y, z of the original file pointed to, ``"PIR"``.
        centroids: LPS world position (x, y, z) in mm of the vertebral bodies' centres, by label name.
    """

    patient: str = ""
    source: str = ""
    licence: str = ""
    orientation: str = ""
    centroids: Mapping[str, Triple] = field(default_factory=dict)


@dataclass(frozen=True)
class Extension:
    """The value of the key ``autospine``.

    Args:
        vertebrae: Name of the vertebra by label value.
        cases: Facts by case identifier.
    """

    vertebrae: Mapping[int, str] = field(default_factory=dict)
    cases: Mapping[str, CaseFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetDocument:
    """The content of ``dataset.json``.

    Args:
        channels: Names of the channels.
        labels: Meaning of the mask values.
        training: Number of training cases.
        ending: Ending of all images and masks, ``".nii.gz"``.
        facts: Our own facts by case identifier.
        listed: Image and mask by case identifier, relative to the data set's folder, where the optional
            entry ``dataset`` names them; empty when they stand in ``imagesTr`` and ``labelsTr``.
    """

    channels: tuple[str, ...]
    labels: LabelSchema
    training: int
    ending: str = ".nii.gz"
    facts: Mapping[str, CaseFacts] = field(default_factory=dict)
    listed: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def read_document(path: Path) -> DatasetDocument:
    """Read ``dataset.json``.

    Raises:
        DataError: There is no such file, its images are of an unknown format or have several channels.
        LabelError: The labels are regions or not consecutive.
        DocumentError: The document is damaged or incomplete.
    """
    entries = _entries(path)
    ending = entries["file_ending"]
    if ending not in SUFFIXES:
        raise DataError(
            f"Files ending in {ending!r} cannot be read.",
            where=path,
            remedy=f"Convert the images to one of {', '.join(SUFFIXES)}.",
        )
    return DatasetDocument(
        _channels(entries["channel_names"], path),
        _labels(entries["labels"], path),
        entries["numTraining"],
        ending,
        _facts(entries, path),
        _listed(entries, path),
    )


def write_document(path: Path, document: DatasetDocument) -> None:
    """Write ``dataset.json``, atomically.

    Raises:
        StorageError: The disk refuses.
    """
    names = document.labels.names
    extension = Extension({value: names[value] for value in document.labels.vertebrae}, document.facts)
    entries = {
        "channel_names": {str(i): name for i, name in enumerate(document.channels)},
        "labels": {name: value for value, name in sorted(names.items())},
        "numTraining": document.training,
        "file_ending": document.ending,
        _OWN: json.loads(documents.to_json(extension)),
    }
    write_text(path, json.dumps(entries, indent=1) + "\n")


def _entries(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "This is no data set: there is no such file.",
            where=path,
            remedy="Name a folder with imagesTr, labelsTr and dataset.json, or convert one.",
        ) from error
    except (OSError, ValueError) as error:
        raise DocumentError(f"This is no complete JSON document ({error}).", where=path) from error
    entries = document if isinstance(document, dict) else {}
    wrong = [key for key, kind in _ENTRIES.items() if not isinstance(entries.get(key), kind)]
    if wrong:
        raise DocumentError(
            f"Entries are missing or of the wrong kind: {', '.join(wrong)}.",
            where=path,
            remedy="Describe the data set in the format of nnU-Net v2.",
        )
    return entries


def _channels(names: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    if len(names) != 1:
        raise DataError(
            f"The data set has {len(names)} channels; only single-channel CT is supported.",
            where=path,
            remedy="Keep the CT channel alone.",
        )
    return tuple(str(name) for name in names.values())


def _labels(given: Mapping[str, Any], path: Path) -> LabelSchema:
    for name, value in given.items():
        if isinstance(value, list):
            raise LabelError(
                f"The label {name!r} is a region made of several values; regions are not supported.",
                where=path,
                remedy="Give every label a single value.",
            )
        if not isinstance(value, int) or isinstance(value, bool):
            raise LabelError(
                f"The label {name!r} has the value {value!r}, not a whole number.",
                where=path,
                remedy='Write labels as "name": value, as nnU-Net v2 does.',
            )
    if given.get(_BACKGROUND) != 0:
        raise LabelError("There is no label background with the value 0.", where=path, remedy="Add it.")
    names = {value: name for name, value in given.items()}
    if len(names) != len(given):
        raise LabelError("Two labels have the same value.", where=path, remedy="Give each its own.")
    try:
        return LabelSchema(dict(sorted(names.items())), given.get(_IGNORE), _left_right(given))
    except LabelError as error:
        raise LabelError(error.message, where=path, remedy=error.remedy) from error


def _left_right(values: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """Pairs of labels whose names differ only in left and right."""
    lower = {name.lower(): value for name, value in values.items()}
    mirrored = {name: name.replace("left", "right") for name in lower if "left" in name}
    return tuple((lower[name], lower[other]) for name, other in mirrored.items() if other in lower)


def _facts(entries: Mapping[str, Any], path: Path) -> Mapping[str, CaseFacts]:
    if _OWN not in entries:
        return {}
    return documents.from_json(Extension, json.dumps(entries[_OWN]), path).cases


def _listed(entries: Mapping[str, Any], path: Path) -> dict[str, tuple[str, str]]:
    try:
        return {
            name: (str(files["images"][0]), str(files["label"]))
            for name, files in entries.get("dataset", {}).items()
        }
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise DocumentError(
            "The entry dataset does not give images and a label for every case.", where=path
        ) from error
