"""Folders of stored predictions, merged into one folder of masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autospine.core.anchor import NO_ANCHORS, Anchors
from autospine.core.column_report import Decoding
from autospine.core.ensemble import PostProcessing
from autospine.core.errors import DataError, GeometryError, UsageError
from autospine.core.geometry import Grid
from autospine.core.plan import Plan
from autospine.inference.clustering import decode_clusters
from autospine.inference.decoding import Decoded, decode_argmax, decode_sequence, post_processed
from autospine.inference.prediction import Prediction
from autospine.io import documents
from autospine.io.column_reports import report_path
from autospine.io.images import write_image
from autospine.reporting import Reporter

_ARRAY: Final = ".b2nd"
_NONE: Final = PostProcessing()


@dataclass(frozen=True)
class StoredPredictions:
    """A folder that prediction has left logits in.

    Args:
        folder: Holds ``<case>.b2nd``, ``<case>.json`` and the ``plan.json`` they were made by.
        plan: That plan.
        cases: Identifiers, sorted.
    """

    folder: Path
    plan: Plan
    cases: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path) -> StoredPredictions:
        """Look into a folder.

        Raises:
            DocumentError: The plan is absent or damaged.
            DataError: There are no stored predictions.
        """
        plan = documents.load(folder / "plan.json", Plan)
        names = (path.name.removesuffix(_ARRAY) for path in folder.glob(f"[!.]*{_ARRAY}"))
        # A case's arrays share one document; arrays beside the logits have none of their own.
        cases = sorted(name for name in names if (folder / f"{name}.json").is_file())
        if not cases:
            raise DataError(
                "There are no stored predictions here.",
                where=folder,
                remedy="Predict again with --save-probabilities.",
            )
        return cls(folder, plan, tuple(cases))


def merge_folders(
    folders: Sequence[Path],
    output: Path,
    weights: Sequence[float] = (),
    post_processing: PostProcessing = _NONE,
    decoding: Decoding | None = None,
    *,
    anchors: Anchors = NO_ANCHORS,
    force: bool = False,
    reporter: Reporter | None = None,
) -> tuple[Path, ...]:
    """Merge stored predictions by the weighted mean of their softmax and write the masks.

    Args:
        folders: At least one.
        output: Where ``<case>.nii.gz`` is written, on the scan's own grid.
        weights: One positive number per folder; none weighs them equally.
        post_processing: What happens to every merged mask.
        decoding: How names are decided; None names columns where a folder knows where vertebrae are, and
            clusters where none tells levels apart.
        anchors: Known vertebrae, where names are decided by clustering.
        force: Replace masks that are there already.
        reporter: Where progress is told; by default nowhere.

    Returns:
        The masks' paths, in the order of the cases.

    Raises:
        UsageError: The weights do not fit, or masks are there already.
        DataError: The folders hold different cases or classes.
        GeometryError: Two predictions of a case are of different scans.
    """
    shares = _shares(folders, weights)
    stored = [StoredPredictions.open(folder) for folder in folders]
    for other in stored[1:]:
        _require_alike(stored[0], other)
    targets = {case: output / f"{case}.nii.gz" for case in stored[0].cases}
    existing = [path for path in targets.values() if path.exists()]
    if existing and not force:
        raise UsageError("This mask is there already.", where=existing[0], remedy="Replace it with --force.")
    with (reporter or Reporter(quiet=True)).bar(len(targets), "merge") as advance:
        for case, target in targets.items():
            grid, decoded = _decoded(case, stored, shares, decoding, anchors)
            decoded = post_processed(decoded, post_processing, grid)
            documents.save(report_path(output, case), decoded.column)
            write_image(target, decoded.labels, grid)
            advance(case)
    return tuple(targets.values())


def _decoded(
    case: str,
    stored: Sequence[StoredPredictions],
    weights: Sequence[float],
    decoding: Decoding | None,
    anchors: Anchors,
) -> tuple[Grid, Decoded]:
    members = [Prediction.load(each.folder / case) for each in stored]
    grid = members[0].trace.grid
    for each, member in zip(stored, members, strict=True):
        if not member.trace.grid.same_as(grid):
            raise GeometryError(
                f"The predictions of {case} here and in {stored[0].folder} lie on different grids.",
                where=each.folder,
                remedy="Merge predictions of the same scans.",
            )
    plan = next((each.plan for each in stored if each.plan.column is not None), stored[0].plan)
    knowing = plan.column is not None and any(member.centres is not None for member in members)
    chosen = decoding or ("sequence" if knowing else "argmax" if any(map(_names, stored)) else "clusters")
    if chosen == "clusters":
        return grid, decode_clusters(members, weights, plan, anchors.of(case))
    return grid, (decode_sequence if chosen == "sequence" else decode_argmax)(members, weights, plan)


def _names(stored: StoredPredictions) -> bool:
    """Whether the configuration that a folder is called after tells levels apart."""
    known = {c.name: c.tells_levels for c in stored.plan.configurations}
    return known.get(stored.folder.name, True)


def _shares(folders: Sequence[Path], weights: Sequence[float]) -> list[float]:
    if not folders:
        raise UsageError("There is nothing to merge.", remedy="Name at least one folder.")
    if not weights:
        return [1.0] * len(folders)
    if len(weights) != len(folders):
        raise UsageError(
            f"There are {len(weights)} weights for {len(folders)} folders.",
            remedy="Give one weight per folder.",
        )
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise UsageError("A weight is not a positive number.", remedy="Leave out what shall not count.")
    return list(weights)


def _require_alike(first: StoredPredictions, other: StoredPredictions) -> None:
    if _meaning(first.plan) != _meaning(other.plan):
        raise DataError(
            f"The classes of the plans in {first.folder} and here differ.",
            where=other.folder,
            remedy="Merge predictions of models that were trained on the same labels.",
        )
    for one, two in ((first, other), (other, first)):
        lacking = sorted(set(one.cases) - set(two.cases))
        if lacking:
            raise DataError(
                f"{len(lacking)} cases of {one.folder} are missing here, first {', '.join(lacking[:3])}.",
                where=two.folder,
                remedy="Predict the same scans into every folder.",
            )


def _meaning(plan: Plan) -> tuple[tuple[int, ...], Mapping[int, str]]:
    return plan.classes, {value: plan.labels.names[value] for value in plan.classes}
