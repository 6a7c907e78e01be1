"""Which VerSe series show the same patient, and under which licence they stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Series by patient, for the 18 patients with several. The subject-based file names tell this as well;
#: the flat ones of VerSe'19 do not.
SERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "verse400": ("verse090", "verse155"),
    "verse401": ("verse201", "verse253"),
    "verse402": ("verse202", "verse251"),
    "verse403": ("verse208", "verse255"),
    "verse404": ("verse209", "verse256"),
    "verse405": ("verse212", "verse258", "verse259"),
    "verse406": ("verse214", "verse261"),
    "verse407": ("verse215", "verse262"),
    "verse408": ("verse223", "verse265"),
    "verse409": ("verse226", "verse266"),
    "verse410": ("verse227", "verse267"),
    "verse411": ("verse232", "verse270"),
    "verse412": ("verse235", "verse290"),
    "verse413": ("verse239", "verse272"),
    "verse414": ("verse241", "verse273"),
    "verse415": ("verse243", "verse275"),
    "verse416": ("verse247", "verse279"),
    "verse417": ("verse277", "verse278"),
}
_PATIENTS: Final = {series: patient for patient, several in SERIES.items() for series in several}

_GL: Final = "gl"


def patient_of(series: str, named: str | None = None) -> str:
    """The patient of a series.

    Args:
        series: Lower-case series id, ``"verse253"``.
        named: The patient that the file name gives, if it does.
    """
    return _PATIENTS.get(series) or named or series


def is_gl(series: str) -> bool:
    """Whether a series is one of VerSe's ``gl`` scans."""
    return series.startswith(_GL)


def licence_of(series: str) -> str:
    """The licence of a VerSe series: ``gl`` scans may be passed on unchanged and without profit only."""
    return "CC-BY-NC-ND" if is_gl(series) else "CC-BY-SA-4.0"
