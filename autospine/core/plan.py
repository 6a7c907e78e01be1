"""A plan: everything that preprocessing, training and inference need to know, and why.

A plan is data. It is written to ``plan.json``, stands beside every trained model, and is all that
prediction needs besides the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from autospine.core.column import ColumnModel
from autospine.core.column_report import Partial
from autospine.core.dataset import LabelSchema
from autospine.core.errors import UsageError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Crop = Literal["nonzero", "body", "bone", "spine"]
Target = Literal["classes", "foreground", "centroids"]
View = Literal["windows", "vertebrae", "walk"]
Feed = Literal["classes", "foreground", "none"]
OptionValue = bool | int | float | str | tuple[int, ...]

#: Output channels beside the classes of a network that learns where vertebrae are: the heat of being a
#: body's centre, and the vector to the centre of the voxel's own vertebra along the network's three axes.
CENTRE_CHANNELS: Final = 4


@dataclass(frozen=True)
class Budget:
    """What the planner may spend.

    Args:
        device: Where the networks will run.
        gpu_memory: GB of GPU memory to plan for, when the user says so.
        device_memory: GB that the GPU in this machine has; None on a CPU or when unknown.
        cores: CPU cores that may be used.
        step_seconds: Time one CPU training step may take; bounds networks planned for a CPU.
    """

    device: Literal["cpu", "cuda"] = "cuda"
    gpu_memory: float | None = None
    device_memory: float | None = None
    cores: int = 2
    step_seconds: float = 0.5


@dataclass(frozen=True)
class Reason:
    """One decision of a planner: what, to which value, and because of what."""

    decision: str
    value: str
    because: str


@dataclass(frozen=True)
class Normalisation:
    """Clip to [lower, upper], subtract ``mean``, divide by ``std``; per channel.

    ``kind`` is ``"ct"`` for the data set's own foreground statistics (HU) and ``"zscore"`` for
    statistics of each image, where the other fields are ignored.
    """

    kind: Literal["ct", "zscore"]
    lower: float
    upper: float
    mean: float
    std: float


@dataclass(frozen=True)
class NetworkSpec:
    """A network's shape, stage by stage; the number of axes is the length of each kernel.

    Args:
        name: The network's name in the registry.
        features: Channels of each stage.
        kernels: Kernel size of each stage.
        strides: Stride at the beginning of each stage; the first is all ones.
        encoder_blocks: Convolutions (plain) or residual blocks per encoder stage.
        decoder_blocks: Convolutions per decoder stage, one stage fewer than the encoder.
        options: What else this kind of network lets one choose, by name; see ``core.network_options``.
    """

    name: str
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    options: Mapping[str, OptionValue] = field(default_factory=dict)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.kernels[0])

    @property
    def divisors(self) -> tuple[int, ...]:
        """What each axis of a patch must be divisible by."""
        result = [1] * self.dimensions
        for stride in self.strides:
            result = [r * s for r, s in zip(result, stride, strict=True)]
        return tuple(result)


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges of the training augmentation.

    Defaults are nnU-Net v2.8.1's. Angles in degrees; ranges are (low, high).
    """

    rotation_probability: float = 0.2
    rotation: float = 30.0
    rotation_in_plane: float = 180.0
    scale_probability: float = 0.2
    scale: tuple[float, float] = (0.7, 1.4)
    noise_probability: float = 0.1
    noise: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.2
    blur: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution: tuple[float, float] = (0.5, 1.0)
    inverted_gamma_probability: float = 0.1
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)
    per_channel_probability: float = 0.5
    mirror_probability: float = 0.5
    cascade_morphology_probability: float = 0.4
    cascade_radius: tuple[int, int] = (1, 8)
    cascade_removal_probability: float = 0.2
    cascade_removal_size: float = 0.15
    cascade_label_probability: float = 0.5


@dataclass(frozen=True)
class Pretraining:
    """What a network learns from patches without labels before its training proper.

    Args:
        method: The pre-trainer's name in the registry, or ``"none"``.
        epochs: Number of epochs, of each layer where layers are trained one after the other.
        steps: Batches an epoch.
        batch_size: Patches a step.
        learning_rate: Of a layer whose inputs lie between 0 and 1.
        gaussian_rate: Of a first layer of restricted Boltzmann machines with Gaussian inputs.
        weight_decay: L2 penalty.
        sparsity: Mean activation that hidden units of an autoencoder are drawn to.
        sparsity_weight: Weight of that penalty.
        momentum: Of contrastive divergence, from its sixth epoch on; 0.5 before.
        visible: Kind of the input units of a restricted Boltzmann machine's first layer.
    """

    method: str = "none"
    epochs: int = 20
    steps: int = 100
    batch_size: int = 256
    learning_rate: float = 1e-3
    gaussian_rate: float = 1e-3
    weight_decay: float = 1e-4
    sparsity: float = 0.05
    sparsity_weight: float = 3.0
    momentum: float = 0.9
    visible: Literal["gaussian", "bernoulli"] = "gaussian"


