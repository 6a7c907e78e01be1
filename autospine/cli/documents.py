"""Guards a document that a user may have edited."""

from __future__ import annotations

from pathlib import Path

from autospine.core.errors import UsageError


def replaceable(path: Path, text: str, *, force: bool) -> None:
    """Refuse to replace a file that says something else.

    Args:
        path: File about to be written.
        text: What is about to be written, up to surrounding blanks.
        force: Never refuse.

    Raises:
        UsageError: The file exists, differs, and ``force`` is not given.
    """
    if force or not path.is_file() or path.read_text(encoding="utf-8").strip() == text.strip():
        return
    raise UsageError(
        "This file holds something else already.",
        where=path,
        remedy="Choose another --output, or replace it by --force.",
    )
