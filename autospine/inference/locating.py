"""Where a stage has found vertebrae, for the stage that comes after it.

Three kinds of prediction tell it in three ways: balls around the bodies' centres are peaks of a smoothed
probability; votes for centres are groups; of anything else that names vertebrae, the outlines have bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autospine.core.findings import Findings, Located
from autospine.core.geometry import Box, FloatArray
from autospine.core.plan import Configuration, Plan
from autospine.core.trace import Trace
from autospine.inference.groups import Witness, column_model, find_groups, vertebra_channels
from autospine.inference.prediction import Prediction
from autospine.vertebrae.centroids import body_centres
from autospine.vertebrae.volumes import voxel_counts

#: Gaussian in mm that the probability of being near a centre is smoothed with, and the least peak.
_SMOOTHING: Final = 3.0
_LEAST_PEAK: Final = 0.3
#: No two peaks lie closer than this, mm; bodies of the neck are 15 mm apart.
_CLOSEST: Final = 9.0
#: Radius in mm around a peak in which its place and its names are averaged.
_RADIUS: Final = 6.0
_ROUNDS: Final = 4
#: Of the median gap of so many neighbours on either side, what a gap between two centres must have.
_LEAST_GAP: Final = 0.5
_NEIGHBOURS: Final = 2
#: No more peaks than this are looked at, the highest first: what is more is noise.
_MOST: Final = 1000
#: A group that is less surely a vertebra, and an outline of fewer mm³, is none.
_LEAST_PRESENCE: Final = 0.1
_LEAST_VOLUME: Final = 500.0
#: How sure an outline's name is taken to be.
_CERTAINTY: Final = 0.9
#: Parts of the spine smaller than this share of the largest are none, unless they have so many mm³: a
#: vertebra of the neck has 8000.
_SMALL: Final = 0.05
_LEAST_PART: Final = 3000.0
#: mm that the box around the spine leaves free, and how far vertebrae reach beyond the balls around their
#: centres along z, y, x: transverse and spinous processes.
_MARGIN: Final = 20.0
_REACH: Final = (25.0, 60.0, 45.0)
_TINY: Final = 1e-12


def locate(prediction: Prediction, configuration: Configuration, plan: Plan) -> Findings:
    """Vertebrae in a stage's prediction, and the box around the spine.

    Args:
        prediction: Of one scan, with one channel for each of the plan's classes; also from a stage that tells
            vertebrae from the rest only, and shares out their probability evenly.
        configuration: The stage's; what it has learnt decides how its prediction is read.
        plan: Whose channels the names are of.
    """
    trace = prediction.trace
    if configuration.target == "foreground":
        found: list[Located] = []
    elif configuration.target == "centroids":
        found = _peaks(prediction, plan)
    elif prediction.centres is not None and plan.column is not None:
        found = _groups(prediction, plan)
    else:
        found = _outlines(prediction, plan)
    reach = _REACH if configuration.target == "centroids" else (0.0, 0.0, 0.0)
    spine = _spine(prediction.foreground_map(plan.vertebra_channels), trace, reach)
    return Findings(tuple(_from_head_to_foot(found, trace)), spine)


def _peaks(prediction: Prediction, plan: Plan) -> list[Located]:
    """Where the probability of being near a centre is highest."""
    trace = prediction.trace
    spacing = np.asarray(trace.stored_grid.spacing)
    smooth = _vertebra_probability(prediction, plan)
    ndimage.gaussian_filter(smooth, _SMOOTHING / spacing, output=smooth, mode="nearest")
    peaks = [_Peak.at(index, smooth, spacing) for index in _maxima(smooth, spacing)]
    peaks.sort(key=lambda peak: -peak.place[trace.axes.index(0)])
    return [
        Located(_triple(trace.stored_grid.to_world(peak.place)), _names_near(prediction, plan, peak.near))
        for peak in _evenly_spaced(peaks, spacing)
    ]


@dataclass(frozen=True, eq=False)
class _Peak:
    """A local maximum.

    Args:
        place: In voxels of the stored grid.
        height: Smoothed probability.
        near: Indices of the voxels around it, one array an axis.
    """

    place: FloatArray
    height: float
    near: tuple[NDArray[np.intp], ...]

    @classmethod
    def at(cls, index: NDArray[np.intp], smooth: NDArray[np.float32], spacing: FloatArray) -> _Peak:
        """The peak at a voxel; its place is the weighted mean of the voxels around it, over and over."""
        place = index.astype(np.float64)
        for _ in range(_ROUNDS):
            near = _ball(place, smooth.shape, spacing)
            place = np.average(np.stack(near), axis=1, weights=smooth[near])
        return cls(place, float(smooth[tuple(index)]), near)


def _ball(centre: FloatArray, shape: Sequence[int], spacing: FloatArray) -> tuple[NDArray[np.intp], ...]:
    """Indices of the voxels near a point, one array an axis."""
    low = np.maximum(np.ceil(centre - _RADIUS / spacing), 0).astype(int)
    high = np.minimum(np.floor(centre + _RADIUS / spacing) + 1, shape).astype(int)
    axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    distance = sum(((axis - c) * s) ** 2 for axis, c, s in zip(axes, centre, spacing, strict=True))
    return tuple(i + a for i, a in zip(np.nonzero(distance <= _RADIUS**2), low, strict=True))


def _maxima(smooth: NDArray[np.float32], spacing: FloatArray) -> list[NDArray[np.intp]]:
    """Voxels of the local maxima, none of them too near to a higher one."""
    size = (2 * np.rint(_CLOSEST / spacing).astype(int) + 1).tolist()
    candidates = np.argwhere((smooth >= _LEAST_PEAK) & (smooth == ndimage.maximum_filter(smooth, size)))
    order = np.argsort(-smooth[tuple(candidates.T)], kind="stable")[:_MOST]
    kept: list[NDArray[np.intp]] = []
    for index in candidates[order]:
        if all(np.linalg.norm((index - other) * spacing) >= _CLOSEST for other in kept):
            kept.append(index)
    return kept


def _evenly_spaced(peaks: Sequence[_Peak], spacing: FloatArray) -> list[_Peak]:
    """Peaks from head to foot, less the lower one of any two that stand much closer than their neighbours."""
    kept = list(peaks)
    while len(kept) > 2:
        steps = np.diff([peak.place * spacing for peak in kept], axis=0)
        gaps = np.linalg.norm(steps, axis=1)
        shares = gaps / np.array([_usual_gap(gaps, i) for i in range(len(gaps))])
        tightest = int(shares.argmin())
        if shares[tightest] >= _LEAST_GAP:
            break
        del kept[min(tightest, tightest + 1, key=lambda i: kept[i].height)]
    return kept


def _usual_gap(gaps: FloatArray, index: int) -> float:
    """Median of the gaps beside one."""
    low, high = max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1
    return float(np.median(np.delete(gaps[low:high], index - low)))


def _names_near(prediction: Prediction, plan: Plan, where: tuple[NDArray[np.intp], ...]) -> tuple[float, ...]:
    """Mean softmax of the vertebrae over some voxels, as a distribution."""
    a, b, c = where
    logits = prediction.logits[:, a, b, c].astype(np.float32)
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    shares = (logits / logits.sum(axis=0)).mean(axis=1)
    channels = plan.vertebra_channels
    return _distribution(plan, dict(zip(channels, shares[list(channels)].tolist(), strict=True)))


def _vertebra_probability(prediction: Prediction, plan: Plan) -> NDArray[np.float32]:
    """Probability of being any vertebra, of shape ``trace.shape``."""
    logits = prediction.with_one_channel_for(plan.vertebra_channels).logits
    highest = logits.max(axis=0)
    total = np.zeros(highest.shape, dtype=np.float32)
    for channel in logits:
        total += np.exp(channel - highest)
    return np.asarray(np.exp(logits[-1] - highest) / total, dtype=np.float32)


def _groups(prediction: Prediction, plan: Plan) -> list[Located]:
    """Where votes for centres meet."""
    groups = find_groups([Witness.of(prediction, plan)], [1.0], plan)
    channels = [vertebra_channels(plan)[level] for level in column_model(plan).levels]
    evidence = groups.evidence
    return [
        Located(_triple(centre), _distribution(plan, dict(zip(channels, names.tolist(), strict=True))))
        for centre, names, presence in zip(evidence.centres, evidence.names, evidence.presence, strict=True)
        if presence >= _LEAST_PRESENCE
    ]


def _outlines(prediction: Prediction, plan: Plan) -> list[Located]:
    """The bodies of what is outlined."""
    labels, grid, channels = prediction.class_map(), prediction.trace.stored_grid, plan.vertebra_channels
    volumes = voxel_counts(labels, len(plan.classes) - 1) * grid.voxel_volume
    centres = body_centres(labels, grid, [c for c in channels if volumes[c] >= _LEAST_VOLUME])
    rest = (1 - _CERTAINTY) / max(1, len(channels) - 1)
    return [
        Located(centre, _distribution(plan, dict.fromkeys(channels, rest) | {channel: _CERTAINTY}))
        for channel, centre in centres.items()
    ]


def _distribution(plan: Plan, shares: dict[int, float]) -> tuple[float, ...]:
    """Probability of each output channel from shares of the vertebrae; all alike where these are nothing."""
    total = sum(shares.values())
    if total < _TINY:
        shares, total = dict.fromkeys(shares, 1.0), float(len(shares))
    return tuple(shares.get(channel, 0.0) / total for channel in range(len(plan.classes)))


def _spine(foreground: NDArray[np.bool_], trace: Trace, reach: Sequence[float]) -> Box | None:
    """Box around the vertebrae, on the oriented grid of the whole scan."""
    statistics = cc3d.statistics(cc3d.connected_components(foreground, connectivity=26))
    sizes = statistics["voxel_counts"][1:]
    if not len(sizes):
        return None
    # A share of the largest part alone would drop a neck above vertebrae that have grown together.
    least = min(_SMALL * sizes.max(), _LEAST_PART / trace.stored_grid.voxel_volume)
    boxes = zip(statistics["bounding_boxes"][1:], sizes, strict=True)
    large = [box for box, size in boxes if size >= least]
    grid = trace.orientation.apply_grid(trace.grid)
    start, stop = [], []
    for axis in range(3):
        stored = trace.axes.index(axis)
        step = trace.box.shape[axis] / trace.shape[stored]
        start.append(int(np.floor(trace.box.start[axis] + step * min(box[stored].start for box in large))))
        stop.append(int(np.ceil(trace.box.start[axis] + step * max(box[stored].stop for box in large))))
    margin = [int(np.ceil((_MARGIN + r) / s)) for r, s in zip(reach, grid.spacing, strict=True)]
    return Box(tuple(start), tuple(stop)).padded(margin, grid.shape)


def _from_head_to_foot(found: Sequence[Located], trace: Trace) -> list[Located]:
    grid = trace.orientation.apply_grid(trace.grid)
    return sorted(found, key=lambda vertebra: -float(grid.to_index(vertebra.centre)[0]))


def _triple(values: FloatArray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
