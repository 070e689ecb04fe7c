"""Describes the circumstances of a run: commit, hardware, versions and data."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voslab.core.resources import resource

if TYPE_CHECKING:
    from voslab.data import VideoSequence


def commit() -> str:
    """Return the checkout's commit, followed by `+` if code or configurations differ; `unknown` outside a checkout."""
    root = resource("")
    if not (root / ".git").exists():
        return "unknown"
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "src", "conf", "benchmarks"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty.strip() else "")


def hardware() -> dict[str, Any]:
    """Return the CPU, its cores, the threads that torch uses, and the GPUs."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}


def versions() -> dict[str, str]:
    """Return the versions of Python and torch."""
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}


def data_summary(videos: Sequence[VideoSequence]) -> dict[str, Any]:
    """Return the number of sequences and frames, and their fingerprint."""
    return {"sequences": len(videos), "frames": sum(len(v) for v in videos), "fingerprint": fingerprint(videos)}


def fingerprint(videos: Sequence[VideoSequence]) -> str:
    """Return a short hash of the scored data: names and sizes of files, size and objects of RLE masks.

    Args:
        videos: the scored sequences.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for video in videos:
        for part in (*video.images, *video.masks):
            if isinstance(part, Path):
                entry = f"{video.name}/{part.name}:{part.stat().st_size}"
            else:
                entry = "-" if part is None else f"{video.name}/{part.size}:{part.objects}"
            digest.update(entry.encode() + b"\n")
    return digest.hexdigest()[:16]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
