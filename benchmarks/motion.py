"""How far motion vectors alone carry masks over B-frames, at which share of key frames, and what reading them costs.

    python -m benchmarks.motion [settings=default,pinned,…] [warps=bilinear,…] [split=train] [sequences=bear,…]
                                [data=DIR] [cache=DIR] [results=FILE] [cost=false]

Ground-truth masks of DAVIS 2016 (480p) are given at I- and P-frames and carried to B-frames by nothing but vectors,
over as many hops as the references take; means for bi-prediction, threshold 0.5, scored as DAVIS does, without the
first and last frame. `error` is the mean absolute difference to the motion-compensated prediction, in grey levels, over
the predicted pixels of P- and B-frames; `intra` the share of B-frames' pixels that nothing predicts; `keys` the share
of I- and P-frames. `cost` compares the processor time of reading to that of plain decoding.

With `results`, each sequence is kept there as a line of JSON once it is known, and not measured again.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import tee
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from src.core import Picture
from src.data.davis import davis
from src.data.sequence import Sequence
from src.metrics.region import jaccard
from src.video import open_video
from src.video.coded import coded_pictures
from src.video.encode import Encoding, encoded
from src.video.fill import Fill, with_fill
from src.video.warp import Sampling, carried

FREE = Encoding(refs=None, b_pyramid=None, weightp=None)
SETTINGS = {
    "pinned": Encoding(),
    "default": FREE,
    "adaptive": replace(FREE, bframes=16, b_adapt=2),
    "fixed": replace(FREE, bframes=3, b_adapt=0),
    "pinned-fixed": Encoding(bframes=3, b_adapt=0),
    "pinned-2": Encoding(bframes=2, b_adapt=0),
    "fixed-2": replace(FREE, bframes=2, b_adapt=0),
    "slow": replace(FREE, preset="slow"),
    "slow-fixed-2": replace(FREE, preset="slow", bframes=2, b_adapt=0),
    "wide-fixed-2": replace(FREE, bframes=2, b_adapt=0, more="me=umh:merange=32:subme=9"),
    "fine-fixed-2": replace(FREE, bframes=2, b_adapt=0, crf=18.0),
    "coarse-fixed-2": replace(FREE, bframes=2, b_adapt=0, crf=28.0),
}


@dataclass(frozen=True)
class Warp:
    """How masks are carried: `hard` ones are thresholded after every hop; `quarter` ones lie on a grid of 4 pixels."""

    sampling: Sampling = "nearest"
    fill: Fill = "none"
    hard: bool = False
    quarter: bool = False


WARPS = {
    "nearest": Warp(),
    "bilinear": Warp("bilinear"),
    "hard": Warp("bilinear", hard=True),
    "filled": Warp("bilinear", "nearest"),
    "flow-filled": Warp("bilinear", "flow"),
    "quarter": Warp(quarter=True),
    "quarter-filled": Warp("bilinear", "nearest", quarter=True),
    "quarter-matched": Warp("bilinear", "matched", quarter=True),
}
DEFAULTS = {
    "settings": "pinned,default,adaptive,fixed,pinned-fixed",
    "warps": "nearest",
    "split": "train",
    "sequences": "",
    "results": "",
    "cost": "true",
}
ROW = "{:<16}{:<16}{:<20}{:>7}{:>7}{:>8}{:>8}{:>8}"


@dataclass(frozen=True)
class Carried:
    """Of one sequence: shares of key frames and of intra pixels, error, mean J over B-frames and all scored frames."""

    keys: float
    intra: float
    error: float
    b_frames: float
    all_frames: float


def main() -> None:
    """Print a row per setting, warp and sequence, a mean per setting and warp, and the cost."""
    options = {**DEFAULTS, "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS"}
    options |= dict(argument.split("=", 1) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    only = options["sequences"].split(",") if options["sequences"] else None
    sequences = davis(options["data"], 2016, options["split"], only=only)
    warps = {name: WARPS[name] for name in options["warps"].split(",")}
    print(ROW.format("settings", "warp", "sequence", "keys", "intra", "error", "J of B", "J"))
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(options.get("cache", folder))
        for name in options["settings"].split(","):
            rows: dict[str, list[Carried]] = {warp: [] for warp in warps}
            for sequence in sequences:
                found = _measured(name, sequence, warps, cache, options["results"])
                for warp, row in found.items():
                    rows[warp].append(row)
                    _print(name, warp, sequence.name, row)
            for warp, parts in rows.items():
                means = np.nanmean([list(asdict(row).values()) for row in parts], axis=0)
                _print(name, warp, f"mean of {len(parts)}", Carried(*means.tolist()))
            if options["cost"] == "true":
                print(cost(name, encoded(sequences[-1].images, cache, SETTINGS[name])), flush=True)


def _measured(name: str, sequence: Sequence, warps: dict[str, Warp], cache: Path, results: str) -> dict[str, Carried]:
    """From the file of results as far as it has them."""
    path, key = Path(results), [name, sequence.name]
    lines = [json.loads(line) for line in path.read_text().splitlines()] if results and path.is_file() else []
    known = {line["warp"]: Carried(**line["row"]) for line in lines if [line["settings"], line["sequence"]] == key}
    missing = {warp: how for warp, how in warps.items() if warp not in known}
    if missing:
        video = encoded(sequence.images, cache, SETTINGS[name])
        for warp, row in measured(sequence, video, missing).items():
            known[warp] = row
            if results:
                content = {"settings": name, "warp": warp, "sequence": sequence.name, "row": asdict(row)}
                with path.open("a") as file:
                    file.write(json.dumps(content) + "\n")
    return {warp: known[warp] for warp in warps}


def measured(sequence: Sequence, video: Path, warps: dict[str, Warp]) -> dict[str, Carried]:
    """Carry the masks of a sequence over the pictures of a video file of it."""
    size = sequence.image(0).shape[:2]
    found: dict[str, Carried] = {}
    for quarter in sorted({warp.quarter for warp in warps.values()}):
        pictures = coded_pictures(video, resolution="quarter" if quarter else "full", size=(size[0], size[1]))
        mine = {name: warp for name, warp in warps.items() if warp.quarter == quarter}
        fills = sorted({warp.fill for warp in mine.values()})
        streams = dict(zip(fills, tee(pictures, len(fills)), strict=True))
        tracks = {name: Track(sequence, warp) for name, warp in mine.items()}
        for group in zip(*(with_fill(streams[fill], fill) for fill in fills), strict=True):
            for track in tracks.values():
                track.put(group[fills.index(track.warp.fill)])
        found |= {name: track.result() for name, track in tracks.items()}
    return found


class Track:
    """The masks of a sequence on their way from picture to picture, which come in decoding order."""

    def __init__(self, sequence: Sequence, warp: Warp) -> None:
        self.warp = warp
        self._sequence = sequence
        self._masks: dict[int, Tensor] = {}
        self._types: list[str] = []
        self._errors: list[float] = []
        self._intra: list[float] = []
        self._scores: list[tuple[bool, float]] = []

    def put(self, picture: Picture) -> None:
        """Carry to, or give on, the next picture."""
        coded, labels = picture.coded, self._sequence.labels(picture.index)
        assert coded is not None
        assert labels is not None
        truth = torch.from_numpy(labels > 0)[None, None]
        if coded.type == "B":
            mask, _ = carried(coded, self._masks, self.warp.sampling, 4 if self.warp.quarter else 1)
            mask = (mask > 0.5).float() if self.warp.hard else mask
        else:
            mask = truth.float()
            if self.warp.quarter:
                mask = F.avg_pool2d(F.pad(mask, (0, -mask.shape[-1] % 4, 0, -mask.shape[-2] % 4)), 4)
        self._masks = dict([*self._masks.items(), (picture.index, mask)][-40:])
        self._types.append(coded.type)
        if coded.type != "I" and coded.residual is not None and coded.references is not None:
            predicted = (coded.references >= 0).any(1, keepdim=True)
            self._errors.append(255 * coded.residual[predicted].abs().mean().item())
            if coded.type == "B":
                self._intra.append(1 - predicted.float().mean().item())
        if 0 < picture.index < len(self._sequence) - 1:
            if self.warp.quarter:
                wide = F.interpolate(mask, scale_factor=4, mode="bilinear")
                mask = wide[..., : labels.shape[0], : labels.shape[1]] if coded.type == "B" else truth.float()
            score = jaccard(mask[0, 0].numpy() > 0.5, truth[0, 0].numpy())
            self._scores.append((coded.type == "B", score))

    def result(self) -> Carried:
        """All in one row."""
        b_frames = [score for is_b, score in self._scores if is_b]
        return Carried(
            keys=1 - self._types.count("B") / len(self._types),
            intra=float(np.mean(self._intra)) if self._intra else float("nan"),
            error=float(np.mean(self._errors)),
            b_frames=float(np.mean(b_frames)) if b_frames else float("nan"),
            all_frames=float(np.mean([score for _, score in self._scores])),
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


def _print(name: str, warp: str, sequence: str, row: Carried) -> None:
    numbers = (
        f"{row.keys:.1%}",
        f"{row.intra:.1%}",
        f"{row.error:.2f}",
        f"{row.b_frames:.3f}",
        f"{row.all_frames:.3f}",
    )
    print(ROW.format(name, warp, sequence, *numbers), flush=True)


if __name__ == "__main__":
    main()
