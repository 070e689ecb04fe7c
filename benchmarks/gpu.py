"""Frames/s and memory of the methods on a GPU, over resolution, objects and precision, in under ten minutes.

    python -m benchmarks.gpu [methods=stm,stcn,gam,crvos,xmem,default] [sizes=480x854,1080x1920,1440x2560]
                             [objects=1,3,5] [modes=fp32,bf16,compiled] [memory=20] [minutes=9] [device=cuda]

The networks as published with random weights, `default` with its own. A row is the network alone: steps with so many
frames in the memory, where there is one, measured again until the middle half of at least five measurements lies
within 5 % of their median. `compiled` is bf16 with every submodule under `torch.compile`. The last column is the whole
program, bf16 without compilation: an H.264 file of the size is decoded, segmented at its own size, and the masks come
back to the CPU. What does not fit into `minutes` is listed as not measured. One JSON line per row follows the table.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn

from benchmarks.goals import options, start
from voslab.core import generator
from voslab.engine import Settings, run
from voslab.engine.device import is_out_of_memory
from voslab.engine.profiling import Measurement, measure
from voslab.methods import registry
from voslab.methods.builder import from_checkpoint
from voslab.nn.inference import for_inference
from voslab.video import open_video

DEFAULTS = {
    "methods": "stm,stcn,gam,crvos,xmem,default",
    "sizes": "480x854,1080x1920,1440x2560",
    "objects": "1,3,5",
    "modes": "fp32,bf16,compiled",
    "memory": "20",
    "minutes": "9",
    "device": "cuda",
    "steps": "10",
    "threads": "",
}
DEFAULT_WEIGHTS = Path("weights/lite_stcn.safetensors")
CLOSE, LEAST, MOST = 0.05, 5, 12
"""Half the spread of the middle half of the measurements, their least and their largest number."""
FRAMES = 24
ROW = "{:<10}{:>12}{:>9}{:>10}{:>11}{:>8}{:>12}{:>14}"


@dataclass(frozen=True, slots=True)
class Row:
    """One point; None where something was not measured.

    Attributes:
        method: the method, or `default`.
        size: H x W.
        objects: number of objects.
        mode: fp32, bf16 or compiled.
        frames_per_second: of the network alone.
        spread: half the middle half of the measurements over their median.
        peak_mib: most memory allocated on the device.
        whole: frames per second of the whole program.
        error: why numbers are missing.
    """

    method: str
    size: str
    objects: int
    mode: str
    frames_per_second: float | None = None
    spread: float | None = None
    peak_mib: float | None = None
    whole: float | None = None
    error: str | None = None


def main() -> None:
    """Print the table, then one JSON line per row."""
    given = options(DEFAULTS)
    end = time.monotonic() + 60 * float(given["minutes"])
    device = torch.device(given["device"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {given['memory']} frames in the memory")
    print(ROW.format("method", "size", "objects", "mode", "frames/s", "+-", "peak MiB", "whole program"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clips = {size: clip(Path(folder), *_sides(size)) for size in given["sizes"].split(",")}
        # Modes last, so that a budget that runs out leaves complete tables of the first ones.
        for mode, method in product(given["modes"].split(","), given["methods"].split(",")):
            network = built(method, mode, device)
            for size, objects in product(clips, map(int, given["objects"].split(","))):
                row = point(network, Row(method, size, objects, mode), given, clips[size], end)
                rows.append(row)
                print(ROW.format(*map(_text, list(asdict(row).values())[:8])), row.error or "", flush=True)
            del network
            if device.type == "cuda":
                torch.cuda.empty_cache()
    for row in rows:
        print(json.dumps(asdict(row)))


def built(method: str, mode: str, device: torch.device) -> Any:
    """Return a network in evaluation mode on the device, compiled if the mode says so."""
    network: Any = from_checkpoint(DEFAULT_WEIGHTS).segmenter if method == "default" else registry.build(method, {})
    network.to(device)
    for_inference(network)
    if mode == "compiled":
        for part in network.children():
            assert isinstance(part, nn.Module)
            part.compile()
    return network


def point(network: Any, row: Row, given: dict[str, str], file: Path, end: float) -> Row:
    """Measure one row, unless the time is over."""
    if time.monotonic() > end:
        return _filled(row, error="not measured: the time was over")
    settings = Settings(size=None, precision="fp32" if row.mode == "fp32" else "bf16")
    place = Measurement(_sides(row.size), row.objects, int(given["memory"]))
    again = partial(measure, network, place, int(given["steps"]), settings)
    try:
        if row.mode == "compiled":
            again()  # compiles
        found = [again() for _ in range(LEAST)]
        while (spread := _spread(found)) > CLOSE and len(found) < MOST and time.monotonic() < end:
            found.append(again())
        whole = whole_program(network, file, row.objects, settings) if row.mode == "bf16" else None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return _filled(row, error="out of memory")
    seconds = float(np.median([one.seconds or np.nan for one in found]))
    peak = found[-1].peak_bytes
    return _filled(
        row,
        frames_per_second=1 / seconds,
        spread=spread,
        peak_mib=None if peak is None else peak / 2**20,
        whole=whole,
    )


def whole_program(network: Any, file: Path, objects: int, settings: Settings) -> float:
    """Frames per second from the file to masks on the CPU, without the first frames, on which kernels are chosen."""
    video = open_video(file)
    height, width = next(iter(video)).image.shape[:2]
    mask = np.repeat((np.arange(width) * (objects + 1) // width)[None], height, 0)
    warm, started, count = 4, 0.0, 0
    for count, _ in enumerate(run(network, video, {0: mask}, settings), 1):
        if count == warm:
            started = time.perf_counter()
    return (count - warm) / (time.perf_counter() - started)


def clip(folder: Path, height: int, width: int) -> Path:
    """Write a video of moving noise and return its path."""
    path = folder / f"{height}.mp4"
    noise = generator("gpu", height).integers(0, 256, (height // 8 + FRAMES, width // 8, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
        for image in _frames(noise, stream.height, stream.width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _frames(noise: np.ndarray[Any, np.dtype[np.uint8]], height: int, width: int) -> Iterator[Any]:
    for index in range(FRAMES):
        rows = noise[index : index + height // 8]
        yield np.ascontiguousarray(rows.repeat(8, 0).repeat(9, 1)[:height, :width])


def _filled(row: Row, **values: Any) -> Row:
    return Row(**{**asdict(row), **values})


def _spread(found: list[Measurement]) -> float:
    low, middle, high = np.percentile([one.seconds or np.nan for one in found], [25, 50, 75])
    return float((high - low) / 2 / middle)


def _sides(size: str) -> tuple[int, int]:
    height, width = size.split("x")
    return int(height), int(width)


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    start(main)
