"""What a program sets once for its computations on the CPU."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of malloc.h


def prepare_processor() -> None:
    """Keep freed memory for the next tensor, and take numbers below 1e-38 for zero.

    A frame makes and frees some hundred tensors of up to 100 MB. glibc gives such blocks back to the system, which
    hands them out again as fresh, zeroed pages: 5 to 10 % of the time. The process now holds on to the most that it
    ever needed at a time; without glibc nothing changes.

    The softmax of a memory read is full of numbers that single precision can only just tell from zero, and processors
    multiply those ten times as slowly. Threads that torch starts later do as this one.
    """
    torch.set_flush_denormal(True)
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 2**26)
