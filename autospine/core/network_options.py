"""What each kind of network lets one choose beside its stages: named options with their defaults.

They stand in a plan as ``NetworkSpec.options``. Where a paper does not say how something was done, the
default is this project's choice, and a correction is a change of an option.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from autospine.core.errors import UsageError
from autospine.core.plan import NetworkSpec, OptionValue

Options = TypeVar("Options")


@dataclass(frozen=True)
class UnbalancedOptions:
    """Of ``unbalanced_unet``.

    Args:
        decoder_width: Features of a decoder stage as a share of the encoder's.
        residual: Whether pairs of an encoder stage's convolutions, after its first, have an addition around.
        attention: Channel attention on the skip connections.
    """

    decoder_width: float = 0.5
    residual: bool = True
    attention: Literal["none", "cbam", "se"] = "none"


@dataclass(frozen=True)
class ChasppOptions:
    """Of ``chaspprau_net``.

    Args:
        pyramid: Whether each dilated convolution sees the one before, or two parallel pyramids follow
            each other.
        rates: Dilation of the pyramid's branches; capped where feature maps are small.
        first_pyramid: First stage that has a pyramid, counted from 0.
        attention_gates: Whether skip connections are gated by the coarser stage.
    """

    pyramid: Literal["hierarchical", "serial"] = "hierarchical"
    rates: tuple[int, ...] = (1, 2, 4, 8)
    first_pyramid: int = 2
    attention_gates: bool = True


@dataclass(frozen=True)
class MobileOptions:
    """Of ``mru_net``.

    Args:
        expansion: How many times wider an inverted residual is inside.
        squeeze: Whether inverted residuals weigh their channels (squeeze and excitation).
    """

    expansion: int = 6
    squeeze: bool = True


@dataclass(frozen=True)
class EfficientNetOptions:
    """Of ``efficientnet_unet``.

    Args:
        variant: Compound scaling of width and depth.
        attention: Channel attention on the skip connections.
        norm: Batch normalisation, or instance normalisation for small batches.
        decoder: Features of the decoder's stages, coarsest first.
    """

    variant: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"] = "b7"
    attention: Literal["none", "cbam", "se"] = "cbam"
    norm: Literal["batch", "instance"] = "batch"
    decoder: tuple[int, ...] = (256, 128, 64, 32, 16)


@dataclass(frozen=True)
class SegNetOptions:
    """Of ``segnet``.

    Args:
        heads: A region head (vertebra or not) beside the level head, or the level head alone.
        norm: Batch normalisation as in the original, or instance normalisation.
    """

    heads: Literal["region_and_level", "level"] = "region_and_level"
    norm: Literal["batch", "instance"] = "batch"


@dataclass(frozen=True)
class DenseOptions:
    """Of ``dense_unet``.

    Args:
        dense: Blocks after Kolarik et al. (each output beside the level's input), or after DenseNet.
        layers: Convolutions of a DenseNet block.
        growth: Features that each of them adds.
        transition: Share of a DenseNet block's features that its transition keeps.
    """

    dense: Literal["kolarik", "densenet"] = "kolarik"
    layers: int = 4
    growth: int = 16
    transition: float = 0.5


@dataclass(frozen=True)
class PatchMlpOptions:
    """Of ``patch_mlp``; its hidden layers are the specification's features.

    Args:
        patch: Edge of the classified patch in pixels.
        stride: Distance in pixels between classified patches.
    """

    patch: int = 32
    stride: int = 4


def options_of(spec: NetworkSpec, kind: type[Options]) -> Options:
    """A specification's options; those it does not name have their defaults.

    Raises:
        UsageError: It names an option that this kind of network lacks, or gives it an impossible value.
    """
    hints, defaults = get_type_hints(kind), asdict(kind())  # type: ignore[call-overload]
    for name, value in spec.options.items():
        if name not in hints:
            raise _unknown(name, list(hints), spec.name)
        defaults[name] = _checked(f"{spec.name}'s option {name}", value, hints[name])
    return kind(**defaults)


def options_of_text(groups: Sequence[Any], given: Mapping[str, str], owner: str) -> tuple[Any, ...]:
    """Groups of options (dataclasses, or None) with those replaced that are given as text.

    Lists of numbers are written with slashes, as in ``1/2/4``.

    Args:
        groups: With their defaults.
        given: Text by name; each name belongs to one of the groups.
        owner: Whose options they are.

    Raises:
        UsageError: There is no such option, or its value is impossible.
    """
    hints = [get_type_hints(type(group)) if group is not None else {} for group in groups]
    known = [name for group in hints for name in group]
    for name in given:
        if name not in known:
            raise _unknown(name, known, owner)
    return tuple(
        group if group is None else replace(group, **_parsed(given, kinds, owner))
        for group, kinds in zip(groups, hints, strict=True)
    )


def _parsed(given: Mapping[str, str], hints: Mapping[str, Any], owner: str) -> dict[str, OptionValue]:
    return {
        name: _checked(f"{owner}'s option {name}", _read(text, hints[name]), hints[name])
        for name, text in given.items()
        if name in hints
    }


def _read(text: str, hint: Any) -> OptionValue:
    """A value of the kind that is asked for; the text itself where it is none."""
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if hint == tuple[int, ...]:
            return tuple(int(part) for part in text.split("/"))
        if hint in (int, float):
            return int(text) if hint is int else float(text)
    except (KeyError, ValueError):
        pass
    return text


def _unknown(name: str, known: Sequence[str], owner: str) -> UsageError:
    return UsageError(
        f"{owner} has no option {name!r}.", remedy=f"Choose from: {', '.join(known) or 'none'}."
    )


def _checked(what: str, value: OptionValue, hint: Any) -> OptionValue:
    choices = get_args(hint)
    if hint is float and type(value) is int:
        return float(value)
    if choices and isinstance(choices[0], str):
        if value not in choices:
            raise UsageError(f"{what} is {value!r}.", remedy=f"Choose from: {', '.join(choices)}.")
        return value
    if hint == tuple[int, ...]:
        if isinstance(value, tuple) and all(type(item) is int for item in value):
            return value
    elif type(value) is hint and not (isinstance(value, int | float) and value < 0):
        return value
    kind = "numbers, as 1/2/4" if hint == tuple[int, ...] else hint.__name__
    raise UsageError(f"{what} is {value!r}.", remedy=f"Give it a value of the kind {kind}.")
