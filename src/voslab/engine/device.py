"""Resolves the device of a configuration, measures time on it, and knows the errors for too little memory."""

from __future__ import annotations

import time
from typing import Any

import torch

from voslab.core import ConfigError, Segmenter


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


def device_of(segmenter: Segmenter[Any]) -> torch.device:
    """Return the device of a segmenter's parameters; the CPU if it has none."""
    first = next(segmenter.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def now(device: torch.device) -> float:
    """Synchronise the device and return the time of a monotonic clock in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be allocated; torch raises a plain `RuntimeError` on the CPU."""
    phrases = ("not enough memory", "can't allocate memory", "bad_alloc", "ALLOC_FAILED", "out of memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(phrase in str(error) for phrase in phrases)
