"""Includes the README files of the methods in the site, and renders the `Example:` sections of docstrings as code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from griffe import Extension, Object

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces a line `include: PATH` by that file, whose relative links become plain text."""
    return re.sub(r"^include: (\S+)$", lambda found: _without_links(ROOT / found[1]), markdown, flags=re.MULTILINE)


def _without_links(path: Path) -> str:
    return re.sub(r"\[([^\]]+)\]\((?!http)[^)]*\)", r"\1", path.read_text(encoding="utf-8"))


class Examples(Extension):
    """Renames `Example:` to `Examples:`, the section that griffe knows."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
