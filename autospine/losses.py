"""Soft Dice and cross-entropy, terms for what is learnt beside classes, also over the stages of a decoder.

Dice and cross-entropy share one softmax in float32, and their gradient is written out, so that a step
keeps a single tensor of the logits' size instead of one per operation. Labels below zero are ignored by
both terms.

The Dice term is ``1 - Dice``, so every loss here is zero at best (but for the cross-entropy of a heat
between 0 and 1) and never negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from autospine.core.plan import Configuration

#: Keeps an empty class finite when ``dice_smooth`` is zero.
_SMALLEST: Final = 1e-8
#: A patch whose heat stays below this shows no centre.
_WARM: Final = 0.5
#: Where the vectors' distance turns from quadratic to linear, in units of ``targets.VECTOR_UNIT``.
_SMOOTH: Final = 0.2


@dataclass(frozen=True)
class DiceCrossEntropyLoss:
    """``dice_weight * (1 - soft Dice) + cross_entropy_weight * cross-entropy``.

    The soft Dice of a class is ``(2 sum(p y) + smooth) / (sum(p) + sum(y) + smooth)``, its mean is taken
    over all classes but the background (Drozdzal et al., 2016; nnU-Net's form). Where everything is
    ignored the loss is zero.

    Args:
        dice_weight: Weight of the Dice term.
        cross_entropy_weight: Weight of the cross-entropy term.
        dice_smooth: Added to numerator and denominator of the Dice term.
        batch_dice: Whether the sums run over the whole batch rather than over each sample.
        class_weights: Of each class in the cross-entropy, whose mean they weigh; empty weighs them equally.
    """

    dice_weight: float = 1.0
    cross_entropy_weight: float = 1.0
    dice_smooth: float = 1e-5
    batch_dice: bool = False
    class_weights: tuple[float, ...] = ()

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of logits (b, classes, *patch) against labels (b, *patch), integers, below 0 ignored."""
        dice, cross_entropy = self.terms(logits, labels)
        return self.dice_weight * dice + self.cross_entropy_weight * cross_entropy

    def terms(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Unweighted ``1 - Dice`` and cross-entropy of logits (b, classes, *patch), labels (b, *patch)."""
        with torch.autocast(logits.device.type, enabled=False):
            arguments = (logits.float(), labels, self.dice_smooth, self.batch_dice, self._weights(logits))
            result: tuple[Tensor, Tensor] = _DiceCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
        return result

    def _weights(self, logits: Tensor) -> Tensor:
        """Weight of each class; on a GPU without waiting for it."""
        if not self.class_weights:
            return torch.ones(logits.shape[1], device=logits.device)
        return torch.tensor(self.class_weights).to(logits.device, non_blocking=True)


@dataclass(frozen=True)
class CentreLoss:
    """Heat and vectors of the bodies' centres, against ``targets.centre_targets``.

    The heat's term is ``1 - 2 sum(p t) / (sum(p²) + sum(t²))`` (Milletari et al., 2016), which minds the few
    hot voxels, plus the mean cross-entropy, which minds all others. The vectors' term is the mean of the
    smooth L1 distance (Girshick, 2015). Voxels whose target is NaN take no part.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of outputs (b, 1 + d, *patch), heat as a logit, against targets of the same shape."""
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = outputs.float()
            return self._heat(outputs[:, 0], targets[:, 0]) + self._vectors(outputs[:, 1:], targets[:, 1:])

    def _heat(self, logits: Tensor, heat: Tensor) -> Tensor:
        known = heat.isfinite()
        target = heat.nan_to_num()
        p = logits.sigmoid() * known
        overlap = 2 * (p * target).sum() / ((p * p).sum() + (target * target).sum()).clamp(min=_SMALLEST)
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        # Without a centre in sight there is no overlap to ask for.
        wanted = (target.amax() > _WARM).float()
        return wanted * (1 - overlap) + (entropy * known).sum() / known.sum().clamp(min=1)

    def _vectors(self, vectors: Tensor, targets: Tensor) -> Tensor:
        known = targets.isfinite()
        distance = F.smooth_l1_loss(vectors, targets.nan_to_num(), reduction="none", beta=_SMOOTH)
        return (distance * known).sum() * vectors.shape[1] / known.sum().clamp(min=1)


@dataclass(frozen=True)
class CompletenessLoss:
    """Whether the vertebra in sight is whole: the mean cross-entropy over its voxels, NaN elsewhere."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits (b, 1, *patch) against targets of the same shape."""
        with torch.autocast(outputs.device.type, enabled=False):
            known = targets.isfinite()
            entropy = F.binary_cross_entropy_with_logits(
                outputs.float(), targets.nan_to_num(), reduction="none"
            )
            return (entropy * known).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class DeepSupervisionLoss:
    """The weighted mean of a loss over the stages of a decoder.

    Stage ``i``, finest first, weighs ``1 / 2^i``, and the coarsest nothing unless it is the only one.

    Args:
        loss: The loss of one stage's classes.
        extra_weight: Weight of the loss of the channels behind them, if there are any.
        extra_loss: That loss.
    """

    loss: DiceCrossEntropyLoss
    extra_weight: float = 0.0
    extra_loss: CentreLoss | CompletenessLoss = CentreLoss()

    def __call__(self, stages: Sequence[Tensor], labels: Tensor, extra: Tensor | None = None) -> Tensor:
        """The loss of all stages.

        Args:
            stages: Outputs (b, channels, *size), finest first: classes, and then as many channels as
                ``extra`` has.
            labels: Class indices (b, *patch).
            extra: Targets of the channels behind the classes (b, e, *patch).
        """
        weights = stage_weights(len(stages))
        losses = [
            weight * self._stage(outputs, labels, extra)
            for weight, outputs in zip(weights, stages, strict=True)
            if weight > 0
        ]
        return torch.stack(losses).sum()

    def _stage(self, outputs: Tensor, labels: Tensor, extra: Tensor | None) -> Tensor:
        size = outputs.shape[2:]
        if extra is None:
            return self.loss(outputs, downsample(labels, size))
        classes = outputs.shape[1] - extra.shape[1]
        loss = self.loss(outputs[:, :classes], downsample(labels, size))
        return loss + self.extra_weight * self.extra_loss(outputs[:, classes:], downsample(extra, size))


def build(configuration: Configuration) -> DeepSupervisionLoss:
    """The loss a configuration is trained with; a network without deep supervision has one stage."""
    schedule = configuration.schedule
    return DeepSupervisionLoss(
        DiceCrossEntropyLoss(
            schedule.dice_weight,
            schedule.cross_entropy_weight,
            schedule.dice_smooth,
            configuration.batch_dice,
            configuration.class_weights,
        ),
        schedule.centre_weight,
        CompletenessLoss() if configuration.view == "walk" else CentreLoss(),
    )


def stage_weights(stages: int) -> tuple[float, ...]:
    """Weight of each decoder stage, finest first; they add up to one."""
    weights = [2.0**-i for i in range(max(stages - 1, 1))] + [0.0] * (stages > 1)
    return tuple(weight / sum(weights) for weight in weights)


def downsample(values: Tensor, size: Sequence[int]) -> Tensor:
    """Values (..., *patch) at every n-th voxel, so that (..., *size) remain; a view, nothing is copied.

    The voxel taken is the one that nearest-neighbour interpolation between voxel centres takes.
    """
    patch = values.shape[values.ndim - len(size) :]
    strides = [length // small for length, small in zip(patch, size, strict=True)]
    steps = [slice(stride // 2, None, stride) for stride in strides]
    return values[(slice(None),) * (values.ndim - len(steps)) + tuple(steps)]


class _DiceCrossEntropy(torch.autograd.Function):
    """Dice and cross-entropy of logits (b, classes, *patch) against labels (b, *patch)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, smooth: float, batch_dice: bool, class_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        known = (labels >= 0).to(logits.dtype).unsqueeze(1)
        index = labels.clamp(min=0).long().unsqueeze(1)
        weight = class_weights[index] * known
        total_weight = weight.sum()
        # Where everything is ignored, the sums are zero and so is the loss.
        weight /= torch.where(total_weight > 0, total_weight, 1.0)
        log_p = torch.log_softmax(logits, dim=1)
        cross_entropy = -(log_p.gather(1, index) * weight).sum()

        p = log_p.exp_().mul_(known)
        overlap, size = (_sum_by_class(values, index, p.shape[1]) for values in (p.gather(1, index), known))
        sums = torch.stack((overlap, p.flatten(2).sum(2), size))
        if batch_dice:
            sums = sums.sum(1, keepdim=True)
        overlap, predicted, size = sums[..., 1:]
        total = (predicted + size + smooth).clamp(min=_SMALLEST)
        dice = (2 * overlap + smooth) / total

        ctx.save_for_backward(p, index, weight, dice, total)
        return 1 - dice.mean(), cross_entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dice_scale: Tensor, entropy_scale: Tensor) -> tuple[Tensor | None, ...]:
        p, index, weight, dice, total = ctx.saved_tensors
        # The derivative by p is `everywhere` per class, and `at_truth` more in voxels of that class.
        slope = dice_scale / (dice.numel() * total)
        per_class = (*p.shape[:2], *[1] * (p.ndim - 2))
        everywhere, at_truth = (
            F.pad(values, (1, 0)).expand(p.shape[:2]).reshape(per_class)
            for values in (slope * dice, -2 * slope)
        )
        step = entropy_scale * weight
        truth = p.gather(1, index) * at_truth.expand_as(p).gather(1, index)
        # The softmax's Jacobian is p * (g - sum(p * g)); cross-entropy adds p - y.
        gradient = p * everywhere
        mean = gradient.sum(1, keepdim=True).add_(truth)
        gradient.addcmul_(p, step - mean)
        gradient.scatter_add_(1, index, truth - step)
        return gradient, None, None, None, None


def _sum_by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Sums (b, classes) of values (b, 1, *patch) over the voxels of each class."""
    lanes = values.shape[-1]
    # One sum per class and column first: on CUDA, additions to one and the same address would queue up.
    sums = values.new_zeros(len(values), classes, lanes)
    return sums.scatter_add_(
        1, index.view(len(index), -1, lanes), values.reshape(len(values), -1, lanes)
    ).sum(2)
