"""Builds a generated data set once, atomically, and refuses a folder with other parameters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voslab.core import DataError, WriteError, atomic_folder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_NOTE = "generated.json"


def build_once(root: Path, parameters: DataclassInstance, write: Callable[[Path], None]) -> Path:
    """Generate a data set unless it exists. Several processes may call this at the same time.

    Args:
        root: Folder of the data set. It must not hold anything else.
        parameters: Everything that determines the content, in plain types. `generated.json` in `root` records them.
        write: Writes the data set into an empty folder.

    Returns:
        `root`.

    Raises:
        DataError: If `root` holds other files, or a data set generated with other parameters.
        WriteError: If the data set cannot be written.
    """
    expected = json.loads(json.dumps(asdict(parameters)))
    if _exists(root, expected):
        return root
    try:
        with atomic_folder(root) as temporary:
            write(temporary)
            (temporary / _NOTE).write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise WriteError(f"{root}: cannot be written ({error.strerror or error})") from error
    _exists(root, expected)  # another process may have published other data first
    return root


def _exists(root: Path, expected: dict[str, Any]) -> bool:
    """Return whether the data set exists. Raises `DataError` if anything else does."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        recorded = json.loads((root / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{root}: exists and is no generated data set ({_NOTE} cannot be read); choose another"
        ) from error
    if recorded != expected:
        recorded = recorded if isinstance(recorded, dict) else {}
        other = ", ".join(
            f"{key} {recorded.get(key)} not {value}" for key, value in expected.items() if recorded.get(key) != value
        )
        raise DataError(f"{root}: generated with other parameters ({other}); delete it or choose another folder")
    return True
