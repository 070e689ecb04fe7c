"""Compares motion vectors with other motion: scores by object size, and time per frame.

    python -m benchmarks.covos [sequences=bear,…] [split=train] [year=2016] [size=240] [intervals=1,2,3,5]
                               [base=FILE] [weights=FILE] [parts=table,timing] [frames=N] [data=DIR] [record=STUDY]
                               [paths.experiments=DIR] [MODEL OVERRIDES]

With `frames` only the first N frames of each sequence are used.

`table` is Table 4 of the supplement: J&F on B-frames, over all masks of a class of sizes, where the base looks at every
frame, and where it looks at key frames only and masks are propagated by the codec's vectors alone, with the
holes of intra blocks filled, by vectors taken for optical flow, by optical flow (DIS), and, with a decoder's
`weights`, by
the whole method. With `record`, each of them becomes a record of that study.

`timing` is Eq. 3, T = T_base R + (T_propagation + T_correction)(1 - R), for several intervals of memory updates counted
in key frames: T_base is that of the base alone on the key frames, T_B that of B-frames with their share of it in the
network's stages, and the sum is compared to what a whole run takes, without and with decoding. Milliseconds of
processor time a frame, which other programs disturb less.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import nn

from benchmarks.goals import parsed, start
from benchmarks.segmented import Ran, processor_time, ran
from voslab.cli.arguments import CONFIGS
from voslab.cli.models import load_model
from voslab.core import Segmenter
from voslab.data.sources.davis import davis
from voslab.data.video_sequence import VideoSequence
from voslab.engine import Settings
from voslab.engine.codec_source import CodecSource
from voslab.methods.builder import LoadedModel
from voslab.metrics import SizeScore, score_by_size
from voslab.reporting.run_record import write_record

DEFAULTS = {
    "sequences": "bear",
    "split": "train",
    "year": "2016",
    "size": "240",
    "intervals": "1,2,3,5",
    "base": "weights/scratch_stcn.safetensors",
    "weights": "",
    "parts": "table,timing",
    "frames": "",
    "record": "",
}
EVERY, WHOLE = "base on every frame", "the whole method"
VARIANTS = {
    "vectors alone": {"intra_fill": "none"},
    "vectors, holes filled": {"intra_fill": "nearest"},
    "vectors taken for flow": {"motion": "vectors_as_flow"},
    "optical flow": {"motion": "flow"},
}
"""Motion that replaces the whole method, as parameters of `CodecSource`."""
PROPAGATION_ONLY = ("model.network.refine=false", "model.network.correction=false")
TABLE = "{:<28}" + "{:>22}" * 4
TIMING = "{:<20}{:>6}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}{:>9}{:>10}{:>7}"
COLUMNS = ["frames,every", "keys", "memory", "T_base", "T_B", "stages", "Eq.3", "network", "decoded", "gain", "J&F"]
CLOSE = 0.15
"""Of Eq. 3 to what is measured."""


def main() -> None:
    """Print both tables."""
    options = {**DEFAULTS, "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS", "paths.experiments": "experiments"}
    overrides = [argument for argument in sys.argv[1:] if argument.startswith("model.")]
    options = parsed([argument for argument in sys.argv[1:] if not argument.startswith("model.")], options)
    torch.set_num_threads(1)
    only = options["sequences"].split(",") if options["sequences"] else None
    sequences = davis(options["data"], int(options["year"]), options["split"], only=only)
    if options["frames"]:
        sequences = tuple(_first(sequence, int(options["frames"])) for sequence in sequences)
    with tempfile.TemporaryDirectory() as cache, processor_time():
        if "table" in options["parts"]:
            table(options, overrides, sequences, cache)
        if "timing" in options["parts"]:
            timing(options, overrides, sequences, cache)


def table(options: dict[str, str], overrides: list[str], sequences: tuple[VideoSequence, ...], cache: str) -> None:
    """Scores by size: a line for each motion, of B-frames and of all frames."""
    plain = _model(options, [*overrides, *PROPAGATION_ONLY], cache)
    codec_source = _coding(plain)
    codings: dict[str, Any] = VARIANTS
    variants = {name: (plain.segmenter, replace(codec_source, **each)) for name, each in codings.items()}
    if options["weights"]:
        variants[WHOLE] = (_model(options, overrides, cache, options["weights"]).segmenter, codec_source)
    found: dict[str, list[NDArray[np.float64]]] = {EVERY: []}
    ratios: list[float] = []
    for sequence in sequences:
        images = [sequence.image(index) for index in range(len(sequence))]
        every = ran(_base(plain), sequence, images, plain.settings).rows
        b_frames: NDArray[np.float64] = np.zeros(0)
        for place, (name, (segmenter, each)) in enumerate(variants.items()):
            part = ran(segmenter, sequence, each.frames(sequence.images), plain.settings)
            found.setdefault(name, []).append(part.rows)
            b_frames = part.rows[part.rows[:, 4] == 0, 0]
            ratios += [len(part.keys) / part.frames] * (not place)
        every[:, 4] = ~np.isin(every[:, 0], b_frames)
        found[EVERY].append(every)
        print(f"{sequence.name}: {ratios[-1]:.1%} key frames", flush=True)
    print(f"{np.mean(ratios):.1%} key frames; J&F of masks (how many)")
    for title, b_only in (("B-frames", True), ("all frames", False)):
        for name, parts in found.items():
            scores = _scores(np.concatenate(parts), b_only)
            if name == EVERY:
                print(TABLE.format(title, *(score.name for score in scores)))
            print(TABLE.format(name, *(_cell(score) for score in scores)), flush=True)
    for name, parts in found.items() if options["record"] else ():
        _record(name, parts, ratios, options, overrides, tuple(sequences))


def _record(
    name: str,
    parts: list[NDArray[np.float64]],
    ratios: list[float],
    options: dict[str, str],
    overrides: list[str],
    sequences: tuple[VideoSequence, ...],
) -> None:
    """A line of the table as a record: means over the masks of a class of sizes, and by sequence."""
    codec = [f"model.{key}={value}" for key, value in VARIANTS.get(name, {}).items()]
    parameters = overrides if name == WHOLE else [*overrides, *PROPAGATION_ONLY, *codec]
    composed = _config(options, parameters, "", options["weights"] if name == WHOLE else "")
    config = DictConfig({**composed, "line": name})
    rows = [
        {"sequence": sequence.name, "frames": len(sequence), "key_frames": ratio, **_numbers([part])}
        for sequence, ratio, part in zip(sequences, ratios, parts, strict=True)
    ]
    numbers = {"key_frames": float(np.mean(ratios)), **_numbers(parts)}
    root = Path(options["paths.experiments"])
    print(f"record: {write_record(root, options['record'], 'benchmarks.covos', numbers, config, sequences, rows)}")


def _numbers(parts: list[NDArray[np.float64]]) -> dict[str, float]:
    """J&F of B-frames' masks, `J&F-B-…`, and of all, `J&F-…`, by class of size, and how many masks those are."""
    found: dict[str, float] = {}
    for prefix, b_only in (("B-", True), ("", False)):
        for score in _scores(np.concatenate(parts), b_only):
            found |= {f"J&F-{prefix}{score.name}": score.mean, f"masks-{prefix}{score.name}": score.masks}
    return found


