"""What EfficientNets B0 to B7 consist of: one table of blocks, and how each variant scales it.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019. The stem
and the inverted residuals are kept, the classifier behind them is not. Stages are numbered by resolution as
in a U-Net: stage 1 has half the image's, stage 5 a thirty-second of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from autospine.core.errors import UsageError

#: Features are rounded to a multiple of this.
_MULTIPLE: Final = 8


@dataclass(frozen=True)
class BlockGroup:
    """Consecutive inverted residuals of one shape; the first takes the stride and changes the features.

    Args:
        stage: The stage they work at.
        repeats: Their number.
        kernel: Size of the depthwise convolution along each axis.
        expansion: How many times wider than its input a block is inside.
        features: Channels that come out.
    """

    stage: int
    repeats: int
    kernel: int
    expansion: int
    features: int


#: Features that the stem gives B0.
_STEM: Final = 32
#: Table 1 of the paper, B0.
_GROUPS: Final = (
    BlockGroup(stage=1, repeats=1, kernel=3, expansion=1, features=16),
    BlockGroup(stage=2, repeats=2, kernel=3, expansion=6, features=24),
    BlockGroup(stage=3, repeats=2, kernel=5, expansion=6, features=40),
    BlockGroup(stage=4, repeats=3, kernel=3, expansion=6, features=80),
    BlockGroup(stage=4, repeats=3, kernel=5, expansion=6, features=112),
    BlockGroup(stage=5, repeats=4, kernel=5, expansion=6, features=192),
    BlockGroup(stage=5, repeats=1, kernel=3, expansion=6, features=320),
)
#: By which width and depth are multiplied. These are the published networks' coefficients, close to but not
#: exactly the powers of 1.1 and 1.2 in the paper's formula.
_COEFFICIENTS: Final = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
}


def block_groups(variant: str) -> tuple[BlockGroup, ...]:
    """The groups of inverted residuals of ``variant``, in order.

    Raises:
        UsageError: There is no such variant.
    """
    width, depth = _coefficients(variant)
    return tuple(
        replace(group, repeats=math.ceil(depth * group.repeats), features=_rounded(width * group.features))
        for group in _GROUPS
    )


def stem_features(variant: str) -> int:
    """Channels that the strided convolution before all blocks gives.

    Raises:
        UsageError: There is no such variant.
    """
    return _rounded(_coefficients(variant)[0] * _STEM)


def stage_features(variant: str) -> tuple[int, ...]:
    """Channels that stages 1 to 5 give, finest first.

    Raises:
        UsageError: There is no such variant.
    """
    return tuple({group.stage: group.features for group in block_groups(variant)}.values())


def stage_blocks(variant: str) -> tuple[int, ...]:
    """Inverted residuals of stages 1 to 5, finest first.

    Raises:
        UsageError: There is no such variant.
    """
    groups = block_groups(variant)
    return tuple(sum(g.repeats for g in groups if g.stage == stage) for stage in range(1, 6))


def _coefficients(variant: str) -> tuple[float, float]:
    if variant not in _COEFFICIENTS:
        raise UsageError(
            f"There is no EfficientNet {variant!r}.", remedy=f"Choose from: {', '.join(_COEFFICIENTS)}."
        )
    return _COEFFICIENTS[variant]


def _rounded(features: float) -> int:
    """The nearest multiple, of two the larger one, that loses no more than a tenth."""
    nearest = max(_MULTIPLE, int(features + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return nearest + _MULTIPLE if nearest < 0.9 * features else nearest
