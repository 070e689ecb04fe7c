"""GAM, whose memory has a fixed size, against STM with 20 frames in its memory, over the resolution.

    python -m benchmarks.fixed_memory [sizes=480x854,1080x1920,1440x2560] [memory=20] [threads=2] [rounds=1]

A step of each as published (ResNet-50, one object, random weights), measured in turn. Both have STM's decoder. The last
row says what a decoder of half the width would leave of GAM's step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks.goals import Goal, interleaved, options, start
from voslab.engine.profiling import start_random_video
from voslab.methods import registry
from voslab.nn.inference import for_inference

DEFAULTS = {"sizes": "480x854,1080x1920,1440x2560", "memory": "20", "threads": "2", "rounds": "1"}
GOALS = {"480x854": (0.9, 0.75), "1080x1920": (0.5, 0.5), "1440x2560": (0.35, 0.35)}
"""Most seconds of GAM over those of STM, with the full fuser and with the light one."""


def main() -> None:
    """Print the rows of each size."""
    given = options(DEFAULTS)
    rounds = int(given["rounds"])
    print(f"one object, {given['memory']} frames in STM's memory, {torch.get_num_threads()} threads")
    for size in given["sizes"].split(","):
        sides = [int(side) for side in size.split("x")]
        with torch.no_grad():
            best = interleaved(
                {
                    "stm": step("stm", sides, int(given["memory"])),
                    "full": step("gam", sides),
                    "light": step("gam", sides, fuser="light"),
                    **({"narrow": step("gam", sides, decoder_width=128)} if size == "480x854" else {}),
                },
                rounds,
                warm=max(sides) < 1000,  # larger ones would take minutes more
            )
        for fuser, limit in zip(("full", "light"), GOALS.get(size, (1, 1)), strict=True):
            note = f"{best[fuser] * 1e3:.0f} ms against {best['stm'] * 1e3:.0f} ms"
            Goal(f"gam, {fuser} fuser, over stm, {size}", best[fuser] / best["stm"], limit, "most", note).show()
        if "narrow" in best:
            print(f"a decoder of width 128 in place of 256: {best['narrow'] / best['full']:.2f} of GAM's step")


def step(name: str, size: list[int], frames: int = 0, **parameters: Any) -> Callable[[], Any]:
    """A frame of a network, with so many frames in its memory."""
    network = registry.build(name, parameters)
    for_inference(network)
    frame, state = start_random_video(network, (size[0], size[1]), 1)
    frame = replace(frame, index=1)
    if frames:
        state = replace(state, memory=state.memory.repeat(frames))

    def run() -> None:
        nonlocal frame, state
        frame = replace(frame, index=frame.index + 1)
        _, state = network.step(frame, state)

    return run


if __name__ == "__main__":
    start(main)
