"""From what was measured in each scan to VerSe's figures over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from autospine.core import anatomy
from autospine.core.estimate import Estimate, estimate
from autospine.evaluation.verse import (
    EMPTY_SCAN_DISTANCE,
    Average,
    CaseMeasures,
    Missing,
    OfficialSummary,
    RegionSummary,
    StrictSummary,
    VertebraMeasure,
)

_REGIONS: Final = ("cervical", "thoracic", "lumbar")
_NONE: Final = "none"

_Vertebrae = Sequence[VertebraMeasure]
_Figure = Callable[[_Vertebrae], list[float]]


def summarise_official(cases: Sequence[CaseMeasures]) -> OfficialSummary:
    """Figures as VerSe's organisers count them."""
    penalty = Missing.of("penalise")
    listed = [vertebra for case in cases for vertebra in _to_identify(case.vertebrae)]
    foreground = [[case.foreground_dice] for case in cases]
    return OfficialSummary(
        scans=len(cases),
        vertebrae=len(listed),
        hits=sum(vertebra.official for vertebra in listed),
        identification=_average(cases, lambda all_: [float(v.official) for v in _to_identify(all_)]),
        foreground_dice=_averaged(foreground, [[]] * len(cases), _patients(cases)),
        dice=_average(cases, lambda all_: [v.dice or 0.0 for v in _to_segment(all_)]),
        distance=_official_distance(cases),
        hausdorff=_average(cases, lambda all_: _hausdorff(all_, penalty)),
    )


def summarise_strict(cases: Sequence[CaseMeasures], missing: Missing) -> StrictSummary:
    """Figures where all reference vertebrae compete and additional ones cost.

    Args:
        cases: What was measured.
        missing: What a missed vertebra contributes to the distances.
    """
    listed = [vertebra for case in cases for vertebra in case.vertebrae]
    right = [(case.all_right, case.patient) for case in cases if case.all_right is not None]
    return StrictSummary(
        scans=len(cases),
        vertebrae=len(_to_identify(listed)),
        predicted=len(_predicted(listed)),
        hits=sum(vertebra.strict for vertebra in listed),
        false_positives=_false_positives(listed),
        recall=_average(cases, _recall),
        precision=_average(cases, _precision),
        # A hit is a success once among the reference and once among the predicted vertebrae.
        f1=_average(cases, lambda all_: _recall(all_) + _precision(all_)),
        dice=_average(cases, _strict_dice),
        distance=_average(cases, lambda all_: _distance(all_, missing)),
        hausdorff=_average(cases, lambda all_: _hausdorff(all_, missing)),
        all_right=estimate([float(value) for value, _ in right], [patient for _, patient in right]),
        shifts=_shifts(cases),
        regions=tuple(_regions(cases, missing)),
        missing=missing,
    )


def _official_distance(cases: Sequence[CaseMeasures]) -> Average:
    compared = [_distance(case.vertebrae, Missing.of("skip")) for case in cases]
    # A scan without reference vertebrae has nothing to miss.
    scans = [
        values or ([EMPTY_SCAN_DISTANCE] if _to_identify(case.vertebrae) else [])
        for values, case in zip(compared, cases, strict=True)
    ]
    return _averaged(scans, compared, _patients(cases))


def _regions(cases: Sequence[CaseMeasures], missing: Missing) -> Iterable[RegionSummary]:
    for region in _REGIONS:
        parts = [[v for v in case.vertebrae if anatomy.region_of(v.label) == region] for case in cases]
        listed = [vertebra for part in parts for vertebra in part]
        if not listed:
            continue

        def pooled(figure: _Figure, parts: list[list[VertebraMeasure]] = parts) -> Estimate | None:
            return _pooled([figure(part) for part in parts], _patients(cases))

        yield RegionSummary(
            region=region,
            vertebrae=len(_to_identify(listed)),
            hits=sum(vertebra.strict for vertebra in listed),
            false_positives=_false_positives(listed),
            recall=pooled(_recall),
            precision=pooled(_precision),
            dice=pooled(_strict_dice),
            distance=pooled(lambda part: _distance(part, missing)),
            hausdorff=pooled(lambda part: _hausdorff(part, missing)),
        )


def _shifts(cases: Sequence[CaseMeasures]) -> dict[str, int]:
    """Scans by offset; those without reference vertebrae cannot be shifted."""
    offsets = Counter(case.shift.offset for case in cases if _to_identify(case.vertebrae))
    known = sorted(offset for offset in offsets if offset is not None)
    counts = {f"{offset:+d}" if offset else "0": offsets[offset] for offset in known}
    return counts | ({_NONE: offsets[None]} if offsets[None] else {})


def _recall(vertebrae: _Vertebrae) -> list[float]:
    return [float(v.strict) for v in _to_identify(vertebrae)]


def _precision(vertebrae: _Vertebrae) -> list[float]:
    return [float(v.strict) for v in _predicted(vertebrae)]


def _strict_dice(vertebrae: _Vertebrae) -> list[float]:
    return [v.dice for v in vertebrae if v.dice is not None]


def _distance(vertebrae: _Vertebrae, missing: Missing) -> list[float]:
    return missing.filled([v.distance for v in _to_identify(vertebrae)], missing.centre)


def _hausdorff(vertebrae: _Vertebrae, missing: Missing) -> list[float]:
    return missing.filled([v.hausdorff for v in _to_segment(vertebrae)], missing.hausdorff)


def _to_identify(vertebrae: _Vertebrae) -> list[VertebraMeasure]:
    return [vertebra for vertebra in vertebrae if vertebra.has_reference_centre]


def _to_segment(vertebrae: _Vertebrae) -> list[VertebraMeasure]:
    return [vertebra for vertebra in vertebrae if vertebra.has_reference_mask]


def _predicted(vertebrae: _Vertebrae) -> list[VertebraMeasure]:
    return [vertebra for vertebra in vertebrae if vertebra.has_predicted_centre]


def _false_positives(vertebrae: _Vertebrae) -> int:
    return sum(vertebra.centre == "prediction" for vertebra in vertebrae)


def _patients(cases: Sequence[CaseMeasures]) -> list[str]:
    return [case.patient for case in cases]


def _average(cases: Sequence[CaseMeasures], figure: _Figure) -> Average:
    values = [figure(case.vertebrae) for case in cases]
    return _averaged(values, values, _patients(cases))


def _averaged(
    scans: Sequence[Sequence[float]], pooled: Sequence[Sequence[float]], patients: Sequence[str]
) -> Average:
    """Averages of the values of each scan; scans without values are left out."""
    means = [[float(np.mean(values))] if values else [] for values in scans]
    known = [mean for (mean,) in filter(None, means)]
    median = float(np.median(known)) if known else None
    return Average(_pooled(means, patients), median, _pooled(pooled, patients))


def _pooled(values: Sequence[Sequence[float]], patients: Sequence[str]) -> Estimate | None:
    pairs = [(value, patient) for each, patient in zip(values, patients, strict=True) for value in each]
    return estimate([value for value, _ in pairs], [patient for _, patient in pairs])
