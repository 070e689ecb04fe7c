"""The device that a configuration names."""

from __future__ import annotations

import torch

from voslab.core import ConfigError


def find_device(name: str) -> torch.device:
    """The device of `engine.device`; `auto` is the accelerator where there is one, else the CPU.

    Raises:
        ConfigError: for a device that torch does not know or this machine does not have.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # Builds of torch without a backend fail in as many ways as there are backends.
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, TypeError) as error:
        raise ConfigError(f"engine.device={name}: no such device on this machine") from error
    return device
