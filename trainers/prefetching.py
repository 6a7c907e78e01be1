"""Examples that are made while the GPU still computes the step before.

Copying and augmenting a batch is work for the GPU as well. It runs on a stream beside the main one and fills
the gaps that small layers leave there; what waits for it, or for the loader, is the host and not the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Protocol

import torch
from torch import Tensor

from .patches import Example

Make = Callable[[], Example]


class Place(Protocol):
    """Where examples are made, and a clock for how long the training waited for them."""

    #: Whether the next example may be made before it is asked for.
    ahead: bool

    def make(self, make: Make) -> Example:
        """Make an example."""

    def hand_over(self, example: Example) -> None:
        """Let the training use it."""

    def queued(self) -> None:
        """The training has nothing more to do until the next example."""

    def waited(self) -> float:
        """Seconds since the last call."""


class Prefetcher(Iterator[Example]):
    """Examples in the order of their source, the next one made ahead where that helps.

    Call ``prepare`` as soon as a step has been queued. What goes wrong there is raised by the ``next`` that
    it concerns.

    Args:
        source: Makes the examples.
        place: Where.
    """

    def __init__(self, source: Iterator[Example], place: Place) -> None:
        self._source = source
        self._place = place
        self._ready: Example | Exception | None = None
        self._begun = False

    @classmethod
    def on(cls, device: torch.device, source: Iterator[Example]) -> Prefetcher:
        """Examples on a device."""
        return cls(source, BesideGpu(device) if device.type == "cuda" else OnHost())

    def __next__(self) -> Example:
        if self._ready is None:
            self._place.queued()
            self._prepare()
        ready, self._ready = self._ready, None
        if isinstance(ready, Exception):
            raise ready
        assert ready is not None, "it has just been made"
        self._place.hand_over(ready)
        return ready

    def prepare(self) -> None:
        """Make the next example now."""
        if self._place.ahead and self._ready is None:
            self._place.queued()
            self._prepare()

    def waited(self) -> float:
        """Seconds since the last call in which the training could do nothing for want of an example."""
        return self._place.waited()

    def _prepare(self) -> None:
        try:
            self._ready = self._place.make(lambda: next(self._source))
        except Exception as error:
            self._ready = error
        if not self._begun:
            self._begun = True
            self._place.waited()  # until the loader had started, which happens only once


class OnHost:
    """On a CPU nothing is gained by making examples ahead, and nothing is timed: the same cores do it all."""

    ahead = False

    def make(self, make: Make) -> Example:
        """Make an example."""
        return make()

    def hand_over(self, example: Example) -> None:
        """Nothing is to be done."""

    def queued(self) -> None:
        """Nothing is to be done."""

    def waited(self) -> float:
        """None that anyone could tell from work."""
        return 0.0


class BesideGpu:
    """On a stream beside the main one.

    The clock are pairs of events on the main stream, around the gaps between two steps; they are read once
    an epoch, so that nobody waits for them.

    Args:
        device: The GPU.
    """

    ahead = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._idle: torch.cuda.Event | None = None
        self._gaps: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def make(self, make: Make) -> Example:
        """Make an example on the stream beside."""
        with torch.cuda.stream(self._side):
            return make()

    def hand_over(self, example: Example) -> None:
        """Let the main stream wait for it, and keep its memory until the main stream has used it."""
        main = torch.cuda.current_stream(self._device)
        main.wait_stream(self._side)
        for field in fields(example):
            value = getattr(example, field.name)
            if isinstance(value, Tensor):
                value.record_stream(main)
        if self._idle is not None:
            self._gaps.append((self._idle, self._mark()))

    def queued(self) -> None:
        """Let the host run ahead of the GPU by one step and no more; each would hold another example."""
        before, self._idle = self._idle, self._mark()
        if before is not None:
            before.synchronize()

    def waited(self) -> float:
        """Seconds since the last call."""
        if self._gaps:
            self._gaps[-1][1].synchronize()
        milliseconds = sum(float(idle.elapsed_time(busy)) for idle, busy in self._gaps)
        # What comes before the next example is not a gap between steps.
        self._idle, self._gaps = None, []
        return milliseconds / 1000

    def _mark(self) -> torch.cuda.Event:
        # A host that waits for it leaves its core to the loader.
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event
