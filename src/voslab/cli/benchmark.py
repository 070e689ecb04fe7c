"""Measures speed and memory over resolution, objects and frames in memory: `python -m src.benchmark model=NAME`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from voslab.cli.entry import plain, run
from voslab.cli.models import load_model
from voslab.core import ConfigError, atomic_write, write_csv
from voslab.engine.device import find_device
from voslab.engine.profiling import Grid, Measurement, sweep
from voslab.reporting.run_record import write_record

WIDTH = 9
"""Least characters of a printed column."""


def main(config: DictConfig) -> None:
    """Print a row per point as it is known, and keep `benchmark.csv` and `benchmark.json` up to date with them."""
    grid = Grid(*(plain(config[name]) for name in ("sizes", "objects", "memory", "repeats", "lengths")))
    model = load_model(config)
    if config.threads is not None:
        if config.threads < 1:
            raise ConfigError(f"threads={config.threads}: must be at least 1")
        torch.set_num_threads(config.threads)
    device = find_device(config.engine.device)
    model.segmenter.to(device)
    stages = model.segmenter.stages if config.stages else ()

    output = Path(config.output)
    print(f"{model.name} on {device}, {model.settings.precision}, {torch.get_num_threads()} threads")
    rows: list[dict[str, Any]] = []
    for point in sweep(model.segmenter, grid, model.settings, stages):
        _show(point, stages, header=not rows)
        rows.append(_row(point, stages))
        write_csv(output / "benchmark.csv", rows)
        atomic_write(output / "benchmark.json", json.dumps({"model": model.name, "points": rows}, indent=2) + "\n")
    if config.record is not None:
        metrics = {"points": rows}
        record = write_record(Path(config.paths.experiments), config.record, "benchmark", metrics, config)
        print(f"record: {record}")
    print(f"results: {output / 'benchmark.csv'}")


def _row(point: Measurement, stages: Sequence[str]) -> dict[str, Any]:
    """A line of the csv; None where there is no number. Seconds and bytes."""
    return {
        "height": point.size[0],
        "width": point.size[1],
        "objects": point.objects,
        "memory_frames": point.frames,
        "video_frames": point.length,
        "seconds": point.seconds,
        "frames_per_second": 1 / point.seconds if point.seconds else None,
        **{f"{name}_seconds": point.stages.get(name) for name in stages},
        **({"rest_seconds": point.rest} if stages else {}),
        "memory_bytes": point.memory_bytes,
        "state_bytes": point.state_bytes,
        "total_bytes": point.total_bytes,
        "peak_bytes": point.peak_bytes,
        "error": point.error,
    }


def _show(point: Measurement, stages: Sequence[str], header: bool) -> None:
    """Print one row at once, with the column names above the first."""
    row = _row(point, stages)
    seconds = ["seconds", *(f"{name}_seconds" for name in stages), *(["rest_seconds"] if stages else [])]
    cells = {
        "H x W": f"{point.size[0]}x{point.size[1]}",
        "objects": str(point.objects),
        ("memory" if point.length is None else "frames"): str(point.length or point.frames or "-"),
        "frames/s": point.error or _number(row["frames_per_second"], 1, 2),
        **{f"{name.removesuffix('seconds').strip('_') or 'frame'} ms": _number(row[name], 1e3, 1) for name in seconds},
        "memory MiB": _number(point.memory_bytes, 2**-20, 2),
        "rest MiB": _number(point.state_bytes, 2**-20, 2),
        "peak MiB": _number(point.peak_bytes, 2**-20, 1),
    }
    table = Table(box=None, show_header=header, pad_edge=False)
    for name in cells:
        width = max(WIDTH, len(name), len("out of memory") if name == "frames/s" else 0)
        table.add_column(name, justify="right", width=width, no_wrap=True)
    table.add_row(*cells.values())
    # A terminal wraps lines that are too long for it; rich would cut them.
    console = Console()
    console.width = max(console.width, 16 * len(cells))
    console.print(table)


def _number(value: float | None, scale: float, digits: int) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"


if __name__ == "__main__":
    run("benchmark")
