"""A frame's time in the network against what the machine could do.

    python -m benchmarks.network [methods=stcn,stm,gam,crvos] [objects=1,5] [size=480x854] [threads=2] [rounds=5]

The networks as published (ResNet-50, random weights: speed does not depend on them), as `src.evaluate` runs them. The
first part compares a step, with one frame in the memory, to the time that its multiply-adds take at the peak: a 3x3
convolution measured in turn with it. STCN memorises every 5th frame: both kinds of its steps have a row. The second
compares reading a memory with the bare products (and choice of the best) of its sizes; the third, bf16 with fp32.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.goals import Goal, Peak, interleaved, options, start
from voslab.core import Frame
from voslab.engine.profiling import start_random_video
from voslab.methods import registry
from voslab.nn.affinity import attend
from voslab.nn.inference import for_inference

DEFAULTS = {
    "methods": "stcn,stm,gam,crvos",
    "objects": "1,5",
    "size": "480x854",
    "threads": "2",
    "rounds": "5",
    "parts": "step,read,bf16",
}
GOALS = {"stcn": 0.8, "stm": 0.8, "gam": 0.75, "crvos": 0.75}


def main() -> None:
    """Print a row per method and number of objects, then the reads, then bf16."""
    given = options(DEFAULTS)
    rounds = int(given["rounds"])
    height, width = (int(side) for side in given["size"].split("x"))
    if unknown := [name for name in given["methods"].split(",") if name not in GOALS]:
        sys.exit(f"error: methods={unknown[0]}: there are goals for {', '.join(GOALS)}")
    objects = [int(count) for count in given["objects"].split(",")]
    print(f"{height}x{width}, {torch.get_num_threads()} threads, best of {rounds}; share of the peak")
    with torch.no_grad():
        for name in given["methods"].split(",") if "step" in given["parts"] else ():
            for count in objects:
                steps(name, count, (height, width), rounds)
        if "read" in given["parts"]:
            reads(-(-height // 16) * -(-width // 16), rounds)
        if "bf16" in given["parts"]:
            half((height, width), rounds)


def steps(name: str, objects: int, size: tuple[int, int], rounds: int) -> None:
    """Rows of one method: seconds of its multiply-adds at the peak over seconds of the step."""
    peak = Peak()
    for label, step in _steps(name, objects, size).items():
        with FlopCounterMode(display=False) as counter:
            step()
        macs = counter.get_total_flops() / 2
        best = interleaved({"peak": peak, "step": step}, rounds)
        speed = peak.macs / best["peak"]
        note = f"{macs / 1e9:.0f} GMAC in {best['step'] * 1e3:.0f} ms, peak {speed / 1e9:.0f} GMAC/s"
        Goal(f"{label}, {objects} object(s)", macs / speed / best["step"], GOALS[name], "least", note).show()


def reads(cells: int, rounds: int) -> None:
    """Rows of memory reads: their seconds over those of the bare operations."""
    for frames in (1, 20):
        query, keys = torch.rand(1, cells, 64), torch.rand(1, 1, frames * cells, 64)
        values = torch.rand(1, 1, frames * cells, 512)

        def bare(query: torch.Tensor = query, keys: torch.Tensor = keys) -> None:
            (query @ keys[:, 0].transpose(1, 2)).topk(20)

        def dense(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
            (query @ keys[:, 0].transpose(1, 2)) @ values[:, 0]

        best = interleaved({"bare": bare, "read": partial(attend, query, keys, values, 20, "l2")}, rounds)
        _read("STCN, product and top 20", frames, best)
        query, keys = torch.rand(1, cells, 128), torch.rand(1, 1, frames * cells, 128)
        best = interleaved(
            {"bare": partial(dense, query, keys, values), "read": partial(attend, query, keys, values)}, rounds
        )
        _read("STM, two products", frames, best)


def half(size: tuple[int, int], rounds: int) -> None:
    """GAM's step in fp32 over bf16."""
    has = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    ratio = None
    if has:
        step = next(iter(_steps("gam", 1, size).values()))

        def low() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                step()

        best = interleaved({"fp32": step, "bf16": low}, rounds)
        ratio = best["fp32"] / best["bf16"]
    Goal("gam in bf16, times as fast", ratio, 1.7, "least", "" if has else "this CPU has no bf16 unit").show()


def _read(name: str, frames: int, best: dict[str, float]) -> None:
    note = f"{best['read'] * 1e3:.0f} ms against {best['bare'] * 1e3:.0f} ms"
    Goal(f"read, {name}, {frames} frame(s)", best["read"] / best["bare"], 1.3, "most", note).show()


def _steps(name: str, objects: int, size: tuple[int, int]) -> dict[str, Callable[[], None]]:
    """The kinds of steps that a method has behind its first frame."""
    network = registry.build(name, {})
    for_inference(network)
    frame, state = start_random_video(network, size, objects)
    kinds = {name: state}
    if name == "stcn":
        kinds = {"stcn, not memorising": state, "stcn, memorising": replace(state, last=None)}

    def step(frame: Frame, state: Any) -> None:
        network.step(frame, state.clone())

    return {label: partial(step, replace(frame, index=2), kind) for label, kind in kinds.items()}


if __name__ == "__main__":
    start(main)
