"""Training clips per second and core, what they are made of, and how many cores feed one large GPU.

    python -m benchmarks.loading [paths.data=DIR]

DAVIS and COCO are read where they are; YouTube-VOS, which is seldom at hand, as DAVIS frames at its size, 1280 x 720.
The clips that a GPU takes per second are not measured but computed: 40 % of the dense half-precision peak of an H200
over the floating-point operations of a training step. `cores` is the number of loader processes that feed it. With
`trainer=gpu` a GPU gets one per core of its share of the machine, less one for training; the last column is the
fraction of its clips that these load on a machine of 16 cores per GPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import cv2
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from voslab.cli.arguments import CONFIGS
from voslab.cli.instantiate import instantiate
from voslab.cli.training_module import training_module
from voslab.core import Clip
from voslab.data import ClipDataset
from voslab.data import video_sequence as sequence
from voslab.data.datamodule import VOSDataModule
from voslab.data.sources import coco
from voslab.data.sources.davis import davis
from voslab.video.writer import write_mask

GPU_FLOPS = 0.4 * 989e12
RECIPES = {"DAVIS": ("stcn_davis", "gam_davis"), "COCO": ("stcn_coco", "gam_coco"), "YouTube-VOS": ("crvos_ytvos",)}
CLIPS = 24
CORES_PER_GPU = 16
READERS = ((sequence, "read_image"), (sequence, "read_mask"), (coco, "read_image"), (coco, "decode"))
COLUMNS = "{:<13}{:<13}{:>14}{:>9}{:>9}{:>8}{:>9}{:>6}{:>7}{:>11}"


@dataclass
class Clock:
    """Seconds spent in functions that are watched."""

    seconds: float = 0.0

    def watch(self, function: Callable) -> Callable:
        """The function, timed."""

        def timed(*args: object, **named: object) -> object:
            started = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def main() -> None:
    """Print a row per recipe."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    print(
        COLUMNS.format(
            "recipe", "data", "clip", "clips/s", "reading", "making", "augment", "rest", "cores", "fed by 16"
        )
    )
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for data, names in RECIPES.items():
            for name in names:
                overrides = [f"experiment={name}", "paths.output=none", f"paths.cache={folder}/cache", *sys.argv[1:]]
                config = compose("train", overrides=overrides)
                if data == "YouTube-VOS":
                    config.data.train.root = str(_like_youtube(Path(config.paths.data), Path(folder) / data))
                print(_row(name, data, config), flush=True)


def _row(name: str, data: str, config: DictConfig) -> str:
    module: VOSDataModule = instantiate(config.data)
    dataset = module.training_clips()
    dataset[0, 0]
    reading, drawing, augmenting = Clock(), Clock(), Clock()
    with _watched(dataset, reading, drawing, augmenting):
        started = time.perf_counter()
        for index in range(CLIPS):
            dataset[0, index * max(1, len(dataset) // CLIPS) % len(dataset)]
        total = time.perf_counter() - started
    making = drawing.seconds - reading.seconds
    rest = total - drawing.seconds - augmenting.seconds
    shares = [f"{part / total:.0%}" for part in (reading.seconds, making, augmenting.seconds, rest)]
    settings = dataset.sources[0].settings
    height, width = settings.augmentation.size
    cores = GPU_FLOPS / _operations(config) / (CLIPS / total)
    fed = min(1.0, (CORES_PER_GPU - 1) / cores)
    clip = f"{settings.frames} x {height}x{width}"
    return COLUMNS.format(name, data, clip, f"{CLIPS / total:.1f}", *shares, f"{cores:.0f}", f"{fed:.0%}")


@contextmanager
def _watched(dataset: ClipDataset, reading: Clock, drawing: Clock, augmenting: Clock) -> Iterator[None]:
    kinds = {type(source) for source in dataset.sources}
    patches = [patch.object(where, name, reading.watch(getattr(where, name))) for where, name in READERS]
    patches += [patch.object(kind, "draw", drawing.watch(kind.draw)) for kind in kinds]
    transform = type(dataset.transform)
    patches.append(patch.object(transform, "__call__", augmenting.watch(transform.__call__)))
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def _operations(config: DictConfig) -> float:
    """Floating-point operations of forward and backward pass for one clip, counted on a small one of equal length."""
    module = training_module(config).train()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    settings = instantiate(config.data.clip)
    size = 96
    labels = torch.zeros(1, settings.frames, size, size, dtype=torch.int64)
    labels[:, :, 20:60, 20:60] = 1
    slot_mask = torch.ones(1, settings.max_objects, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter:
        clip = Clip(torch.rand(1, settings.frames, 3, size, size), labels, slot_mask, ("clip",))
        module.training_step(clip).backward()  # type: ignore[no-untyped-call]
    height, width = settings.augmentation.size
    return float(counter.get_total_flops() * height * width / size**2)


def _like_youtube(data: Path, root: Path) -> Path:
    """Two DAVIS sequences at YouTube-VOS' size and in its layout."""
    videos = {}
    for video in davis(data / "DAVIS", 2016, "train")[:2]:
        for kind in ("JPEGImages", "Annotations"):
            (root / "train" / kind / video.name).mkdir(parents=True)
        frames = []
        for index in range(0, len(video), 5):
            name = f"{index:05}"
            image = cv2.resize(video.image(index), (1280, 720), interpolation=cv2.INTER_CUBIC)
            Image.fromarray(image).save(root / "train" / "JPEGImages" / video.name / f"{name}.jpg", quality=92)
            labels = video.labels(index)
            assert labels is not None
            labels = cv2.resize(labels, (1280, 720), interpolation=cv2.INTER_NEAREST_EXACT)
            write_mask(root / "train" / "Annotations" / video.name / f"{name}.png", labels)
            frames.append(name)
        videos[video.name] = {"objects": {"1": {"category": "thing", "frames": frames}}}
    (root / "train" / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


if __name__ == "__main__":
    main()
