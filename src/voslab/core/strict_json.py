"""Reads JSON strictly: rejects NaN, infinity and duplicate names, which Python's reader accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: The file, in UTF-8.

    Returns:
        Its content as dicts, lists and values.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the content is invalid, has NaN or infinity, a duplicate name, or is nested too deeply.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON document.

    Args:
        text: The document, in UTF-8.

    Raises:
        ValueError: See `read_json`.

    Example:
        >>> parse_json('{"width": 8}')
        {'width': 8}
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name '{duplicate[:80]}' occurs twice in one object")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")
