"""Resolves the device of a configuration."""

from __future__ import annotations

import torch

from voslab.core import ConfigError


def find_device(name: str) -> torch.device:
    """Return the device of `engine.device`.

    Args:
        name: device name of torch, or `auto` for the accelerator if there is one, else the CPU.

    Raises:
        ConfigError: if torch does not know the device or the machine does not have it.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # The exception for a missing backend depends on the backend.
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, TypeError) as error:
        raise ConfigError(f"engine.device={name}: no such device on this machine") from error
    return device
