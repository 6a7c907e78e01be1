"""One stage of a plan on one scan: what it takes over from the stage before, and what it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from autospine.core.findings import Located
from autospine.core.plan import Configuration, Plan
from autospine.core.trace import Trace
from autospine.inference.instances import merge_instances
from autospine.inference.prediction import Prediction
from autospine.inference.rois import outlined
from autospine.inference.sliding_window import Network, predict_outputs
from autospine.inference.walk import walk
from autospine.io.scratch import IN_MEMORY, Scratch


@dataclass(frozen=True)
class Handover:
    """What a stage takes over from the one before.

    Args:
        class_map: Channel indices of shape ``trace.shape``, where the stage is fed with them.
        vertebrae: Where it is told to look.
    """

    class_map: NDArray[Any] | None = None
    vertebrae: tuple[Located, ...] = ()


NOTHING: Final = Handover()


@dataclass(frozen=True)
class Execution:
    """How a stage is carried out.

    Args:
        device: Where the networks run.
        mirror: Average over the mirrorings that the configuration permits.
        scratch: Where the prediction goes.
    """

    device: torch.device
    mirror: bool = True
    scratch: Scratch = IN_MEMORY


def predict_stage(
    networks: Sequence[Network],
    image: NDArray[np.float32],
    trace: Trace,
    configuration: Configuration,
    plan: Plan,
    execution: Execution,
    before: Handover = NOTHING,
) -> Prediction:
    """What the mean of several networks (the folds) says about a preprocessed scan.

    Args:
        networks: On the execution's device and in evaluation mode.
        image: Shape (c, *trace.shape).
        trace: From the scan to the image.
        configuration: Whose networks they are.
        plan: The configuration's.
        execution: How.
        before: From the previous stage.

    Raises:
        StorageError: The prediction goes to a disk that refuses.
    """
    device, mirror, scratch = execution.device, execution.mirror, execution.scratch
    if before.class_map is not None:
        image = with_previous(image, before.class_map, plan.fed_classes(configuration))
    if configuration.view == "walk":
        return walk(networks, image, trace, configuration, plan, device, scratch=scratch)
    if configuration.view == "vertebrae":
        found = outlined(networks, image, before.vertebrae, trace, configuration, device, mirror=mirror)
        return merge_instances(found, trace, plan, scratch)
    outputs = predict_outputs(networks, image, configuration, device, mirror=mirror, scratch=scratch)
    prediction = Prediction.of(outputs, trace, plan.target_classes(configuration), scratch)
    if configuration.target == "foreground":
        return prediction.spread_over(plan.vertebra_channels, len(plan.classes))
    return prediction


def handed_map(prediction: Prediction, configuration: Configuration, plan: Plan) -> NDArray[np.int8]:
    """The class map of a previous stage as a configuration is fed with it, on the previous stage's grid."""
    if configuration.feed == "classes":
        return prediction.class_map()
    return prediction.foreground_map(plan.vertebra_channels).astype(np.int8)


def with_previous(image: NDArray[np.float32], class_map: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Append a previous stage's class map to an image as one-hot channels, background left out.

    Args:
        image: Shape (c, z, y, x).
        class_map: Channel indices of shape (z, y, x).
        classes: Number of classes with background.

    Returns:
        Shape (c + classes - 1, z, y, x).
    """
    channels = class_map[None] == np.arange(1, classes).reshape(-1, 1, 1, 1)
    return np.concatenate([image, channels.astype(np.float32)])
