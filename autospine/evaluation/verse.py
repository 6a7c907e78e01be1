"""VerSe's figures: what is measured in a scan, and what is said about a set of scans.

``verse_summary`` turns the ``CaseMeasures`` of all scans into an ``OfficialSummary``, counted as VerSe's
organisers do, or into a ``StrictSummary``; they differ in what missed and additional vertebrae cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from autospine.core.estimate import Estimate
from autospine.evaluation.identification import RADIUS, Shift

#: Where a vertebra occurs: in the reference and the prediction, in one of them, or in neither.
Presence = Literal["both", "reference", "prediction", "neither"]
MissingChoice = Literal["skip", "cap", "penalise"]

#: mm that stand for the Hausdorff distance of a missed vertebra, and for the mean localisation error of a
#: scan in which no vertebra can be compared. Conventions of ours: the organisers' code computes neither.
MISSED_HAUSDORFF: Final = 100.0
EMPTY_SCAN_DISTANCE: Final = 1000.0


@dataclass(frozen=True)
class Missing:
    """What a missed vertebra contributes to mean distances.

    Args:
        choice: ``"skip"``: nothing, the mean is over the vertebrae found. ``"cap"``: no distance counts
            more than the value below, and a missed vertebra counts just that. ``"penalise"``: a missed
            vertebra counts the value below, the others count as they are.
        centre: That value in mm for the localisation error.
        hausdorff: That value in mm for the Hausdorff distance.
    """

    choice: MissingChoice
    centre: float
    hausdorff: float

    @classmethod
    def of(cls, choice: MissingChoice) -> Missing:
        """The choice with its usual values: caps 20 and 100 mm, penalties 1000 and 100 mm."""
        return cls(choice, RADIUS if choice == "cap" else EMPTY_SCAN_DISTANCE, MISSED_HAUSDORFF)

    def filled(self, distances: Iterable[float | None], value: float) -> list[float]:
        """The distances that enter a mean, None standing for a missed vertebra."""
        if self.choice == "skip":
            return [distance for distance in distances if distance is not None]
        limit = value if self.choice == "cap" else np.inf
        return [value if distance is None else min(distance, limit) for distance in distances]


@dataclass(frozen=True)
class VertebraMeasure:
    """One vertebra of one scan.

    Args:
        label: Autospine's own label, 1..26.
        name: Its name, ``"L1"``.
        centre: Which of the two lists of body centres holds it.
        mask: Which of the two masks holds it.
        official: Whether ``identification.official_hits`` counts it.
        strict: Whether ``identification.strict_hits`` counts it.
        distance: mm between the two centres; None unless both exist.
        dice: 0 unless both masks hold it; None if neither does.
        hausdorff: Maximum Hausdorff distance in mm; None unless both masks hold it.
    """

    label: int
    name: str
    centre: Presence
    mask: Presence
    official: bool
    strict: bool
    distance: float | None
    dice: float | None
    hausdorff: float | None

    @property
    def has_reference_centre(self) -> bool:
        """Whether it counts among the vertebrae to identify."""
        return self.centre in ("both", "reference")

    @property
    def has_predicted_centre(self) -> bool:
        """Whether it counts among the vertebrae predicted."""
        return self.centre in ("both", "prediction")

    @property
    def has_reference_mask(self) -> bool:
        """Whether it counts among the vertebrae to segment."""
        return self.mask in ("both", "reference")


@dataclass(frozen=True)
class CaseMeasures:
    """What was measured in one scan.

    Args:
        identifier: The case.
        patient: Whom it shows; cases of one patient are resampled together.
        predicted: Whether there was a prediction at all.
        vertebrae: From head to foot, all that occur anywhere.
        foreground_dice: Dice of all vertebrae as one mask; 1 if both masks are empty.
        shift: The offset that explains the names best.
        reference_source: Where the reference centres come from.
        prediction_source: Where the predicted centres come from.
    """

    identifier: str
    patient: str
    predicted: bool
    vertebrae: tuple[VertebraMeasure, ...]
    foreground_dice: float
    shift: Shift
    reference_source: str = ""
    prediction_source: str = ""

    @property
    def all_right(self) -> bool | None:
        """Whether every reference vertebra is a strict hit and no other is predicted; None without any."""
        listed = [vertebra for vertebra in self.vertebrae if vertebra.centre != "neither"]
        if not any(vertebra.has_reference_centre for vertebra in listed):
            return None
        return all(vertebra.strict for vertebra in listed)


@dataclass(frozen=True)
class Average:
    """One figure over scans.

    Args:
        scans: Mean of the scans' own means; every scan weighs the same.
        median: Their median.
        pooled: Mean over all vertebrae; every vertebra weighs the same.
    """

    scans: Estimate | None
    median: float | None
    pooled: Estimate | None


@dataclass(frozen=True)
class OfficialSummary:
    """What the organisers count: false positives cost nothing.

    Args:
        scans: Number of scans.
        vertebrae: Reference vertebrae with a centre.
        hits: Those identified, by ``official_hits``.
        identification: Share of hits.
        foreground_dice: Dice of all vertebrae as one mask, the one the organisers' notebook computes; not
            pooled.
        dice: Dice per reference vertebra, 0 for a missed one.
        distance: Localisation error in mm of the labels with both centres; a scan without any counts
            ``EMPTY_SCAN_DISTANCE`` among the scans.
        hausdorff: Maximum Hausdorff distance in mm per reference vertebra, ``MISSED_HAUSDORFF`` for a
            missed one.
    """

    scans: int
    vertebrae: int
    hits: int
    identification: Average
    foreground_dice: Average
    dice: Average
    distance: Average
    hausdorff: Average


@dataclass(frozen=True)
class RegionSummary:
    """One region of the spine, over all its vertebrae in all scans.

    Args:
        region: ``"cervical"``, ``"thoracic"`` or ``"lumbar"``.
        vertebrae: Reference vertebrae with a centre.
        hits: Those identified, by ``strict_hits``.
        false_positives: Predicted centres whose label the scan's reference lacks.
        recall: Hits by reference vertebrae.
        precision: Hits by predicted vertebrae.
        dice: Mean Dice, missed and additional vertebrae counting 0.
        distance: Mean localisation error in mm.
        hausdorff: Mean of the maximum Hausdorff distances in mm.
    """

    region: str
    vertebrae: int
    hits: int
    false_positives: int
    recall: Estimate | None
    precision: Estimate | None
    dice: Estimate | None
    distance: Estimate | None
    hausdorff: Estimate | None


@dataclass(frozen=True)
class StrictSummary:
    """Every reference vertebra competes, and every additional one costs.

    Args:
        scans: Number of scans.
        vertebrae: Reference vertebrae with a centre.
        predicted: Predicted vertebrae with a centre.
        hits: Those identified, by ``strict_hits``.
        false_positives: Predicted centres whose label the scan's reference lacks.
        recall: Hits by reference vertebrae, the identification rate.
        precision: Hits by predicted vertebrae.
        f1: 2 hits / (reference vertebrae + predicted vertebrae).
        dice: Dice of the vertebrae in either mask, missed and additional ones counting 0.
        distance: Localisation error in mm, missed vertebrae as ``missing`` says.
        hausdorff: Maximum Hausdorff distance in mm, likewise.
        all_right: Share of the scans with ``CaseMeasures.all_right``.
        shifts: Number of scans by best offset, ascending, ``"none"`` where nothing explains the names.
        regions: The same for each region that occurs.
        missing: What a missed vertebra contributes to the distances.
    """

    scans: int
    vertebrae: int
    predicted: int
    hits: int
    false_positives: int
    recall: Average
    precision: Average
    f1: Average
    dice: Average
    distance: Average
    hausdorff: Average
    all_right: Estimate | None
    shifts: Mapping[str, int]
    regions: tuple[RegionSummary, ...]
    missing: Missing
