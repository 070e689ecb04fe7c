"""Locates the files that travel with the package: `conf/` and the default weights."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """A file or folder that an installed package carries inside, and a checkout has at its top level.

    Args:
        name: path relative to the checkout, as `conf` or `weights/gpu_stcn.safetensors`.

    Returns:
        its absolute path.

    Example:
        >>> from voslab.core.resources import resource
        >>> resource("conf").is_dir()
        True
    """
    packaged = _PACKAGE / "_resources"
    return (packaged if packaged.is_dir() else _PACKAGE.parents[1]) / name
