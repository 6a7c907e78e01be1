"""nnU-Net v2.8.1's own plans, number for number: the plain network and the residual presets M, L and XL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from autospine.core.fingerprint import Fingerprint
from autospine.core.network_size import feature_maps
from autospine.core.plan import Budget, Configuration, NetworkSpec, Normalisation, Plan, Reason

from . import rules
from .normalisation import from_fingerprint
from .rules import FloatArray, Topology

#: A low-resolution stage is wanted while a patch covers less than this share of the median scan.
_WANTED_SHARE: Final = 0.25
#: It is kept if its scans have this many times fewer voxels.
_WORTHWHILE: Final = 2
#: Batch sizes the reference numbers of feature maps are stated for, and the smallest one used.
_REFERENCE_BATCH: Final = {2: 12, 3: 2}
_MIN_BATCH: Final = 2


@dataclass(frozen=True)
class Preset:
    """One of nnU-Net's planners.

    Args:
        name: The planner's name in the registry.
        network: The network's name in the registry.
        encoder_blocks: Blocks per encoder stage; the last number repeats.
        decoder_blocks: Convolutions per decoder stage.
        gpu_memory: GB that the reference numbers are stated for.
        maps_2d: Values in a 2D network's feature maps that fit ``gpu_memory`` at the reference batch.
        maps_3d: The same for 3D.
        dataset_share: A batch holds at most this share of the data set's voxels.
        shrink_at_smallest_batch: Whether the patch need only fit at the smallest batch.
    """

    name: str
    network: str
    encoder_blocks: tuple[int, ...]
    decoder_blocks: int
    gpu_memory: float
    maps_2d: float
    maps_3d: float
    dataset_share: float
    shrink_at_smallest_batch: bool

    def spec(self, shape: Topology) -> NetworkSpec:
        """The network for a topology."""
        return rules.unet(self.network, shape, self.encoder_blocks, self.decoder_blocks)


PLAIN: Final = Preset("nnunet", "plain_unet", (2,), 2, 8, 85e6, 560e6, 0.05, True)
_RESIDUAL_BLOCKS: Final = (1, 3, 4, 6)
RESENC_M: Final = Preset("nnunet_resenc_m", "residual_unet", _RESIDUAL_BLOCKS, 1, 8, 135e6, 680e6, 1.0, False)
RESENC_L: Final = Preset(
    "nnunet_resenc_l", "residual_unet", _RESIDUAL_BLOCKS, 1, 24, 380e6, 2.1e9, 1.0, False
)
RESENC_XL: Final = Preset(
    "nnunet_resenc_xl", "residual_unet", _RESIDUAL_BLOCKS, 1, 40, 560e6, 3.6e9, 1.0, False
)


def plan(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """nnU-Net's default plan; ``budget.gpu_memory`` None means 8 GB."""
    return _plan(fingerprint, budget, PLAIN)


