"""Cases, their labels, and the data set they form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from autospine.core import anatomy
from autospine.core.errors import DataError, LabelError


@dataclass(frozen=True)
class LabelSchema:
    """Which value stands for what in the masks of a data set.

    Args:
        names: Name by value; 0 is ``"background"`` and the values are consecutive.
        ignore: The value of voxels that are neither trained on nor scored, always the highest one.
        left_right: Pairs of values that a left-right mirror image exchanges.

    Raises:
        LabelError: The values are not consecutive from 0, or the ignore value is not the highest.
    """

    names: Mapping[int, str]
    ignore: int | None = None
    left_right: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        values = sorted(self.names)
        if values != list(range(len(values))) or not values:
            raise LabelError(
                f"The label values {values} are not consecutive from 0.",
                remedy="Renumber the labels 0, 1, 2, … in the masks and in dataset.json.",
            )
        if self.ignore is not None and self.ignore != values[-1]:
            raise LabelError(
                f"The ignore label is {self.ignore}, not the highest value {values[-1]}.",
                remedy="Give the ignore label the highest value.",
            )

    @property
    def foreground(self) -> tuple[int, ...]:
        """All values but background and ignore, ascending."""
        return tuple(value for value in sorted(self.names) if value not in (0, self.ignore))

    @property
    def vertebrae(self) -> dict[int, int]:
        """Anatomical label (1..26) by value, for the values whose names are vertebrae."""
        return {v: anatomy.label_of(name) for v, name in self.names.items() if name in anatomy.COLUMN}

    @classmethod
    def vertebral_column(cls, *, ignore: bool = False) -> LabelSchema:
        """The schema of converted data sets: 0 background, 1..26 the vertebrae, 27 ignore if wanted."""
        names = {0: "background"} | {label: anatomy.name_of(label) for label in range(1, 27)}
        return cls(names | {27: "ignore"}, ignore=27) if ignore else cls(names)


@dataclass(frozen=True)
class Case:
    """One scan, with or without its mask.

    Args:
        identifier: Unique in the data set; the stem of its files.
        image: The scan's file.
        label: The mask's file; None for a scan to predict.
        patient: Cases of one patient never stand in two folds.
        source: Where the scan comes from, ``"verse19"``, ``"xvertseg"``, …
        licence: SPDX-like name, ``"CC-BY-SA-4.0"``.
        centroids: LPS world position (x, y, z) in mm of the vertebral bodies' centres, by label.
    """

    identifier: str
    image: Path
    label: Path | None = None
    patient: str = ""
    source: str = ""
    licence: str = ""
    centroids: Mapping[int, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """What keeps cases together in a fold: the patient, or the case itself when unknown."""
        return self.patient or self.identifier


@dataclass(frozen=True)
class Dataset:
    """Training cases (with masks), test cases (without) and the meaning of the labels.

    Raises:
        DataError: Two cases share an identifier.
    """

    name: str
    labels: LabelSchema
    training: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    channels: tuple[str, ...] = ("CT",)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for case in self.training + self.test:
            if case.identifier in seen:
                raise DataError(
                    f"The case {case.identifier} appears twice.",
                    where=case.image,
                    remedy="Give every scan its own name.",
                )
            seen.add(case.identifier)

    def with_centroids(self, centroids: Mapping[str, Mapping[int, tuple[float, float, float]]]) -> Dataset:
        """The same data set, its training cases with these body centres, by case identifier and label."""
        training = tuple(
            replace(case, centroids=centroids.get(case.identifier, case.centroids)) for case in self.training
        )
        return replace(self, training=training)
