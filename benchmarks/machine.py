"""What a measurement was made with, for the documents in ``results``."""

from __future__ import annotations

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path


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
