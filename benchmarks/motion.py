"""How far motion vectors alone carry masks over B-frames, at which share of key frames, and what reading them costs.

    python -m benchmarks.motion [settings=default,pinned,…] [split=train] [sequences=bear,…] [data=DIR]
                                [sampling=nearest] [cost=false]

Ground-truth masks of DAVIS 2016 (480p) are given at I- and P-frames and carried to B-frames by nothing but vectors,
over as many hops as the references take; soft means for bi-prediction, threshold 0.5, scored as DAVIS does, without
the first and last frame. `error` is the mean absolute difference to the motion-compensated prediction, in grey levels,
over the predicted pixels of P- and B-frames; `intra` the share of B-frames' pixels that nothing predicts; `keys` the
share of I- and P-frames. `cost` compares the processor time of reading to that of plain decoding.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from src.core import Picture
from src.data.davis import davis
from src.data.sequence import Sequence
from src.metrics.region import jaccard
from src.video import open_video
from src.video.coded import coded_pictures
from src.video.encode import Encoding, encode
from src.video.warp import Sampling, carried

FREE = Encoding(refs=None, b_pyramid=None, weightp=None)
SETTINGS = {
    "pinned": Encoding(),
    "default": FREE,
    "adaptive": Encoding(bframes=16, b_adapt=2, refs=None, b_pyramid=None, weightp=None),
    "fixed": Encoding(bframes=3, b_adapt=0, refs=None, b_pyramid=None, weightp=None),
    "pinned-fixed": Encoding(bframes=3, b_adapt=0),
}
DEFAULTS = {"settings": ",".join(SETTINGS), "split": "train", "sequences": "", "sampling": "nearest", "cost": "true"}
ROW = "{:<14}{:<22}{:>7}{:>7}{:>8}{:>8}{:>8}"


@dataclass(frozen=True)
class Carried:
    """Of one sequence: shares of key frames and of intra pixels, error, mean J over B-frames and all scored frames."""

    keys: float
    intra: float
    error: float
    b_frames: float
    all_frames: float


def main() -> None:
    """Print a row per setting and sequence, a mean per setting, and the cost."""
    options = {**DEFAULTS, "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS"}
    options |= dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    only = options["sequences"].split(",") if options["sequences"] else None
    sampling: Sampling = "bilinear" if options["sampling"] == "bilinear" else "nearest"
    print(ROW.format("settings", "sequence", "keys", "intra", "error", "J of B", "J"))
    with tempfile.TemporaryDirectory() as folder:
        for name in options["settings"].split(","):
            rows, path = [], Path(folder) / f"{name}.mp4"
            for sequence in davis(options["data"], 2016, options["split"], only=only):
                encode((sequence.image(index) for index in range(len(sequence))), path, SETTINGS[name])
                rows.append(measured(sequence, coded_pictures(path, size=sequence.image(0).shape[:2]), sampling))
                _print(name, sequence.name, rows[-1])
            means = np.nanmean([[r.keys, r.intra, r.error, r.b_frames, r.all_frames] for r in rows], axis=0)
            _print(name, f"mean of {len(rows)}", Carried(*means.tolist()))
            if options["cost"] == "true":
                print(cost(name, path), flush=True)


def measured(sequence: Sequence, pictures: Iterable[Picture], sampling: Sampling) -> Carried:
    """Carry the masks of a sequence over its pictures, which come in decoding order."""
    masks: dict[int, torch.Tensor] = {}
    types: list[str] = []
    errors: list[float] = []
    intra: list[float] = []
    scores: list[tuple[bool, float]] = []
    for picture in pictures:
        coded = picture.coded
        labels = sequence.labels(picture.index)
        assert coded is not None
        assert labels is not None
        truth = labels > 0
        if coded.type == "B":
            masks[picture.index] = carried(coded, masks, sampling)[0]
        else:
            masks[picture.index] = torch.from_numpy(truth[None, None].astype(np.float32))
        types.append(coded.type)
        if coded.type != "I" and coded.residual is not None and coded.references is not None:
            predicted = (coded.references >= 0).any(1, keepdim=True)
            errors.append(255 * coded.residual[predicted].abs().mean().item())
            if coded.type == "B":
                intra.append(1 - predicted.float().mean().item())
        if 0 < picture.index < len(sequence) - 1:
            scores.append((coded.type == "B", jaccard(masks[picture.index][0, 0].numpy() > 0.5, truth)))
    b_frames = [score for is_b, score in scores if is_b]
    return Carried(
        keys=1 - types.count("B") / len(types),
        intra=float(np.mean(intra)) if intra else float("nan"),
        error=float(np.mean(errors)),
        b_frames=float(np.mean(b_frames)) if b_frames else float("nan"),
        all_frames=float(np.mean([score for _, score in scores])),
    )


def cost(name: str, path: Path) -> str:
    """A line with the time of plain decoding, and of two ways of reading, as multiples of it."""
    plain, frames = _seconds(lambda: iter(open_video(path)))
    vectors, _ = _seconds(lambda: coded_pictures(path, resolution="quarter", residual=False))
    whole, _ = _seconds(lambda: coded_pictures(path))
    quarter, _ = _seconds(lambda: coded_pictures(path, resolution="quarter"))
    return (
        f"{name:<14}decoding {1e3 * plain / frames:.1f} ms a frame; with vectors at a quarter {vectors / plain:.2f} x,"
        f" with residual {quarter / plain:.2f} x, at full size {whole / plain:.2f} x"
    )


def _seconds(read: Callable[[], Iterable[Picture]]) -> tuple[float, int]:
    """The least of three processor times, which other programs disturb less, and the number of pictures."""
    times, count = [], 0
    for _ in range(3):
        started = time.process_time()
        count = sum(1 for _ in read())
        times.append(time.process_time() - started)
    return min(times), count


def _print(name: str, sequence: str, row: Carried) -> None:
    numbers = (
        f"{row.keys:.1%}",
        f"{row.intra:.1%}",
        f"{row.error:.2f}",
        f"{row.b_frames:.3f}",
        f"{row.all_frames:.3f}",
    )
    print(ROW.format(name, sequence, *numbers), flush=True)


if __name__ == "__main__":
    main()
