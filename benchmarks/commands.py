"""Commands of autospine, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def command(*arguments: str) -> None:
    """Run ``autospine ARGUMENTS`` to its end.

    Raises:
        CalledProcessError: It has failed.
    """
    subprocess.run([sys.executable, "-m", "autospine", *arguments], check=True)
