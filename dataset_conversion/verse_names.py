"""What the file names of VerSe say, in both published layouts.

Subject-based: ``sub-verse401_split-verse253_dir-ax_ct.nii.gz``, ``…_seg-vert_msk.nii.gz``,
``…_seg-subreg_ctd.json`` (older copies ``…_seg-vb_ctd.json``).

Flat: ``verse014.nii.gz``, ``verse014_seg.nii.gz``, ``verse014_ctd.json`` (VerSe'19) and
``verse401_verse253_CT-iso.nii.gz``, ``…_CT-iso_seg.nii.gz``, ``…_CT-iso_iso-ctd.json`` (VerSe'20), with
slips in the release such as ``GL124_CT_ax-iso-ctd.json`` beside ``GL124_CT-ax.nii.gz``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from autospine.io.centroids import VERSE19_FLAT, VERSE20_FLAT, CentroidFrame

Kind = Literal["image", "mask", "centroids"]

_NIFTI: Final = re.compile(r"\.nii(\.gz)?$")
_SERIES: Final = r"(?:verse|gl)\d+"
_ID: Final = re.compile(_SERIES)
_FLAT: Final = re.compile(
    rf"(?P<first>{_SERIES})(?:(?P<join>[_-])(?P<second>{_SERIES}))?"
    r"(?P<ct>[_-]ct(?![a-z])(?:[_-](?P<direction>iso|sag|ax|cor))?)?(?P<tail>.*)"
)
_FLAT_CENTROIDS: Final = re.compile(r"[_-](iso[_-])?ctd([_-]iso)?")
_SUBJECT_MASKS: Final = {"", "vert"}


@dataclass(frozen=True)
class NamedFile:
    """A file of VerSe.

    Args:
        path: The file.
        kind: What it holds.
        layout: Which naming it follows.
        series: Lower-case id of the series, unique in all of VerSe.
        patient: The patient that the name gives, if it does.
        direction: ``"ax"``, ``"sag"``, ``"iso"``, or nothing.
        frame: For centroids of the flat layout: their frame.
    """

    path: Path
    kind: Kind
    layout: Literal["subject", "flat"]
    series: str
    patient: str | None
    direction: str
    frame: CentroidFrame | None = None


def parse(path: Path) -> NamedFile | None:
    """What a file is by its name; None for anything that a conversion does not need."""
    name = path.name.lower()
    if name.endswith(".json"):
        stem, is_image = name.removesuffix(".json"), False
    elif _NIFTI.search(name):
        stem, is_image = _NIFTI.sub("", name), True
    else:
        return None
    return _subject(path, stem, is_image) if stem.startswith("sub-") else _flat(path, stem, is_image)


def _subject(path: Path, stem: str, is_image: bool) -> NamedFile | None:
    *parts, suffix = stem.split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    patient = entities.get("sub", "")
    series = entities.get("split", patient)
    if not (_ID.fullmatch(patient) and _ID.fullmatch(series)):
        return None
    kind = _subject_kind(suffix, entities.get("seg", ""), is_image)
    if kind is None:
        return None
    return NamedFile(path, kind, "subject", series, patient, entities.get("dir", ""))


def _subject_kind(suffix: str, segmentation: str, is_image: bool) -> Kind | None:
    if is_image and suffix == "ct":
        return "image"
    if is_image and suffix == "msk" and segmentation in _SUBJECT_MASKS:
        return "mask"
    if not is_image and suffix == "ctd":
        return "centroids"
    return None


def _flat(path: Path, stem: str, is_image: bool) -> NamedFile | None:
    match = _FLAT.fullmatch(stem)
    if match is None:
        return None
    kind = _flat_kind(match["tail"], is_image)
    if kind is None:
        return None
    series, patient = match["first"], match["second"]
    if match["join"] == "_":
        # PATIENT_SERIES. A hyphen instead joins two names of one scan; both then count as one patient.
        series, patient = patient, series
    is_verse20 = match["ct"] is not None or "iso" in match["tail"]
    frame = (VERSE20_FLAT if is_verse20 else VERSE19_FLAT) if kind == "centroids" else None
    return NamedFile(path, kind, "flat", series, patient, match["direction"] or "", frame)


def _flat_kind(tail: str, is_image: bool) -> Kind | None:
    if is_image:
        return {"": "image", "_seg": "mask", "-seg": "mask"}.get(tail)  # type: ignore[return-value]
    return "centroids" if _FLAT_CENTROIDS.fullmatch(tail) else None
