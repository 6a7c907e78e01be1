"""What has been measured, as documents in ``results``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")


def write_report(name: str, document: Mapping[str, Any], markdown: str = "") -> None:
    """Write ``NAME.json``, and the same for people, if there is such, as ``NAME.md``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if markdown:
        (RESULTS / f"{name}.md").write_text(markdown, encoding="utf-8")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text below a header."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def described(machine: Mapping[str, str]) -> str:
    """What a measurement was made with, in one line."""
    return ", ".join(f"{key} {value}" for key, value in machine.items()) + "\n"
