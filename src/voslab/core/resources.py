"""Locates the files that travel with the package: `conf/` and the default weights."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """Return the path of a file or folder that is inside an installed package, or at the top level of a checkout.

    Args:
        name: path relative to the checkout, such as `conf` or `weights/lite_stcn.safetensors`.

    Returns:
        its absolute path.

    Example:
        >>> from voslab.core.resources import resource
        >>> resource("conf").is_dir()
        True
    """
    packaged = _PACKAGE / "_resources"
    return (packaged if packaged.is_dir() else _PACKAGE.parents[1]) / name
