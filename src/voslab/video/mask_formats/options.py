"""Options of reading given masks, and warnings that are logged once per kind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from voslab.core import ConfigError

Warn = Callable[[str, str], None]
"""Receives the kind of a warning and its message."""

_MAX_ID = 65535
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskOptions:
    """How given masks are understood.

    Attributes:
        colors: `auto` reads the colours of the DAVIS palette as its ids, and white on black as one object. `any` takes
            every distinct colour for an object.
        void: Id of pixels that belong to no object, such as the borders of 255 in Pascal VOC; None if there is none.
        resize: Whether a mask of another size than the video is scaled to it.
        literal: Whether ids are taken as they are, without a search for anti-aliased or dithered edges. For annotations
            of data sets and for predictions, which may be noisy.

    Raises:
        ConfigError: If a value is not allowed.
    """

    colors: Literal["auto", "any"] = "auto"
    void: int | None = None
    resize: bool = False
    literal: bool = False

    def __post_init__(self) -> None:
        if self.colors not in ("auto", "any"):
            raise ConfigError(f"mask_colors={self.colors}: must be auto or any")
        if self.void is not None and not _is_id(self.void):
            raise ConfigError(f"mask_void={self.void}: must be null or an id from 1 to {_MAX_ID}")
        if not isinstance(self.resize, bool):
            raise ConfigError(f"mask_resize={self.resize}: must be true or false")


LITERAL = MaskOptions(literal=True)


class WarnOnce:
    """Logs one warning of each kind, so that a folder of a hundred soft masks gives one line."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def __call__(self, kind: str, message: str) -> None:
        """Log the warning, unless there was one of this kind."""
        if kind not in self._kinds:
            self._kinds.add(kind)
            _log.warning("%s", message)


def log_warning(kind: str, message: str) -> None:
    """Log a warning.

    Args:
        kind: Ignored; see `WarnOnce`.
        message: One line.
    """
    _log.warning("%s", message)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_ID
