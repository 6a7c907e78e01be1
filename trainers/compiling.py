"""The network as training steps use it, compiled where that is wanted and works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from autospine.core.plan import Schedule

_Result = TypeVar("_Result")
_LONGEST_REASON: Final = 200


class AllStages(nn.Module):
    """A network seen through ``forward_stages``, so that it can be compiled as a whole."""

    def __init__(self, network: nn.Module, deep: bool) -> None:
        super().__init__()
        self.network = network
        self.deep = deep

    def forward(self, image: Tensor) -> list[Tensor]:
        """Stages of an image, finest first."""
        if not self.deep:
            return [self.network(image)]
        stages: list[Tensor] = self.network.forward_stages(image)  # type: ignore[operator]
        return stages


class StepNetwork:
    """All stages of a network, compiled at the first call where that is wanted.

    Args:
        network: The network.
        schedule: Whether it is compiled, and whether all its stages are trained.
        device: Where it runs; by default only GPUs compile.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, device: torch.device) -> None:
        self._plain = AllStages(network, schedule.deep_supervision)
        self._compiled: Callable[[Tensor], list[Tensor]] | None = None
        self._compile = schedule.compile == "on" or (schedule.compile == "auto" and device.type == "cuda")

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Stages of an image, finest first."""
        if not self._compile:
            stages: list[Tensor] = self._plain(image)
            return stages
        if self._compiled is None:
            self._compiled = torch.compile(self._plain)
        return self._compiled(image)

    def with_or_without_compiler(self, work: Callable[[], _Result], say: Callable[[str], None]) -> _Result:
        """Do work with the network; a compiler that is missing or fails is done without from then on.

        Args:
            work: May be done twice.
            say: Called with one line when it is.
        """
        try:
            return work()
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            if not self._compile:
                raise
            self._compile, self._compiled = False, None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:_LONGEST_REASON]
            say(f"goes on without compiling the network, which failed: {reason}")
        return work()
