"""How intensities are normalised, from the fingerprint of a data set."""

from __future__ import annotations

from typing import Final

from autospine.core.fingerprint import Fingerprint, Intensities
from autospine.core.plan import Normalisation

#: Hounsfield units of air.
AIR: Final = -1000.0


def from_fingerprint(fingerprint: Fingerprint) -> tuple[Normalisation, ...]:
    """One normalisation per channel: CT by the labelled voxels, others by each image."""
    channels = zip(fingerprint.channels, fingerprint.foreground, strict=True)
    return tuple(_normalisation(name, statistics) for name, statistics in channels)


def air(normalisation: Normalisation) -> float:
    """The normalised intensity of air: what padding should look like.

    In CT that is air clipped to the range that the network sees. A z-scored image has no absolute
    scale, so padding takes its mean.
    """
    if normalisation.kind == "zscore":
        return 0.0
    clipped = min(max(AIR, normalisation.lower), normalisation.upper)
    return (clipped - normalisation.mean) / max(normalisation.std, 1e-8)


def _normalisation(channel: str, values: Intensities) -> Normalisation:
    return Normalisation(
        kind="ct" if channel.casefold() == "ct" else "zscore",
        lower=values.percentile_00_5,
        upper=values.percentile_99_5,
        mean=values.mean,
        std=values.std,
    )
