"""Patch classifiers: each pixel is judged by the patch around it, with layers that were pre-trained greedily.

The stacked sparse autoencoder of Qadri et al. (2022, 2023) and their deep belief network (2019) are the same
classifier behind two kinds of pre-training. Patch sizes, widths and rates are in no text that could be read:
they are this project's choices.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from autospine.core.network_options import PatchMlpOptions
from autospine.core.plan import Augmentation, Configuration, Crop, NetworkSpec, Normalisation, Pretraining

from ..normalisation import air
from ..rules import Topology
from .system import Load, Site, System

#: Of a plane as large as a U-Net's. It is not made smaller where a classifier takes longer: patches at its
#: border see copies of the border. There are fewer planes a step instead.
_LOAD: Final = Load(memory=0.1)
_FEWER_ON_A_CPU: Final = 6
_FEWEST: Final = 2
_STRIDE: Final = 3.2  # mm
_FINE: Final = 1.5  # mm


@dataclass(frozen=True)
class PatchChoices:
    """What can be chosen about a patch classifier.

    Args:
        dimensions: Patches are squares of sagittal planes, or cubes.
        patch: Edge of a patch in voxels; 0 takes what suits their size.
        stride: Distance between classified patches in voxels; 0 takes what suits their size.
        target: Vertebra or not, as published, or every level.
        hidden: Units of the hidden layers.
        undersampling: Whether background that outnumbers the vertebrae is left out, drawn anew every batch.
        epochs: Of the pre-training of each layer; 0 leaves it out.
    """

    dimensions: int = 2
    patch: int = 0
    stride: int = 0
    target: Literal["foreground", "classes"] = "foreground"
    hidden: tuple[int, ...] = (512, 256)
    undersampling: bool = True
    epochs: int = 20


def _autoencoder(site: Site, choices: PatchChoices, network: None) -> tuple[Configuration, ...]:
    planned = _classifier(site, choices, "body")
    scaled = tuple(_to_unit_range(channel) for channel in planned.normalisation)
    # Noise and shifts as of z-scored images would drown what lies between 0 and 1.
    augmentation = Augmentation(noise=(0.0, 0.02), contrast_probability=0.0, inverted_gamma_probability=0.0)
    pretraining = Pretraining("sparse_autoencoder" if choices.epochs else "none", choices.epochs)
    schedule = replace(planned.schedule, augmentation=augmentation, pretraining=pretraining)
    padding = tuple(air(channel) for channel in scaled)
    return (replace(planned, normalisation=scaled, padding=padding, schedule=schedule),)


def _belief_network(site: Site, choices: PatchChoices, network: None) -> tuple[Configuration, ...]:
    planned = _classifier(site, choices, "bone")
    pretraining = Pretraining(
        "contrastive_divergence" if choices.epochs else "none",
        choices.epochs,
        batch_size=100,
        learning_rate=1e-2,
        weight_decay=2e-4,
    )
    schedule = replace(planned.schedule, pretraining=pretraining, unfreezing=0.25)
    return (replace(planned, schedule=schedule),)


def _classifier(site: Site, choices: PatchChoices, crop: Crop) -> Configuration:
    site.require_ct()
    designer = site.designer(_LOAD, centres=False)
    options = _patches(choices, min(designer.spacing))

    def network(shape: Topology) -> NetworkSpec:
        axes, count = len(shape.patch), len(choices.hidden)
        ones = ((1,) * axes,) * count
        strides = ((options.stride,) * axes, *ones[1:])
        blocks = (1,) * count
        return NetworkSpec("patch_mlp", choices.hidden, ones, strides, blocks, blocks[1:], asdict(options))

    flat = choices.dimensions == 2
    planned = (designer.sagittal if flat else designer.volume)(site.name, network)
    step = options.stride
    # A patch classifier is no pyramid: its planes need only be divisible by its stride, and hold a patch.
    patch = tuple(max(-(-n // step) * step, -(-options.patch // step) * step) for n in planned.patch)
    schedule = replace(
        planned.schedule,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        deep_supervision=True,  # one output in every patch, on the grid of patches
        balance="undersampled" if choices.undersampling else "none",
        dice_weight=0.0,
    )
    batch = planned.batch_size if site.on_gpu else planned.batch_size // _FEWER_ON_A_CPU
    return replace(
        planned,
        patch=patch,
        batch_size=max(batch, _FEWEST),
        crop=crop,
        target=choices.target,
        schedule=schedule,
    )


def _patches(choices: PatchChoices, spacing: float) -> PatchMlpOptions:
    """Patches some 3 mm apart; large enough to show a vertebra's corner where voxels are small."""
    stride = choices.stride or max(1, round(_STRIDE / spacing))
    patch = choices.patch or (32 if spacing < _FINE else 16)
    # The middle of a patch is to be the middle of the stride-wide cell that it stands for.
    return PatchMlpOptions(patch + (patch - stride) % 2, stride)


def _to_unit_range(channel: Normalisation) -> Normalisation:
    """Intensities between 0 and 1, which sigmoid units can reconstruct."""
    return replace(channel, mean=channel.lower, std=channel.upper - channel.lower)


SSAE: Final = System(
    name="ssae",
    summary="patch classifier pre-trained as a stack of sparse autoencoders; vertebra or not",
    source="Qadri et al., Int. J. Intelligent Systems 2023, 2345835",
    dimensions=(2, 3),
    choices=PatchChoices(),
    network=None,
    design=_autoencoder,
)
SVSEG: Final = System(
    name="svseg",
    summary="the same without under-sampling",
    source="Qadri et al., Mathematics 2022, 10(5):796",
    dimensions=(2, 3),
    choices=PatchChoices(undersampling=False),
    network=None,
    design=_autoencoder,
)
PADBN: Final = System(
    name="padbn",
    summary="patch classifier pre-trained as a deep belief network, fine-tuned layer by layer",
    source="Qadri et al., Applied Sciences 2019, 9(1):69",
    dimensions=(2, 3),
    choices=PatchChoices(hidden=(512, 256, 128), undersampling=False),
    network=None,
    design=_belief_network,
)
