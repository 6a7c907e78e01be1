"""Runs a command and writes down its memory; a process of its own, so small that it does not show in it.

    python -I -S watching.py REPORT COMMAND…

REPORT becomes a JSON document: the exit ``code``, and in bytes ``tree``, the largest sum of the resident
memory of all processes the command consisted of, looked at every 20 ms, and ``process``, that of the largest
one. The latter comes from the kernel, which misses nothing, but counts what the process held that started the
command: nobody with large arrays can start it himself. Linux only; imports nothing of the project.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

_INTERVAL = 0.02


def main(report: str, command: list[str]) -> None:
    """Run the command to its end."""
    pid = os.posix_spawn(command[0], command, os.environ)
    tree, (ended, status, used) = 0, (0, 0, None)
    while not ended:
        tree = max(tree, sum(map(_resident_bytes, _descendants(pid))))
        time.sleep(_INTERVAL)
        ended, status, used = os.wait4(pid, os.WNOHANG)
    process = 1024 * used.ru_maxrss if used else 0
    found = {"code": os.waitstatus_to_exitcode(status), "tree": max(tree, process), "process": process}
    with open(report, "w", encoding="ascii") as stream:  # noqa: PTH123 - pathlib would make this larger
        json.dump(found, stream)


def _descendants(pid: int) -> Iterator[int]:
    """A process and all that it has started, as far as they are running."""
    yield pid
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            for child in _read(f"/proc/{pid}/task/{task}/children").split():
                yield from _descendants(int(child))


def _resident_bytes(pid: int) -> int:
    """What a process holds in memory now; nothing if it has ended."""
    with suppress(OSError):
        return int(_read(f"/proc/{pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _read(path: str) -> str:
    with open(path, encoding="ascii") as stream:  # noqa: PTH123
        return stream.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
