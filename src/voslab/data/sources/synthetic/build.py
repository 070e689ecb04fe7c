"""Builds a generated data set once, atomically, and refuses a folder with other parameters."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voslab.core import DataError, WriteError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_NOTE = "generated.json"


def build_once(root: Path, parameters: DataclassInstance, write: Callable[[Path], None]) -> Path:
    """Make a data set in `root` unless it is there, whoever else is making it at the same time.

    Args:
        root: its folder, which must not hold anything else.
        parameters: all that decides what it holds, in plain types; kept in its `generated.json`.
        write: writes it into an empty folder.

    Returns:
        `root`.

    Raises:
        DataError: `root` holds something else, or data made with other parameters.
        WriteError: it cannot be written.
    """
    wanted = json.loads(json.dumps(asdict(parameters)))
    if _exists(root, wanted):
        return root
    building = root.with_name(f".{root.name}.{secrets.token_hex(6)}")
    try:
        building.mkdir(parents=True)
        write(building)
        (building / _NOTE).write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        _publish(building, root, wanted)
    except OSError as error:
        raise WriteError(f"{root}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def _exists(root: Path, wanted: dict[str, Any]) -> bool:
    """Whether the data set is there. Raises `DataError` if anything else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{root}: exists and is no generated data set ({_NOTE} cannot be read); choose another"
        ) from error
    if found != wanted:
        found = found if isinstance(found, dict) else {}
        other = ", ".join(
            f"{key} {found.get(key)} not {value}" for key, value in wanted.items() if found.get(key) != value
        )
        raise DataError(f"{root}: generated with other parameters ({other}); delete it or choose another folder")
    return True


def _publish(building: Path, root: Path, wanted: dict[str, Any]) -> None:
    try:
        building.rename(root)
    except OSError:
        # Another process was first: a folder with files in it cannot be renamed over.
        if not _exists(root, wanted):
            raise