@dataclass(frozen=True)
class Schedule:
    """How a network is trained. Defaults are nnU-Net v2.8.1's.

    Args:
        epochs: Number of epochs.
        steps: Training steps an epoch.
        validation_steps: Validation patches' steps an epoch.
        optimiser: ``"sgd"`` or ``"adamw"``.
        learning_rate: At the start.
        momentum: Of SGD, with Nesterov's correction when ``nesterov``.
        weight_decay: L2 penalty.
        decay_power: Exponent of the polynomial decay of the learning rate to zero.
        decay_every: Whether the rate is lowered after each ``"epoch"`` or each ``"step"``.
        warmup_steps: Steps over which the rate rises linearly from zero.
        gradient_clip: Largest L2 norm of the gradients.
        foreground_share: Share of each batch whose patches are centred on a labelled voxel.
        deep_supervision: Whether coarser decoder stages are trained as well.
        dice_weight: Weight of the Dice term.
        cross_entropy_weight: Weight of the cross-entropy term.
        dice_smooth: Added to numerator and denominator of the Dice term.
        centre_weight: Final weight of the terms for what is learnt beside classes (bodies' centres); it rises
            with the square of the progress, because early on it crowds the names out of the trunk.
        precision: Arithmetic of the forward pass; ``"auto"`` takes the best the device has.
        compile: ``"auto"`` compiles the network where that helps.
        workers: Loader processes; None lets the device decide.
        seed: Of everything random.
        deterministic: Bitwise repeatable on the same machine.
        balance: ``"undersampled"`` draws, anew for every batch, as many voxels of the background as there
            are labelled ones, and leaves the others out of the loss.
        near_background: Share of the background so drawn that lies within 10 voxels of a label.
        unfreezing: Share of the training over which layers begin to learn, the last one first; 0 trains all
            from the start.
        pretraining: What comes before.
        augmentation: What happens to the patches.
    """

    epochs: int = 1000
    steps: int = 250
    validation_steps: int = 50
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.99
    nesterov: bool = True
    weight_decay: float = 3e-5
    decay_power: float = 0.9
    decay_every: Literal["epoch", "step"] = "epoch"
    warmup_steps: int = 0
    gradient_clip: float = 12.0
    foreground_share: float = 0.33
    deep_supervision: bool = True
    dice_weight: float = 1.0
    cross_entropy_weight: float = 1.0
    dice_smooth: float = 1e-5
    centre_weight: float = 0.5
    precision: Precision = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    workers: int | None = None
    seed: int = 12345
    deterministic: bool = False
    balance: Literal["none", "undersampled"] = "none"
    near_background: float = 0.5
    unfreezing: float = 0.0
    pretraining: Pretraining = field(default_factory=Pretraining)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Configuration:
    """One way to look at the data set: a resolution, a patch, a network and its training.

    Args:
        name: ``"2d"``, ``"3d_lowres"``, ``"3d_fullres"``, ``"3d_cascade_fullres"``, …
        axes: Order of the stored axes, as indices into canonical z, y, x. A 2D network sees the last two.
        spacing: mm along the stored axes; None keeps the scan's own.
        patch: Voxels along the network's axes (two or three).
        batch_size: Patches a step.
        median_shape: Median shape of the resampled cases along the stored axes.
        network: The network.
        crop: What is cropped to before anything else.
        normalisation: Per channel.
        padding: Normalised intensity of what lies outside the scan, per channel.
        mirror_axes: Network axes that may be mirrored, in training and at test time.
        batch_dice: Whether the Dice term pools the whole batch.
        previous_stage: Configuration whose prediction this one builds on.
        feed: What of that prediction enters as extra one-hot channels: every class, vertebra or not, nothing.
        image_order: Spline order the image is resampled with.
        separate_axis_ratio: Anisotropy above which the coarse axis is resampled alone with order 0;
            None never does.
        schedule: The training.
        trainer: The trainer's name in the registry.
        centres: Whether the network also learns where each vertebra's body has its centre; 3D only.
        target: What it learns: every class, vertebra or not, or a ball around each body's centre.
        view: How it goes through a scan: window by window, one region around each vertebra that the previous
            stage has found, or from vertebra to vertebra with a memory of those it has been to.
        context: Neighbouring slices on either side that enter as further channels; 2D only.
        class_weights: Of each output channel in the cross-entropy; empty weighs them equally.

    Raises:
        UsageError: These do not go together.
    """

    name: str
    axes: tuple[int, int, int]
    spacing: tuple[float | None, float | None, float | None]
    patch: tuple[int, ...]
    batch_size: int
    median_shape: tuple[float, float, float]
    network: NetworkSpec
    crop: Crop
    normalisation: tuple[Normalisation, ...]
    padding: tuple[float, ...]
    mirror_axes: tuple[int, ...]
    batch_dice: bool
    previous_stage: str | None = None
    image_order: int = 3
    separate_axis_ratio: float | None = 3.0
    schedule: Schedule = field(default_factory=Schedule)
    trainer: str = "default"
    centres: bool = False
    feed: Feed = "classes"
    target: Target = "classes"
    view: View = "windows"
    context: int = 0
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for contradiction, remedy in self._contradictions():
            raise UsageError(f"{self.name} {contradiction}.", remedy=remedy)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.patch)

    @property
    def tells_levels(self) -> bool:
        """Whether it tells levels apart."""
        return self.target == "classes"

    @property
    def locates(self) -> bool:
        """Whether its predictions tell where each vertebra's body has its centre."""
        return self.centres or (self.tells_levels and self.view != "windows")

    @property
    def fed(self) -> bool:
        """Whether a previous stage's prediction enters its network as channels."""
        return self.previous_stage is not None and self.feed != "none"

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        solid = self.dimensions == 3 and None not in self.spacing
        if self.centres and not (solid and self.tells_levels and self.view == "windows"):
            yield (
                "cannot learn where bodies have their centres",
                "That takes windows in three dimensions, a spacing along each and the target classes; "
                "set centres to false.",
            )
        if self.view != "windows" and not solid:
            yield f"cannot view {self.view}", "That takes three dimensions and a spacing along each."
        if self.context and self.dimensions != 2:
            yield "has neighbouring slices", "Only a 2D network takes them; set context to 0."
        if self.previous_stage is None and (self.view == "vertebrae" or self.crop == "spine"):
            yield "does not know where vertebrae are", "Name the previous stage that finds them."


