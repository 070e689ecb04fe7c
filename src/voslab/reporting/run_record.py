"""Runs on record: a JSON file each in `experiments/<study>/records/`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from voslab.core import ConfigError, atomic_write

if TYPE_CHECKING:  # every program reads this file, few read data sets
    from voslab.data import Sequence as Video

PLACES = ("output=", "paths.", "hydra.run.dir=")
"""Arguments that say where things lie on one machine; a record leaves them out."""


def finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as JSON can say them: what is infinite or no number is None."""
    absent = {key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)}
    return {key: None if key in absent else value for key, value in metrics.items()}


def write_record(
    root: Path,
    study: str,
    kind: str,
    metrics: Mapping[str, Any],
    config: DictConfig,
    videos: Sequence[Video] = (),
    rows: Sequence[Mapping[str, Any]] | None = None,
    masks: str | None = None,
) -> Path:
    """Append a run to `root/<study>/records/`; one file a run, so that nothing already written can be lost.

    Its `data` is null where nothing was looked at but generated pictures, and so is `per_sequence` without `rows`.
    `kind` is the program, `NAME` of `src.NAME` or the whole name of another module; `masks` the hash of what it wrote.

    Raises:
        ConfigError: for a study name that is no plain folder name.
    """
    check_study(study)
    now = datetime.now(UTC)
    program = kind if "." in kind else f"src.{kind}"
    content = {
        "time": now.isoformat(timespec="seconds"),
        "kind": kind,
        "command": ["python", "-m", program, *(part for part in sys.argv[1:] if not part.startswith(PLACES))],
        "commit": _commit(),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "data": _seen(videos) if videos else None,
        "metrics": finite(metrics),
        "per_sequence": None if rows is None else [finite(row) for row in rows],
        **({} if masks is None else {"masks": masks}),
        "config": _without_places(config),
    }
    text = json.dumps(content, indent=2) + "\n"
    name = f"{now:%Y%m%dT%H%M%S}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    path = root / str(study) / "records" / name
    atomic_write(path, text)
    return path


def check_study(study: Any) -> None:
    """Raise `ConfigError` for a study name that is no plain folder name."""
    if study in ("", ".", "..") or Path(str(study)).name != str(study):
        raise ConfigError(f"record={study}: a study is a plain folder name")


def _without_places(config: DictConfig) -> Any:
    """As composed, what interpolates left as it is, without the paths of this machine."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in content.items() if key not in ("output", "paths")}


def _seen(videos: Sequence[Video]) -> dict[str, Any]:
    return {"sequences": len(videos), "frames": sum(len(v) for v in videos), "fingerprint": fingerprint(videos)}


def fingerprint(videos: Sequence[Video]) -> str:
    """A short hash of what was scored: names and file sizes of every frame and mask, and runs as they are."""
    digest = hashlib.sha256()
    for video in videos:
        for part in (*video.images, *video.masks):
            if isinstance(part, Path):
                entry = f"{video.name}/{part.name}:{part.stat().st_size}"
            else:
                entry = "-" if part is None else f"{video.name}/{part.size}:{part.objects}"
            digest.update(entry.encode() + b"\n")
    return digest.hexdigest()[:16]


def _commit() -> str:
    """The checkout's commit, `+` behind it when code or configurations differ; `unknown` outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "src", "conf", "benchmarks"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if dirty.strip() else "")


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
