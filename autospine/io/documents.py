"""Value objects as JSON documents: strict on the way in, atomic on the way out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from autospine.core.errors import AutospineError, DocumentError
from autospine.io.files import write_text

_T = TypeVar("_T")

#: Building an adapter takes longer than reading most documents.
_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(maxsize=64)(TypeAdapter)


def to_json(value: Any) -> str:
    """A dataclass (or anything made of dataclasses, mappings and tuples) as indented JSON."""
    return _adapter(type(value)).dump_json(value, indent=1).decode()


def save(path: Path, value: Any) -> None:
    """Write a value object as JSON, atomically.

    Raises:
        StorageError: The disk refuses.
    """
    write_text(path, to_json(value) + "\n")


def from_json(kind: type[_T], text: str, where: str | Path | None = None) -> _T:
    """Read a value object from JSON.

    Raises:
        DocumentError: The text is no JSON, lacks a field, has an unknown one, or a value of the wrong kind.
    """
    try:
        data = json.loads(text)
        value = _adapter(kind).validate_json(text)
        unknown = _unknown_keys(_adapter(kind).dump_python(value), data)
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"This is no complete JSON document (line {error.lineno}).",
            where=where,
            remedy="Restore the file or delete it and run the step that writes it again.",
        ) from error
    except (ValueError, RecursionError, AutospineError) as error:
        raise DocumentError(
            f"This is no valid {kind.__name__}: {_summary(error)}.",
            where=where,
            remedy="Correct the file or delete it and run the step that writes it again.",
        ) from error
    if unknown:
        raise DocumentError(
            f"This is no valid {kind.__name__}: unknown field {unknown[0]}.",
            where=where,
            remedy="Correct the spelling or delete the field.",
        )
    result: _T = value
    return result


def load(path: Path, kind: type[_T]) -> _T:
    """Read a value object from a JSON file.

    Raises:
        DocumentError: The file is absent, damaged or of another kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DocumentError(
            "This file does not exist.", where=path, remedy="Run the step that writes it first."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"This file cannot be read ({error}).", where=path) from error
    return from_json(kind, text, path)


def content_hash(*values: Any) -> str:
    """Short hash of value objects; equal values hash equal on every machine."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(to_json(value).encode())
    return digest.hexdigest()[:16]


def _unknown_keys(known: Any, given: Any, path: str = "") -> list[str]:
    if isinstance(known, dict) and isinstance(given, dict):
        names = {str(key): value for key, value in known.items()}
        result = [f"{path}{key}" for key in given if key not in names]
        for key in names.keys() & given.keys():
            result += _unknown_keys(names[key], given[key], f"{path}{key}.")
        return result
    if isinstance(known, (list, tuple)) and isinstance(given, list):
        return [key for k, g in zip(known, given, strict=False) for key in _unknown_keys(k, g, path)]
    return []


def _summary(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problems = [f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()[:3]]
        return "; ".join(problems)
    return str(error)
