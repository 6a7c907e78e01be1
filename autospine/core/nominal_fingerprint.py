"""A data set that does not exist, to say what things cost before there is one: thoracolumbar CT at 0.8 mm."""

from __future__ import annotations

from typing import Final

from autospine.core.dataset import LabelSchema
from autospine.core.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autospine.core.geometry import Triple

_SPACING: Final = 0.8
_SHAPE: Final = (560, 400, 400)
_LEVELS: Final = tuple(range(12, 25))  # T5 to L5
_PITCH: Final = 28.0
_VOLUME: Final = 35_000.0
_CASES: Final = 80


def nominal_fingerprint() -> Fingerprint:
    """Eighty scans of 320 x 320 x 448 mm that show T5 to L5."""
    bone = Intensities(300.0, 260.0, 250.0, -1024.0, 3071.0, -80.0, 1300.0)
    return Fingerprint(
        dataset="nominal",
        labels=LabelSchema.vertebral_column(),
        channels=("CT",),
        cases=tuple(_case(number) for number in range(_CASES)),
        foreground=(bone,),
    )


def _case(number: int) -> CaseFingerprint:
    centres: dict[int, Triple] = {level: (0.0, 0.0, -_PITCH * place) for place, level in enumerate(_LEVELS)}
    return CaseFingerprint(
        identifier=f"nominal{number:02d}",
        spacing=(_SPACING,) * 3,
        shape=_SHAPE,
        shape_nonzero=_SHAPE,
        shape_body=_SHAPE,
        orientation="SPL",
        levels=_LEVELS,
        cut_levels=(),
        spine_extent=(_PITCH * len(_LEVELS), 90.0, 90.0),
        body_pitch=_PITCH,
        background_hu=-1000.0,
        plausible_hu=True,
        patient=f"nominal{number:02d}",
        centres=centres,
        volumes=dict.fromkeys(_LEVELS, _VOLUME),
    )