@dataclass(frozen=True)
class Plan:
    """What to train on a data set.

    Args:
        dataset: The data set's name.
        planner: The planner's name.
        labels: What the values in the masks mean.
        classes: Label value of each output channel; channel 0 is background.
        configurations: In the order they are trained; a previous stage precedes its cascade.
        reasons: Why it is so.
        budget: What it was made for.
        column: What is known about columns, to name vertebrae by; None decides voxel by voxel.
        ignore_border: Whether voxels are left out of the training that may belong to a vertebra which the
            border of the field of view cuts and nobody labelled.
        partial: What becomes of cut vertebrae in predictions: the data set's own convention.
        version: Of this document's layout.
    """

    dataset: str
    planner: str
    labels: LabelSchema
    classes: tuple[int, ...]
    configurations: tuple[Configuration, ...]
    reasons: tuple[Reason, ...] = ()
    budget: Budget = field(default_factory=Budget)
    column: ColumnModel | None = None
    ignore_border: bool = False
    partial: Partial = "keep"
    version: int = 1

    def configuration(self, name: str) -> Configuration:
        """The configuration called ``name``.

        Raises:
            UsageError: There is none.
        """
        for configuration in self.configurations:
            if configuration.name == name:
                return configuration
        available = ", ".join(c.name for c in self.configurations)
        raise UsageError(f"The plan has no configuration {name!r}.", remedy=f"Choose from: {available}.")

    def input_channels(self, configuration: Configuration) -> int:
        """Channels the configuration's network takes.

        The image's, of every slice that it sees; those of a previous stage; and one that tells which
        vertebra is meant, or which have been dealt with.
        """
        image = len(configuration.normalisation) * (2 * configuration.context + 1)
        fed = self.fed_classes(configuration) - 1 if configuration.fed else 0
        return image + fed + (configuration.view != "windows")

    def fed_classes(self, configuration: Configuration) -> int:
        """Classes, background included, of the maps that enter the network as one-hot channels."""
        every = configuration.fed and configuration.feed == "classes"
        return len(self.classes) if every else 2

    def output_channels(self, configuration: Configuration) -> int:
        """Channels the configuration's network gives: its classes, and what else it learns behind them."""
        extra = CENTRE_CHANNELS if configuration.centres else int(configuration.view == "walk")
        return self.target_classes(configuration) + extra

    def target_classes(self, configuration: Configuration) -> int:
        """Classes that the configuration's network tells apart, background included."""
        single = configuration.target == "foreground" or configuration.view == "vertebrae"
        return 2 if single else len(self.classes)

    @property
    def vertebra_channels(self) -> tuple[int, ...]:
        """Output channels that are vertebrae; all but the background where no label has such a name."""
        vertebrae = self.labels.vertebrae
        found = tuple(channel for channel, value in enumerate(self.classes) if value in vertebrae)
        return found or tuple(range(1, len(self.classes)))
