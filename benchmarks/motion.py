"""Measures masks propagated by motion vectors alone, the share of key frames, and the cost of reading vectors.

    python -m benchmarks.motion [settings=default,pinned,…] [warps=bilinear,…] [split=train] [sequences=bear,…]
                                [every=1] [exported=false] [cost=true] [record=STUDY]
                                [paths.data=DIR] [paths.cache=DIR] [paths.experiments=DIR]

Ground-truth masks of DAVIS 2016 (480p) are given at I- and P-frames and propagated to B-frames by vectors alone,
over as many hops as the references take; means for bi-prediction, threshold 0.5, scored as DAVIS does, without the
first and last frame. `error` is the mean absolute difference to the motion-compensated prediction, in grey levels, over
the predicted pixels of P- and B-frames; `plain` the same with bilinear interpolation and plain means, in grey of the
full range; `intra` the share of B-frames' pixels that nothing predicts; `keys` the share of I- and P-frames. All
numbers are means over sequences; `every=N` takes every Nth sequence of the split. `exported` takes all that libavcodec
exports for vectors, also the zeros of lists that a part of a macroblock leaves unused.

With `record`, each setting and warp becomes a record of that study. `cost` is `benchmarks.reading` of the last one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from omegaconf import OmegaConf

from benchmarks.goals import parsed, start
from benchmarks.precompute import Scores, Stream, Warp, measured
from benchmarks.reading import rows as cost
from voslab.core import ConfigError
from voslab.core.parameters import nearest
from voslab.data.sources.davis import davis
from voslab.data.video_sequence import VideoSequence
from voslab.reporting.run_record import write_record
from voslab.video.encode import Encoding, encode_to_cache

T = TypeVar("T")
FREE = Encoding(refs=None, b_pyramid=None, weightp=None)
TWO = replace(FREE, bframes=2, b_adapt=0)
SETTINGS = {
    "pinned": Encoding(),
    "default": FREE,
    "adaptive": replace(FREE, bframes=16, b_adapt=2),
    **{f"pinned-{n}": Encoding(bframes=n, b_adapt=0) for n in (1, 2, 3, 4)},
    **{f"fixed-{n}": replace(FREE, bframes=n, b_adapt=0) for n in (1, 2, 3, 4)},
    # What else x264 could do about vectors, at two B-frames in a row.
    "slow-2": replace(TWO, preset="slow"),
    "wide-2": replace(TWO, more="me=umh:merange=32:subme=9"),
    "fine-2": replace(TWO, crf=18.0),
    "coarse-2": replace(TWO, crf=28.0),
    "plain-2": replace(TWO, more="psy=0:aq-mode=0"),
    "large-2": replace(TWO, more="partitions=none"),
    "temporal-2": replace(TWO, direct="temporal"),
    # More B-frames where they cost little, at about the same share of key frames.
    "bias": replace(FREE, bframes=3, b_adapt=2, more="b-bias=50"),
    "pinned-bias": Encoding(bframes=3, b_adapt=2, more="b-bias=50"),
}
WARPS = {
    "nearest": Warp(),
    "bilinear": Warp("bilinear"),
    "still": Warp("bilinear", still="nearest"),
    "before": Warp("bilinear", still="before"),
    "hard": Warp("bilinear", hard=True),
    "filled": Warp("bilinear", "nearest"),
    "flow-filled": Warp("bilinear", "flow"),
    "matched": Warp("bilinear", "matched"),
    "quarter": Warp(quarter=True),
    "quarter-bilinear": Warp("bilinear", quarter=True),
    "quarter-hard": Warp("bilinear", hard=True, quarter=True),
    "quarter-filled": Warp("bilinear", "nearest", quarter=True),
    "quarter-flow-filled": Warp("bilinear", "flow", quarter=True),
    "quarter-matched": Warp("bilinear", "matched", quarter=True),
}
DEFAULTS = {
    "settings": "pinned",
    "warps": "nearest",
    "split": "train",
    "sequences": "",
    "every": "1",
    "exported": "false",
    "cost": "true",
    "record": "",
    "paths.cache": "",
    "paths.experiments": "experiments",
}
ROW = "{:<14}{:<20}{:<20}{:>7}{:>7}{:>8}{:>8}{:>8}{:>8}"


def main() -> None:
    """Print a row per setting, warp and sequence, a mean per setting and warp, and the cost."""
    torch.set_num_threads(1)
    options = _options(sys.argv[1:])
    settings, warps = _picked(options["settings"], SETTINGS), _picked(options["warps"], WARPS)
    only = options["sequences"].split(",") if options["sequences"] else None
    sequences = davis(options["paths.data"], 2016, options["split"], only=only)[:: int(options["every"])]
    with ExitStack() as stack:
        cache = Path(options["paths.cache"] or stack.enter_context(tempfile.TemporaryDirectory()))
        print(ROW.format("settings", "warp", "sequence", "keys", "intra", "error", "plain", "J of B", "J"))
        for name, setting in settings.items():
            _study(name, setting, sequences, warps, cache, options)
            if options["cost"] == "true":
                cost(name, encode_to_cache(sequences[-1].images, cache, setting))


def _options(arguments: list[str]) -> dict[str, str]:
    usual = {**DEFAULTS, "paths.data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS"}
    options = parsed(arguments, usual)
    if not options["every"].isdecimal() or int(options["every"]) < 1:
        raise ConfigError(f"every={options['every']}: must be at least 1")
    return options


def _picked(names: str, known: dict[str, T]) -> dict[str, T]:
    if unknown := [name for name in names.split(",") if name not in known]:
        raise ConfigError(f"there is no '{unknown[0]}'{nearest(unknown[0], known)} (there are {', '.join(known)})")
    return {name: known[name] for name in names.split(",")}


def _study(
    name: str,
    setting: Encoding,
    sequences: tuple[VideoSequence, ...],
    warps: dict[str, Warp],
    cache: Path,
    options: dict[str, str],
) -> None:
    """Measure, print and record a setting."""
    found: list[tuple[Stream, dict[str, Scores]]] = []
    exported = options["exported"] == "true"
    for sequence in sequences:
        found.append(measured(sequence, encode_to_cache(sequence.images, cache, setting), warps, exported))
        for warp, scores in found[-1][1].items():
            _print(name, warp, sequence.name, _numbers(found[-1][0], scores))
    for warp, how in warps.items():
        each = [_numbers(stream, scores[warp]) for stream, scores in found]
        numbers = {metric: float(np.nanmean([one[metric] for one in each])) for metric in each[0]}
        rows = [
            {"sequence": sequence.name, "frames": stream.frames, "b_frames": stream.b_frames, **one}
            for sequence, (stream, _), one in zip(sequences, found, each, strict=True)
        ]
        _print(name, warp, f"mean of {len(rows)}", numbers)
        if options["record"]:
            parts = {"encoding": asdict(setting), "warp": asdict(how), "exported": exported}
            config = OmegaConf.create({**parts, "split": options["split"]})
            root = Path(options["paths.experiments"])
            path = write_record(root, options["record"], "benchmarks.motion", numbers, config, sequences, rows)
            print(f"record: {path}", flush=True)


def _numbers(stream: Stream, scores: Scores) -> dict[str, float]:
    return {
        "key_frames": stream.keys,
        "intra": stream.intra,
        "error": stream.error,
        "plain_error": stream.plain_error,
        "J-B-frames": scores.b_frames,
        "J-Mean": scores.all_frames,
    }


def _print(name: str, warp: str, sequence: str, found: dict[str, float]) -> None:
    shares = [f"{found[metric]:.1%}" for metric in ("key_frames", "intra")]
    errors = [f"{found['error']:.2f}", f"{found['plain_error']:.2f}"]
    scores = [*errors, f"{found['J-B-frames']:.3f}", f"{found['J-Mean']:.3f}"]
    print(ROW.format(name, warp, sequence, *shares, *scores), flush=True)


if __name__ == "__main__":
    start(main)
