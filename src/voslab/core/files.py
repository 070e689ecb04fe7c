"""Writes files atomically: to a temporary file next to the target, then sync and rename."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from voslab.core.errors import WriteError


def write_csv(target: Path | str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Write a table like `atomic_write`; the columns are those of the first row where they are not given."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or (list(rows[0]) if rows else []), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(target, text.getvalue())


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target` (same suffix); it becomes `target` when the block ends without an error.

    Raises:
        WriteError: if the folder cannot be made or written, or the disk is full. The old file is left intact.
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
    """Write a whole file atomically (UTF-8 for text). Raises `WriteError` like `atomic_path`."""
    with atomic_path(target) as path:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a folder to oneself while the block runs; the system ends the claim of a process that is killed.

    Raises:
        WriteError: if another process has it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise WriteError(f"{folder}: cannot be written ({error.strerror or error})") from error
    with file:
        # Some network file systems know no locks. Workers that are forked meanwhile do not inherit this kind.
        with suppress(OSError):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise WriteError(f"{folder}: another process is writing there") from error
        yield
