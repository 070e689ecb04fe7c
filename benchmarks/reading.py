"""Measures the cost of reading a video with its codec data, relative to plain decoding of the same file.

    python -m benchmarks.reading [settings=pinned,default] [sequence=bear] [data=DIR]

Processor time, one thread: vectors, references found and dense fields at a quarter of the size; the same with the
residual; and, where it is installed, PyPI's `motion-vector-extractor`, which gives sparse vectors and nothing else.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.goals import Goal, options, start
from voslab.data.sources.davis import davis
from voslab.video import open_video
from voslab.video.codec_reader import codec_frames
from voslab.video.encode import Encoding, encode_to_cache

SETTINGS = {"pinned": Encoding(), "default": Encoding(refs=None, b_pyramid=None, weightp=None)}
DEFAULTS = {
    "settings": "pinned,default",
    "sequence": "bear",
    "threads": "1",
    "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS",
}


def main() -> None:
    """Print the rows of each setting."""
    given = options(DEFAULTS)
    [video] = davis(given["data"], 2016, "train", only=[given["sequence"]])
    print(f"{len(video)} frames of {video.name}, {torch.get_num_threads()} thread(s), processor time")
    with tempfile.TemporaryDirectory() as cache:
        for name in given["settings"].split(","):
            rows(name, encode_to_cache(video.images, Path(cache), SETTINGS[name]))


def rows(name: str, path: Path) -> None:
    """Rows of one file."""
    plain, frames = _seconds(lambda: iter(open_video(path)))
    note = f"plain decoding {1e3 * plain / frames:.1f} ms a frame"
    vectors, _ = _seconds(lambda: codec_frames(path, resolution="quarter", residual=False))
    Goal(f"{name}: vectors, dense quarter fields", vectors / plain, 2.5, "most", note).show()
    whole, _ = _seconds(lambda: codec_frames(path, resolution="quarter"))
    Goal(f"{name}: the same with residual", whole / plain, 6, "most", note).show()
    if find_spec("mvextractor") is None:
        print(f"{name}: motion-vector-extractor is not installed")
        return
    sparse, _ = _seconds(lambda: _sparse(path))
    print(f"{name}: motion-vector-extractor, sparse vectors: {sparse / plain:.2f} of plain decoding")


def _sparse(path: Path) -> Iterable[Any]:
    from mvextractor.videocap import VideoCap

    capture = VideoCap()
    capture.open(str(path))
    while (read := capture.read())[0]:
        yield read


def _seconds(read: Callable[[], Iterable[Any]]) -> tuple[float, int]:
    """The least of three processor times, which other programs disturb less, and the number of frames."""
    times, count = [], 0
    for _ in range(3):
        begun = time.process_time()
        count = sum(1 for _ in read())
        times.append(time.process_time() - begun)
    return min(times), count


if __name__ == "__main__":
    start(main)
