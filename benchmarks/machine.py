"""What a measurement was made with, for the documents in ``results``."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path

_VERSIONS = """
import json, platform, sys
from importlib.metadata import version
print(json.dumps({"python": platform.python_version()} | {name: version(name) for name in sys.argv[1:]}))
"""


def machine(*libraries: str) -> dict[str, str]:
    """Date, processor, Python and the versions of some libraries."""
    versions = {library: version(library) for library in libraries}
    found = {"date": date.today().isoformat(), "cpu": processor(), "python": platform.python_version()}
    return found | versions


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def versions_of(python: Path, *libraries: str) -> dict[str, str]:
    """Versions of another Python and of libraries in its environment."""
    command = [str(python), "-c", _VERSIONS, *libraries]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = json.loads(printed)
    return found
