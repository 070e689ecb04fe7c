"""Errors of the project. Each message is one line with the file, frame or object and the reason."""

from __future__ import annotations

from pathlib import Path


class VOSError(Exception):
    """Bad input or a failed write. The command line prints the message alone and exits with code 2."""


class DataError(VOSError):
    """A data set, image or mask is missing, damaged or not what its format promises."""


class MissingDataSetError(DataError):
    """No part of a data set is in its folder.

    Args:
        message: One line with the missing path and the reason.
        root: Folder of the data set.
    """

    def __init__(self, message: str, root: Path | None = None) -> None:
        super().__init__(message)
        self.root = root


class VideoError(VOSError):
    """A video cannot be read or written."""


class WriteError(VOSError):
    """An output could not be written (full disk, read-only folder)."""


class CheckpointError(VOSError):
    """A weights file is damaged, hostile, or belongs to another method."""


class ConfigError(VOSError):
    """A configuration value is missing, contradictory or not allowed."""


class ExportError(VOSError):
    """A network's graphs cannot be written for other runtimes, or do not compute there what they should."""
