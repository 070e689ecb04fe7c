"""What a training clip costs, and what checkpointing, channels-last and bf16 buy.

    python -m benchmarks.training [recipes=stcn_davis,gam_davis] [threads=1] [variants=…]

One clip of a published recipe (ResNet-50, 384x384) forward and backward, each variant in a process of its own, so that
its memory can be told: `plain`, `checkpoint`, `channels_last`, `bf16` and `all`. Seconds are processor time, which
other programs disturb less. The last column is what loading a clip takes, without any worker, of what training takes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time

import cv2
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks.goals import Goal, options, start
from voslab.cli.arguments import CONFIGS
from voslab.cli.instantiate import instantiate
from voslab.cli.training_module import training_module
from voslab.data.clips.item import collate
from voslab.data.datamodule import VOSDataModule

DEFAULTS = {"recipes": "stcn_davis,gam_davis", "variants": "plain,checkpoint,channels_last,bf16,all", "threads": "1"}
ROW = "{:<14}{:<16}{:>12}{:>10}{:>10}{:>12}"


def main() -> None:
    """Print a row per recipe and variant, then the goal for loading."""
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(_measure(*sys.argv[2:])))
        return
    given = options(DEFAULTS)
    print(ROW.format("recipe", "variant", "s a clip", "of plain", "MB", "loading"))
    for recipe in given["recipes"].split(","):
        usual, loading = 0.0, 0.0
        for variant in given["variants"].split(","):
            command = [sys.executable, "-m", "benchmarks.training", "child", recipe, variant, given["threads"]]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            usual = usual or found["step"]
            loading = max(loading, found["load"] / found["step"])
            cells = f"{found['step']:.1f}", f"{found['step'] / usual:.2f}", f"{found['memory']:.0f}"
            print(ROW.format(recipe, variant, *cells, f"{found['load'] / found['step']:.2%}"), flush=True)
        Goal(f"{recipe}: loading over training", loading, 0.05, "most", "even without workers").show()


def _measure(recipe: str, variant: str, threads: str) -> dict[str, float]:
    """Seconds of a clip and of loading it; MB that the step needs above the network with its gradients."""
    cv2.setNumThreads(0)
    torch.set_num_threads(int(threads))
    on = {"checkpoint", "channels_last", "bf16"} if variant == "all" else {variant}
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIGS), version_base="1.3"):
        fixed = [f"experiment={recipe}", "paths.output=none", f"paths.cache={folder}"]
        switches = [f"model.training.{name}={str(name in on).lower()}" for name in ("checkpoint", "channels_last")]
        config: DictConfig = compose("train", overrides=[*fixed, *(f"++{switch}" for switch in switches)])
        data: VOSDataModule = instantiate(config.data)
        clips = data.training_clips()
        clips[0, 0]
        begun = time.process_time()
        batch = collate([clips[0, 1]]).unpacked()
        load = time.process_time() - begun
        module = training_module(config).train()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in on):
        loss = module.training_step(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    step = time.process_time() - begun
    return {"step": step, "load": load, "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


if __name__ == "__main__":
    start(main)
