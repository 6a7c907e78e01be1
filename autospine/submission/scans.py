"""Which prediction belongs to which scan of a challenge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autospine.core.errors import DataError
from autospine.submission.challenge import Challenge, NamedScan, Place
from autospine.submission.predictions import PredictedMask


@dataclass(frozen=True)
class Pairing:
    """Predictions and their scans.

    Args:
        pairs: Each prediction with the scan it belongs to, in the order of the scans.
        missing: Scans without a prediction.
        unused: Predictions without a scan.
    """

    pairs: tuple[tuple[PredictedMask, NamedScan], ...]
    missing: tuple[NamedScan, ...] = ()
    unused: tuple[PredictedMask, ...] = ()


def find_originals(challenge: Challenge, folder: Path) -> tuple[NamedScan, ...]:
    """A challenge's own scans below a folder; earlier results among them are passed over.

    Raises:
        DataError: There is none, or two would have the same results.
    """
    if not folder.is_dir():
        raise DataError(
            "There is no such folder.", where=folder, remedy="Name the folder with the challenge's scans."
        )
    found = [scan for path in _files(challenge, folder) if (scan := challenge.recognise(path, folder))]
    if not found:
        raise DataError(
            f"There is no scan of {challenge.title} in this folder.",
            where=folder,
            remedy=f"Name the folder that holds {challenge.examples} and the like.",
        )
    _require_different(found)
    return tuple(found)


def pair(
    challenge: Challenge, predictions: Sequence[PredictedMask], scans: Sequence[NamedScan] | None
) -> Pairing:
    """Find the scan of each prediction.

    Args:
        challenge: The challenge.
        predictions: What was predicted.
        scans: The challenge's scans; None takes their names from those of the predictions.

    Raises:
        DataError: A prediction's name says nothing, or fits two scans.
    """
    if scans is None:
        pairs = [(prediction, _by_name(challenge, prediction)) for prediction in predictions]
        _require_different([scan for _, scan in pairs])
        return Pairing(tuple(pairs))
    by_name = {prediction.name: prediction for prediction in predictions}
    taken: dict[str, NamedScan] = {}
    missing = []
    for scan in scans:
        name = next((alias for alias in scan.aliases if alias in by_name), None)
        if name is None:
            missing.append(scan)
        elif name in taken:
            raise DataError(
                f"The prediction {name} could be that of {taken[name].path} or of {scan.path}.",
                where=by_name[name].mask,
                remedy="Call each prediction as its scan is called.",
            )
        else:
            taken[name] = scan
    unused = tuple(prediction for prediction in predictions if prediction.name not in taken)
    return Pairing(tuple((by_name[n], scan) for n, scan in taken.items()), tuple(missing), unused)


def _files(challenge: Challenge, folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parents = path.relative_to(folder).parts[:-1]
        results = any(challenge.root.read(PurePosixPath(part)) for part in parents)
        if not results and not any(part.startswith(".") for part in parents) and path.is_file():
            yield path


def _by_name(challenge: Challenge, prediction: PredictedMask) -> NamedScan:
    scan = challenge.recognise(Path(prediction.name), None)
    if scan is None:
        raise DataError(
            f"The name {prediction.name} does not tell which scan of {challenge.title} this is.",
            where=prediction.mask,
            remedy=f"Call it as the scan is called ({challenge.examples}).",
        )
    return scan


def _require_different(scans: Sequence[NamedScan]) -> None:
    seen: dict[Place, NamedScan] = {}
    for scan in scans:
        if scan.place in seen:
            names = [str(s.path or s.place.name) for s in (seen[scan.place], scan)]
            raise DataError(
                f"Two scans would have the same results: {' and '.join(names)}.",
                where=scan.path,
                remedy="Submit one of them alone.",
            )
        seen[scan.place] = scan
