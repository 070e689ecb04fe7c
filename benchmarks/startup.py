"""How long a program of this checkout takes to begin.

    python -m benchmarks.startup [rounds=3] [size=480x854]

`python -m src.segment --help` in seconds, and beside it an interpreter that imports PyTorch and ends; then how long
`src.segment` takes, with the default weights on a video of three frames, until the first mask is there and to its end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, options
from voslab.video import VideoWriter, write_mask

DEFAULTS = {"rounds": "3", "size": "480x854"}


def main() -> None:
    """Print the rows."""
    given = options(DEFAULTS)
    rounds = int(given["rounds"])
    height, width = (int(side) for side in given["size"].split("x"))
    usage = min(_seconds("-m", "src.segment", "--help") for _ in range(rounds))
    torch = min(_seconds("-c", "import torch") for _ in range(rounds))
    note = f"{usage:.2f} s, an interpreter that imports torch {torch:.2f} s"
    Goal("src.segment --help, seconds", usage, 2, "most", note).show()
    with tempfile.TemporaryDirectory() as folder:
        video, mask = Path(folder) / "video.mp4", Path(folder) / "mask.png"
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        with VideoWriter(video, 25, (height, width)) as writer:
            for _ in range(3):
                writer.write(image)
        ids = np.zeros((height, width), np.uint8)
        ids[: height // 3, : width // 3] = 1
        write_mask(mask, ids)
        first, end = _first_mask(video, mask, Path(folder) / "out")
    print(f"src.segment: first mask after {first:.2f} s, three frames after {end:.2f} s")


def _seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _first_mask(video: Path, mask: Path, output: Path) -> tuple[float, float]:
    """Seconds until the first mask is there, and to the end."""
    command = [sys.executable, "-m", "src.segment", f"video={video}", f"mask={mask}", f"output={output}"]
    begun, first = time.perf_counter(), 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        while program.poll() is None:
            if not first and (output / "masks" / "00000.png").is_file():
                first = time.perf_counter() - begun
            time.sleep(0.01)
    if program.returncode:
        sys.exit(f"error: src.segment ended with {program.returncode}")
    return first, time.perf_counter() - begun


if __name__ == "__main__":
    main()