def _scores(rows: NDArray[np.float64], b_only: bool) -> tuple[SizeScore, ...]:
    return score_by_size(*_columns(rows[rows[:, 4] == 0] if b_only else rows))


def timing(options: dict[str, str], overrides: list[str], sequences: Iterable[VideoSequence], cache: str) -> None:
    """Eq. 3 by interval of memory updates."""
    model = _model(
        options, overrides if options["weights"] else [*overrides, *PROPAGATION_ONLY], cache, options["weights"]
    )
    base, codec_source = _base(model), _coding(model)
    print(TIMING.format(*COLUMNS))
    every = _runs(base, sequences, model, None)
    memory = sum(part.frames for part in every) / _interval(base)
    usual = _report(f"all frames, {_interval(base)}", every, every, 1.0, None)
    for interval in map(int, options["intervals"].split(",")):
        _set_interval(base, interval)
        parts = _runs(model.segmenter, sequences, model, codec_source)
        alone = [_alone(base, sequence, part, model.settings) for sequence, part in zip(sequences, parts, strict=True)]
        keys = sum(len(part.keys) for part in parts)
        _report(f"key frames, {interval}", parts, alone, keys / interval / memory, usual)


def _runs(
    segmenter: Segmenter[Any], sequences: Iterable[VideoSequence], model: LoadedModel, codec_source: CodecSource | None
) -> list[Ran]:
    found = []
    for sequence in sequences:
        frames: Iterable[Any] = (sequence.image(index) for index in range(len(sequence)))
        if codec_source is not None:
            # Encoded before the clock runs.
            frames = [*codec_source.frames(sequence.images)] and codec_source.frames(sequence.images)
        found.append(ran(segmenter, sequence, frames, model.settings))
    return found