def plan_resenc_m(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """nnU-Net's residual encoder preset M; ``budget.gpu_memory`` None means 8 GB."""
    return _plan(fingerprint, budget, RESENC_M)


def plan_resenc_l(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """nnU-Net's residual encoder preset L; ``budget.gpu_memory`` None means 24 GB."""
    return _plan(fingerprint, budget, RESENC_L)


def plan_resenc_xl(fingerprint: Fingerprint, budget: Budget) -> Plan:
    """nnU-Net's residual encoder preset XL; ``budget.gpu_memory`` None means 40 GB."""
    return _plan(fingerprint, budget, RESENC_XL)


@dataclass(frozen=True)
class _Sizer:
    """Finds patch, network and batch size for a spacing and a median shape."""

    preset: Preset
    scale: float
    classes: int
    cases: int

    def size(self, spacing: FloatArray, shape: FloatArray, voxels: float) -> tuple[Topology, int]:
        """Patch and batch size; ``voxels`` is the number of voxels of a median scan."""
        dimensions = len(spacing)
        maps = self.preset.maps_2d if dimensions == 2 else self.preset.maps_3d
        reference = maps * self.scale
        batch = _REFERENCE_BATCH[dimensions]
        found = rules.topology(spacing, rules.first_patch(spacing, shape))
        while self._burden(found, batch) > reference:
            found = rules.shrunk(found, rules.most_generous_axis(found.patch, shape))
        fitting = round(reference / self._maps(found) * batch)
        covered = round(voxels * self.cases * self.preset.dataset_share / float(np.prod(found.patch)))
        return found, max(min(fitting, covered), _MIN_BATCH)

    def _maps(self, found: Topology) -> int:
        return feature_maps(self.preset.spec(found), found.patch, self.classes)

    def _burden(self, found: Topology, batch: int) -> float:
        maps = self._maps(found)
        return maps / batch * _MIN_BATCH if self.preset.shrink_at_smallest_batch else maps


def _plan(fingerprint: Fingerprint, budget: Budget, preset: Preset) -> Plan:
    cases = fingerprint.cases
    spacings, shapes = [c.spacing for c in cases], [c.shape_nonzero for c in cases]
    target = rules.target_spacing(spacings, shapes)
    axes = rules.coarsest_first(target)
    spacing = target[list(axes)]
    shape = rules.median_shape(spacings, shapes, target)[list(axes)]
    memory = preset.gpu_memory if budget.gpu_memory is None else budget.gpu_memory
    sizer = _Sizer(preset, memory / preset.gpu_memory, len(fingerprint.labels.names), len(cases))
    normalisation = from_fingerprint(fingerprint)

    flat = _configuration(
        "2d", axes, spacing, shape, sizer.size(spacing[1:], shape[1:], _voxels(shape)), sizer
    )
    raw_depth = float(np.median([n[axes[0]] for n in shapes]))
    flat = replace(flat, spacing=(None, *flat.spacing[1:]), median_shape=(raw_depth, *flat.median_shape[1:]))
    found = (flat, *_three_dimensional(axes, spacing, shape, sizer))
    padding = (0.0,) * len(normalisation)
    return Plan(
        dataset=fingerprint.dataset,
        planner=preset.name,
        labels=fingerprint.labels,
        classes=(0, *fingerprint.labels.foreground),
        configurations=tuple(replace(c, normalisation=normalisation, padding=padding) for c in found),
        reasons=_reasons(spacing, memory, found, normalisation),
        budget=budget,
    )


def _three_dimensional(
    axes: tuple[int, int, int], spacing: FloatArray, shape: FloatArray, sizer: _Sizer
) -> tuple[Configuration, ...]:
    if shape[0] == 1:
        return ()
    sized = sizer.size(spacing, shape, _voxels(shape))
    full = _configuration("3d_fullres", axes, spacing, shape, sized, sizer)
    low = _low_resolution(axes, spacing, shape, sized, sizer)
    if low is None:
        return (full,)
    full = replace(full, batch_dice=True)
    return low, full, replace(full, name="3d_cascade_fullres", previous_stage=low.name)


def _low_resolution(
    axes: tuple[int, int, int],
    spacing: FloatArray,
    shape: FloatArray,
    sized: tuple[Topology, int],
    sizer: _Sizer,
) -> Configuration | None:
    """Coarsen until a patch covers a quarter of the median scan; None if that takes too little."""
    coarse, coarse_shape, voxels = spacing, shape, _voxels(shape)
    while float(np.prod(sized[0].patch)) / voxels < _WANTED_SHARE:
        coarse = rules.coarsened(coarse)
        exact = spacing / coarse * shape
        voxels = _voxels(exact)
        coarse_shape = np.array([round(float(n)) for n in exact], dtype=float)
        sized = sizer.size(coarse, coarse_shape, voxels)
    if _voxels(shape) / voxels < _WORTHWHILE:
        return None
    return _configuration("3d_lowres", axes, coarse, coarse_shape, sized, sizer)


def _configuration(
    name: str,
    axes: tuple[int, int, int],
    spacing: FloatArray,
    shape: FloatArray,
    sized: tuple[Topology, int],
    sizer: _Sizer,
) -> Configuration:
    found, batch = sized
    a, b, c = (float(s) for s in spacing)
    i, j, k = (float(n) for n in shape)
    return Configuration(
        name=name,
        axes=axes,
        spacing=(a, b, c),
        patch=found.patch,
        batch_size=batch,
        median_shape=(i, j, k),
        network=sizer.preset.spec(found),
        crop="nonzero",
        normalisation=(),
        padding=(),
        mirror_axes=tuple(range(len(found.patch))),
        batch_dice=name == "2d",
    )


def _voxels(shape: FloatArray) -> float:
    return float(np.prod(shape))


def _reasons(
    spacing: FloatArray,
    memory: float,
    configurations: tuple[Configuration, ...],
    normalisation: tuple[Normalisation, ...],
) -> tuple[Reason, ...]:
    mm = " x ".join(f"{s:.3g}" for s in spacing)
    patches = ", ".join(f"{c.name} {' x '.join(map(str, c.patch))}" for c in configurations)
    clip = ", ".join(f"{n.lower:.0f}..{n.upper:.0f}" if n.kind == "ct" else "z-score" for n in normalisation)
    low = any(c.name == "3d_lowres" for c in configurations)
    return (
        Reason("spacing", f"{mm} mm", "the cases' median; thick slices take their 10th percentile"),
        Reason("patches", patches, f"the largest whose feature maps fit {memory:g} GB of GPU memory"),
        Reason("intensities", clip, "0.5 and 99.5 percentile of the labelled voxels"),
        Reason(
            "low-resolution stage",
            "yes" if low else "no",
            "a full-resolution patch covers less than a quarter of the median scan"
            if low
            else "a full-resolution patch covers a quarter of it, or coarsening saves too little",
        ),
    )
