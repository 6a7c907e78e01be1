"""How long-running steps talk: lines of text and progress bars, or silence."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TextIO

from tqdm import tqdm

Advance = Callable[[str], None]
_SECONDS_BETWEEN_LINES: Final = 30.0


@dataclass(frozen=True)
class Reporter:
    """Writes to a stream; a bar on a terminal, now and then a plain line elsewhere.

    Args:
        quiet: Say nothing at all.
        stream: Where to; None is standard error, as it stands when something is said.
    """

    quiet: bool = False
    stream: TextIO | None = None

    def say(self, text: str = "") -> None:
        """One or more lines, above any progress bar."""
        if not self.quiet:
            tqdm.write(text, file=self._out)

    @contextmanager
    def bar(self, total: int, description: str) -> Iterator[Advance]:
        """A progress bar over ``total`` units; call what it yields, with a status, once a unit."""
        out = self._out
        if self.quiet or total == 0:
            yield lambda _: None
        elif out.isatty():
            with tqdm(total=total, desc=description, file=out, leave=False, dynamic_ncols=True) as bar:
                yield lambda status: _advance_bar(bar, status)
        else:
            yield _PlainProgress(self, total, description)

    @property
    def _out(self) -> TextIO:
        return self.stream or sys.stderr


class _PlainProgress:
    """Progress as a line every half minute, for log files."""

    def __init__(self, reporter: Reporter, total: int, description: str) -> None:
        self.reporter = reporter
        self.total = total
        self.description = description
        self.done = 0
        self.last = time.monotonic()

    def __call__(self, status: str) -> None:
        self.done += 1
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            self.reporter.say(f"{self.description}: {self.done}/{self.total} {status}".rstrip())


def _advance_bar(bar: tqdm[Any], status: str) -> None:
    if status:
        bar.set_postfix_str(status, refresh=False)
    bar.update()