def _alone(base: Segmenter[Any], sequence: VideoSequence, part: Ran, settings: Settings) -> Ran:
    """The base on the key frames that another run had."""
    return ran(base, _first(sequence, len(part.keys)), part.keys, settings)


def _first(sequence: VideoSequence, frames: int) -> VideoSequence:
    return replace(sequence, images=sequence.images[:frames], masks=sequence.masks[:frames])


def _report(name: str, parts: list[Ran], base: list[Ran], memory: float, usual: float | None) -> float:
    """Print a line; returns seconds a frame, everything included. `usual` are those of the base on every frame."""
    frames = sum(part.frames for part in parts)
    keys = sum(len(part.keys) for part in parts)
    base_time = sum(part.network for part in base) / sum(part.frames for part in base)
    b_time, stages = (
        sum(seconds) / max(1, frames - keys)
        for seconds in ([part.b_frames for part in parts], [sum(part.stages.values()) for part in parts])
    )
    network, total = (sum(seconds) / frames for seconds in zip(*((p.network, p.total) for p in parts), strict=True))
    expected = (base_time * keys + b_time * (frames - keys)) / frames
    score = score_by_size(*_columns(np.concatenate([part.rows for part in parts])))[-1]
    times = [f"{1e3 * seconds:.1f}" for seconds in (base_time, b_time, stages, expected, network, total)]
    gain = "" if usual is None else f"{usual / total:.2f} x"
    if usual is None:
        times[1:3] = "-", "-"
    print(TIMING.format(name, f"{keys / frames:.0%}", f"{memory:.0%}", *times, gain, f"{score.mean:.3f}"))
    if usual is not None:
        ratio = expected / network
        verdict = "met" if abs(ratio - 1) <= CLOSE else "not met"
        print(f"  Eq. 3 / network {ratio:.2f}, goal {1 - CLOSE:.2f} to {1 + CLOSE:.2f}: {verdict}", flush=True)
    return float(total)


def _model(options: dict[str, str], overrides: list[str], cache: str, weights: str = "") -> LoadedModel:
    return load_model(_config(options, overrides, cache, weights))


def _config(options: dict[str, str], overrides: list[str], cache: str, weights: str = "") -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        arguments = ["model=covos", f"base_weights='{options['base']}'", f"engine.size={options['size']}"]
        arguments += [f"weights='{weights}'"] * bool(weights) + [f"paths.cache='{cache}'", "data=davis2016"]
        return compose("evaluate", [*arguments, *overrides])


def _base(model: LoadedModel) -> Segmenter[Any]:
    assert isinstance(model.segmenter, nn.Module)
    base: Any = model.segmenter.get_submodule("base")
    return cast("Segmenter[Any]", base)


def _coding(model: LoadedModel) -> CodecSource:
    assert model.codec_source is not None, "covos reads codec data"
    return model.codec_source


def _interval(base: Segmenter[Any]) -> int:
    return int(getattr(base, "memory_every", 1))


def _set_interval(base: Any, interval: int) -> None:
    base.memory_every = interval


def _columns(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows[:, 1:3], rows[:, 3]


def _cell(score: SizeScore) -> str:
    return f"{score.mean:.3f} ({score.masks})"


if __name__ == "__main__":
    start(main)
