"""Writes files and folders atomically, names cached results, and locks folders."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voslab.core.errors import WriteError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}(\.\w+)?")


def write_csv(target: Path | str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write a table as CSV, atomically.

    Args:
        target: The file.
        rows: One mapping from column to value per row.
        columns: Names of the columns, in order; None for those of the first row.

    Raises:
        WriteError: If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or (list(rows[0]) if rows else []), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(target, text.getvalue())


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Write a file atomically. The block writes a temporary file, which replaces `target` if no error occurs.

    Args:
        target: The file. Missing folders are created.

    Yields:
        Path of the temporary file, in the same folder and with the same suffix.

    Raises:
        WriteError: If the folder cannot be created or written, or the disk is full. The old file is left intact.
    """
    target = Path(target)
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(6)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # Some libraries write a file that only its owner may read, and rename it.
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise WriteError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def atomic_write(target: Path | str, content: str | bytes) -> None:
    """Write a file atomically.

    Args:
        target: The file.
        content: Its whole content; text is written as UTF-8.

    Raises:
        WriteError: If the file cannot be written.
    """
    with atomic_path(target) as path:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Write a folder atomically. The block fills a temporary folder, which becomes `target` if no error occurs.

    If another process publishes `target` first, that folder is kept and the temporary one is deleted.

    Args:
        target: The folder. It must not exist, or be empty.

    Yields:
        Path of the temporary folder, a hidden sibling of `target`.

    Raises:
        OSError: If a folder cannot be created or renamed.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            # Another process was first: rename does not replace a folder that has files.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def cache_key(*parts: Any) -> str:
    """Return a key for a cached result, equal for equal inputs in every process.

    Args:
        parts: Everything that determines the result. A `Path` counts by its absolute path, size and modification time,
            bytes by their content, and other objects by their JSON form, or by `repr` if they have none.

    Returns:
        16 hexadecimal digits.

    Raises:
        OSError: If a path does not exist.

    Example:
        >>> cache_key("settings", {"size": 480}) == cache_key("settings", {"size": 480})
        True
        >>> cache_key("settings", {"size": 480}) == cache_key("settings", {"size": 240})
        False
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_describe).encode()).hexdigest()[:16]


def _describe(value: Any) -> Any:
    """Return what JSON can hold of a value."""
    if isinstance(value, Path):
        status = value.stat()
        return [str(value.resolve()), status.st_size, status.st_mtime_ns]
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)


def remove_partial(*folders: Path) -> None:
    """Remove temporary files and folders that a killed program left in folders, whose writer `claimed` them before.

    Args:
        folders: searched without their subfolders; may be missing.
    """
    for folder in folders:
        for path in folder.glob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                with suppress(OSError):
                    path.unlink()


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs. The system releases the lock of a process that is killed.

    Args:
        folder: The folder; created if it does not exist.

    Raises:
        WriteError: If another process holds the lock, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written ({error.strerror or error})") from error
    with file:
        # Some network file systems have no locks. Forked workers do not inherit this kind of lock.
        with suppress(OSError):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise WriteError(f"{folder}: another process is writing there") from error
        yield
