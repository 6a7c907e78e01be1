"""nnU-Net in an environment of its own, so that neither side's packages touch the other's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

VERSION: Final = "2.8.1"

#: Libraries that both sides compute or write with have the same version on both sides.
_SHARED: Final = (
    "torch",
    "numpy",
    "scipy",
    "scikit-image",
    "simpleitk",
    "blosc2",
    "batchgenerators",
    "acvl_utils",
    "connected-components-3d",
)
_LOCK: Final = Path(__file__).parents[1] / "requirements.lock"
_NEEDED: Final = (
    "nnunetv2.preprocessing.preprocessors.default_preprocessor",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "nnunetv2.inference.predict_from_raw_data",
)
_LINES: Final = 30


class SetUpError(Exception):
    """The environment could not be made."""


def peer_python(work: Path) -> Path:
    """The Python of an environment with nnU-Net; it is made at first, which takes minutes and gigabytes.

    Raises:
        SetUpError: pip refuses, or what it installed cannot be imported.
    """
    folder = work / f"nnunetv2-{VERSION}"
    python, ready = folder / "bin" / "python", folder / "ready.txt"
    same = constraints(_LOCK.read_text(encoding="utf-8"))
    wanted = "\n".join(same) + "\n"
    if not ready.is_file() or ready.read_text(encoding="utf-8") != wanted:
        print(f"Installing nnunetv2 {VERSION} into {folder}: this takes some minutes, once.", flush=True)
        _install(folder, python, same)
        ready.write_text(wanted, encoding="utf-8")
    return python


def constraints(lock: str) -> list[str]:
    """The lines of a lock file that hold for both sides."""
    lines = [line.strip() for line in lock.splitlines()]
    return [line for line in lines if _normal(line.partition("==")[0]) in map(_normal, _SHARED)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _install(folder: Path, python: Path, same: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "constraints.txt"
    listed.write_text("\n".join(same) + "\n", encoding="utf-8")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    torch = next(line for line in same if line.startswith("torch=="))
    _run([sys.executable, "-m", "venv", folder])
    # Torch goes first and alone: whichever build pip is set up to offer then satisfies the rest.
    _run([*pip, torch])
    _run([*pip, "--constraint", listed, f"nnunetv2=={VERSION}"])
    _run([python, "-c", "import " + ", ".join(_NEEDED)])


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-_LINES:])
        shown = " ".join(map(str, command))
        raise SetUpError(f"nnU-Net's environment could not be made; this failed:\n{shown}\n{last}")
