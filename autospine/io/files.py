"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autospine.core.errors import StorageError

_REMEDIES = {
    errno.ENOSPC: "Free some space or choose another folder; finished work is kept, run the command again.",
    errno.EDQUOT: "Your quota is used up: free some space; finished work is kept, run the command again.",
    errno.EROFS: "The disk is read-only: choose another output folder.",
    errno.EACCES: "You may not write there: choose another folder or change its permissions.",
    errno.EPERM: "You may not write there: choose another folder or change its permissions.",
    errno.EFBIG: "The disk takes no file of this size: choose a folder on another one.",
    errno.EIO: "The disk is failing or disconnected: check it, or choose another folder.",
    errno.ENOTDIR: "A file stands where a folder is needed: choose another output folder.",
}

_PROBE_SIZE = 65536


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into a ``StorageError`` about ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        reason = os.strerror(error.errno)
        raise StorageError(f"{reason}.", where=path, remedy=_REMEDIES[error.errno]) from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; return it.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    with storage_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(path)) from error
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling of ``path`` to write to; it takes the name of ``path`` when the block succeeds.

    The temporary name keeps the suffixes, because image writers choose their format by them. It
    carries the process id, so that two processes never write to the same temporary file.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with storage_errors(path):
            yield temporary
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_failure(path: Path, reason: str) -> Exception:
    """The error behind a library's vague one: ask the disk itself by writing a little beside ``path``.

    Args:
        path: What could not be written.
        reason: What the library said.

    Returns:
        The operating system's refusal, which ``storage_errors`` explains, or a ``StorageError``.
    """
    probe = path.with_name(f".partial-{os.getpid()}-probe-{path.name}")
    try:
        probe.write_bytes(bytes(_PROBE_SIZE))
    except OSError as refusal:
        return refusal
    finally:
        probe.unlink(missing_ok=True)
    return StorageError(
        f"The file could not be written whole ({reason}).",
        where=path,
        remedy="Check the disk and run the command again; finished work is kept.",
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_partial(folder: Path) -> None:
    """Delete temporary files that killed processes left anywhere below ``folder``.

    Those of processes that are still alive stay: another fold may be in training beside this one.
    """
    for leftover in folder.rglob(".partial-*"):
        if _owner_lives(leftover.name):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _owner_lives(name: str) -> bool:
    found = re.match(r"\.partial-(\d+)-", name)
    if found is None or os.name != "posix":
        return False
    if int(found[1]) == os.getpid():
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
