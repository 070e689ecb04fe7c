"""Measures how long `src.segment` takes to start.

    python -m benchmarks.startup [rounds=3] [size=480x854]

Prints the seconds of `--help`, of a misspelled option and of `import voslab`, next to an interpreter that imports
PyTorch; then the seconds from the start to the first mask and to the end of a video of three frames, with the default
weights.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, options, start
from voslab.video import VideoWriter, write_mask

DEFAULTS = {"rounds": "3", "size": "480x854"}
STARTS = {
    "import voslab": ("-c", "import src, voslab"),
    "src.segment --help": ("-m", "src.segment", "--help"),
    "src.segment vidoe=clip.mp4": ("-m", "src.segment", "vidoe=clip.mp4"),
}


def main() -> None:
    """Print the rows."""
    given = options(DEFAULTS)
    rounds = int(given["rounds"])
    height, width = (int(side) for side in given["size"].split("x"))
    torch = min(_seconds("-c", "import torch") for _ in range(rounds))
    for name, arguments in STARTS.items():
        seconds = min(_seconds(*arguments) for _ in range(rounds))
        Goal(f"{name}, seconds", seconds, 1, "most", f"an interpreter that imports torch: {torch:.2f} s").show()
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
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
    start(main)
