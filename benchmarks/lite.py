"""The small network of `experiment=lite_stcn` against the network of weights/gpu_stcn.safetensors.

    python -m benchmarks.lite [objects=1,5] [size=480x854] [threads=2] [rounds=8] [frames=5] [videos=NAME,...]

First real videos with one object, both networks in turn: `length` frames of the training videos that no network trained
on. The small network decodes near the last mask only, and encodes little more of frames that its memory does not keep.

Then a step with objects that fill half of the frame and more, with random weights for the small network: speed does not
depend on them. The memory of the large one holds `frames` frames besides the previous one, that of the small one as
many as its bound lets it hold. Below each ratio stand the least milliseconds of every stage, and those of the
convolutions of the step at the machine's peak.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import torch
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.goals import HELD_OUT, Goal, Peak, interleaved, options, start
from voslab.configs import compose
from voslab.core.resources import resource
from voslab.data.sources.davis import davis
from voslab.engine import Settings, run
from voslab.engine.profiling import start_random_video
from voslab.engine.timing import timed
from voslab.methods import registry
from voslab.methods.builder import from_checkpoint
from voslab.nn.inference import for_inference

DEFAULTS = {
    "objects": "1,5",
    "size": "480x854",
    "threads": "2",
    "rounds": "8",
    "frames": "5",
    "videos": HELD_OUT,
    "length": "21",
    "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS",
}
WEIGHTS = {"large": "weights/gpu_stcn.safetensors", "small": "weights/lite_stcn.safetensors"}
GOAL = 3.0


def main() -> None:
    """Print a row per number of objects."""
    given = options(DEFAULTS)
    height, width = (int(side) for side in given["size"].split("x"))
    trained = {name: from_checkpoint(resource(path)).segmenter for name, path in WEIGHTS.items()}
    networks = {"large": trained["large"], "small": small()}
    print(f"{height}x{width}, {torch.get_num_threads()} threads, best of {given['rounds']}; times as fast")
    names = [name for name in given["videos"].split(",") if name]
    on_videos(trained, given["data"], names, height, int(given["length"]))
    with torch.no_grad():
        for objects in (int(count) for count in given["objects"].split(",")):
            row(networks, objects, (height, width), int(given["rounds"]), int(given["frames"]))


def on_videos(networks: dict[str, Any], root: str, names: list[str], size: int, length: int) -> None:
    """Row of real videos with one object; nothing without videos."""
    total = dict.fromkeys(networks, 0.0)
    ratios, count = [], 0
    for video in davis(root=root, year=2016, split="train", only=names) if names else ():
        seconds, shown = {}, min(length, len(video))
        for name, network in networks.items():
            frames = (video.image(i) for i in range(shown))
            predictions = run(network, frames, {0: video.given_masks()[0]}, Settings(size=size))
            # The first frame only gives the mask; it is memorised with the second.
            seconds[name] = sum(prediction.seconds for prediction in predictions if prediction.index)
            total[name] += seconds[name]
        ratios.append(seconds["large"] / seconds["small"])
        count += shown - 1
    if ratios:
        frame = {name: seconds / count * 1e3 for name, seconds in total.items()}
        note = (
            f"{frame['large']:.0f} and {frame['small']:.0f} ms a frame; {min(ratios):.2f} to {max(ratios):.2f} by video"
        )
        Goal(f"{len(ratios)} videos, 1 object", total["large"] / total["small"], GOAL, "least", note).show()


def small() -> Any:
    """The network of the recipe, prepared as for `src.evaluate`."""
    parameters: Any = OmegaConf.to_container(compose("train", ["experiment=lite_stcn"]).model.network, resolve=True)
    network = registry.build("stcn", parameters)
    for_inference(network)
    return network


def row(networks: dict[str, Any], objects: int, size: tuple[int, int], rounds: int, frames: int) -> None:
    """Row of a step with one number of objects, which fill half of the frame and more."""
    peak, best = Peak(), {"peak": float("inf")}
    states = {name: filled(network, objects, size, frames) for name, network in networks.items()}
    for _ in range(rounds):
        best["peak"] = min(best["peak"], interleaved({"peak": peak}, 1)["peak"])
        for name, network in networks.items():
            for stage, seconds in step(network, *states[name]).items():
                key = f"{name} {stage}"
                best[key] = min(best.get(key, float("inf")), seconds)
    large, small = best["large step"], best["small step"]
    note = f"{large * 1e3:.0f} and {small * 1e3:.0f} ms"
    Goal(f"{objects} object(s)", large / small, GOAL, "least", note).show()
    for name, network in networks.items():
        with FlopCounterMode(display=False) as counter:
            step(network, *states[name])
        macs = counter.get_total_flops() / 2
        parts = ", ".join(f"{stage} {best[f'{name} {stage}'] * 1e3:.0f}" for stage in network.stages)
        floor = macs / peak.macs * best["peak"] * 1e3
        print(f"    {name}: {parts} ms; {macs / 1e9:.1f} GMAC, {floor:.0f} ms at the peak", flush=True)


def filled(network: Any, objects: int, size: tuple[int, int], frames: int) -> tuple[Any, Any]:
    """A frame, and a state whose memory holds `frames` frames, or as many as its bound."""
    frame, state = start_random_video(network, size, objects)
    held = frames if network.memory_bound is None else min(frames, network.memory_bound)
    return replace(frame, index=3), replace(state, memory=state.memory.repeat(held))


def step(network: Any, frame: Any, state: Any) -> dict[str, float]:
    """Seconds of a step and of each of its stages."""
    state = state.clone()
    with timed(network, network.stages) as seconds:
        begun = time.perf_counter()
        network.step(frame, state)
        return {**seconds, "step": time.perf_counter() - begun}


if __name__ == "__main__":
    start(main)
