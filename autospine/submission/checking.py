"""Whether a folder is what a challenge wants, whoever made it; everything that is wrong is listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from autospine.core import anatomy
from autospine.core.errors import DataError, DocumentError
from autospine.reporting import Reporter
from autospine.submission.centroid_checks import check_centroids
from autospine.submission.challenge import Challenge, Place
from autospine.submission.mask_checks import CheckedMask, check_mask
from autospine.submission.scans import find_originals
from autospine.submission.scores import GRADES, TYPES, Score, image_name, read_scores

#: Scan of each place; None when the scan is not at hand.
_Places = Mapping[Place, Path | None]


@dataclass(frozen=True)
class Finding:
    """Something about a file.

    Args:
        file: Below the folder that holds the challenge's; empty for what concerns no single file.
        message: What it is, in a sentence.
        problem: Whether it is wrong; else it may be, or is left to do.
    """

    file: str
    message: str
    problem: bool = True


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Args:
        challenge: Its title.
        folder: What was checked.
        scans: Number of scans whose results should be there.
        findings: Everything there is to say.
    """

    challenge: str
    folder: str
    scans: int
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What is wrong."""
        return tuple(finding for finding in self.findings if finding.problem)


def check_submission(
    challenge: Challenge, folder: Path, reporter: Reporter, *, team: str = "", scans: Path | None = None
) -> CheckReport:
    """Check a submission.

    Args:
        challenge: The challenge.
        folder: The output folder of a submission, or the challenge's folder (``results`` or the like) in it.
        reporter: Where progress is told.
        team: Check the results of this team alone; all by default.
        scans: Folder of the challenge's own scans; without it, nothing is known of missing scans and of
            the lattices the masks should lie on.

    Raises:
        DataError: There is no such folder, or no scan in ``scans``.
    """
    if not folder.is_dir():
        raise DataError("There is no such folder.", where=folder, remedy="Name a submission's folder.")
    roots = _roots(challenge, folder, team)
    if not roots:
        lacking = Finding("", f"There is no folder {challenge.root.text}.")
        return CheckReport(challenge.title, str(folder), 0, (lacking,))
    top = next(iter(roots)).parent
    files = [path for root in roots for path in sorted(root.rglob("*")) if not path.is_dir()]
    present = [PurePosixPath(path.relative_to(top).as_posix()) for path in files]
    teams = sorted({place.team for place in roots.values()})
    places = _inferred(challenge, present) if scans is None else _expected(challenge, scans, teams)
    findings = [Finding("", f"There are several teams: {', '.join(teams)}.")] if len(teams) > 1 else []
    findings += _file_findings(challenge, present, places, known=scans is not None)
    masks: dict[Place, CheckedMask] = {}
    with reporter.bar(len(places), "check") as advance:
        for place, scan in places.items():
            masks[place] = _checked(challenge, top, place, scan)
            findings += _scan_findings(challenge, top, place, masks[place])
            advance(place.name)
    findings += _score_findings(challenge, top, masks)
    return CheckReport(challenge.title, str(folder), len(places), tuple(findings))


def _roots(challenge: Challenge, folder: Path, team: str) -> dict[Path, Place]:
    """The challenge's own folders: ``folder`` itself, or those in it."""
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    read = {path: challenge.root.read(PurePosixPath(path.resolve().name)) for path in candidates}
    roots = {path: place for path, place in read.items() if place and team in ("", place.team)}
    return {folder: roots[folder]} if folder in roots else roots


def _expected(challenge: Challenge, scans: Path, teams: Sequence[str]) -> _Places:
    originals = find_originals(challenge, scans)
    return {replace(scan.place, team=team): scan.path for team in teams for scan in originals}


def _inferred(challenge: Challenge, present: Sequence[PurePosixPath]) -> _Places:
    """The places of whatever is there."""
    templates = [t for t in (challenge.mask, challenge.centroids) if t is not None]
    found = [place for path in present for t in templates if (place := t.read(path)) is not None]
    return dict.fromkeys(found)


def _file_findings(
    challenge: Challenge, present: Sequence[PurePosixPath], places: _Places, *, known: bool
) -> Iterator[Finding]:
    """Files that are missing, and files that should not be there."""
    expected = dict.fromkeys(file for place in places for file in challenge.files(place))
    for file in expected:
        if file not in present:
            yield Finding(str(file), "This file is missing.")
    if not places and not known:
        yield Finding("", "There is no mask.")
    templates = (challenge.mask, challenge.centroids, challenge.voxels, challenge.scores)
    for file in present:
        if file in expected:
            continue
        named = any(template.read(file) for template in templates if template is not None)
        reason = "belongs to no scan" if named else f"is not named as {challenge.title} wants it"
        yield Finding(str(file), f"This file {reason}.")


def _checked(challenge: Challenge, top: Path, place: Place, scan: Path | None) -> CheckedMask:
    needed = [template.fill(place) for template in (challenge.mask, challenge.voxels) if template]
    if all((top / file).is_file() for file in needed):
        return check_mask(top / challenge.mask.fill(place), challenge, scan)
    return CheckedMask(())  # that they are missing has been said


def _scan_findings(challenge: Challenge, top: Path, place: Place, mask: CheckedMask) -> Iterator[Finding]:
    file = str(challenge.mask.fill(place))
    yield from (Finding(file, message) for message in mask.problems)
    if challenge.centroids is None or not (top / challenge.centroids.fill(place)).is_file():
        return
    file = str(challenge.centroids.fill(place))
    checked = check_centroids(top / file, challenge, mask)
    yield from (Finding(file, message) for message in checked.problems)
    yield from (Finding(file, message, problem=False) for message in checked.remarks)


def _score_findings(challenge: Challenge, top: Path, masks: Mapping[Place, CheckedMask]) -> Iterator[Finding]:
    if challenge.scores is None:
        return
    names = {value: anatomy.name_of(label) for label, value in challenge.coding.items()}
    tables: dict[str, set[tuple[str, str]]] = {}
    for place, mask in masks.items():
        levels = tables.setdefault(str(challenge.scores.fill(place)), set())
        levels |= {(image_name(place), names[value]) for value in mask.values}
    for file, levels in tables.items():
        if (top / file).is_file():
            yield from _table_findings(top, file, levels)


def _table_findings(top: Path, file: str, levels: set[tuple[str, str]]) -> Iterator[Finding]:
    try:
        rows = read_scores(top / file)
    except DocumentError as error:
        yield Finding(file, error.message)
        return
    listed = [(row.image, row.vertebra) for row in rows]
    for message, keys in (
        ("Vertebrae of the masks have no row", levels - set(listed)),
        ("Rows have no vertebra in the masks", set(listed) - levels),
        ("Rows occur more than once", {key for key in listed if listed.count(key) > 1}),
        ("Types are none of " + ", ".join(TYPES), _keys(rows, "type", TYPES)),
        ("Grades are none of " + ", ".join(GRADES), _keys(rows, "grade", GRADES)),
    ):
        if keys:
            yield Finding(file, f"{message}: {', '.join(' '.join(key) for key in sorted(keys))}.")
    blank = sum(not (row.type and row.grade) for row in rows)
    if blank:
        yield Finding(file, f"{blank} vertebrae have no fracture score yet.", problem=False)


def _keys(rows: Sequence[Score], column: str, allowed: Sequence[str]) -> set[tuple[str, str]]:
    return {(r.image, r.vertebra) for r in rows if getattr(r, column) not in ("", *allowed)}
