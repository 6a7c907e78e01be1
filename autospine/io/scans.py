"""Which files a user means by "these scans": a file, a folder, a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core.errors import DataError
from autospine.io.images import SUFFIXES, image_stem, is_image

_MASK_ENDINGS: Final = re.compile(r"(_msk|_seg|_mask|_label)s?$", re.IGNORECASE)
_CHANNEL: Final = re.compile(r"_0000$")


@dataclass(frozen=True)
class ScanFile:
    """A scan to predict.

    Args:
        path: Its file.
        name: What its prediction is called, without ending: the file's stem less nnU-Net's ``_0000``.
    """

    path: Path
    name: str


def find_scans(inputs: Sequence[Path]) -> list[ScanFile]:
    """The scans in files, folders and lists.

    A folder stands for the images in it, or, when it holds none itself, for all images below it that
    are not named like masks. A ``.txt`` file lists one path a line.

    Raises:
        DataError: There is nothing, or two scans would get the same name.
    """
    found = [ScanFile(path, _CHANNEL.sub("", image_stem(path))) for path in _expand(inputs)]
    names: dict[str, Path] = {}
    for scan in found:
        if scan.name in names:
            raise DataError(
                f"Two scans are called {scan.name}: {names[scan.name]} and {scan.path}.",
                remedy="Predict them in separate calls, into separate folders.",
            )
        names[scan.name] = scan.path
    return found


def _expand(inputs: Sequence[Path]) -> list[Path]:
    result: list[Path] = []
    for path in inputs:
        if path.is_dir():
            result += _in_folder(path)
        elif path.suffix == ".txt" and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            result += _expand([Path(line.strip()) for line in lines if line.strip()])
        else:
            result.append(path)
    return result


def _in_folder(folder: Path) -> list[Path]:
    direct = sorted(p for p in folder.iterdir() if is_image(p))
    nested = sorted(p for p in folder.rglob("*") if is_image(p) and not _MASK_ENDINGS.search(image_stem(p)))
    if not (direct or nested):
        raise DataError(
            "There are no images in this folder.",
            where=folder,
            remedy=f"Give a folder with files ending in {', '.join(SUFFIXES)}.",
        )
    return direct or nested
