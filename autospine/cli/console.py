"""What commands print on standard output: their result, for people or for machines."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """Print a value object or a plain mapping as one JSON document."""
    from pydantic import TypeAdapter

    say(json.dumps(TypeAdapter(type(value)).dump_python(value, mode="json"), indent=1))
