"""Runs one step of every recipe with tiny networks on tiny data, in 1, 2 and 4 processes, and saves the gradients.

    python -m tests.training.recipe_gradients FOLDER

The processes are forked, so that torch is imported and every network is built once.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

import voslab
from tests.data.coco_tree import coco_tree
from tests.data.tree import davis_tree
from tests.data.youtube_tree import Film, youtube_tree
from voslab.cli.instantiate import instantiate
from voslab.cli.training_module import training_module
from voslab.core import ConfigError
from voslab.data.datamodule import VOSDataModule
from voslab.training.module import VOSModule

WORLDS = (1, 2, 4)
RECTANGLE = [[10, 5, 50, 5, 50, 35, 10, 35]]
HELD_OUT = ("bear", "car-turn", "dog-agility", "motorbike", "rollerblade")
WIDTHS = {"width": 8, "decoder_width": 8, "key_channels": 8, "value_channels": 16, "refine_width": 8, "mem_channels": 8}
BACKBONES = ("backbone", "mask_backbone")


def recipes() -> list[str]:
    """Recipes that train on clips of data sets; CoVOS trains on cached frames, key adaptation trains nothing."""
    conf = Path(__file__).resolve().parents[2] / "conf" / "experiment"
    names = sorted(path.stem for path in conf.glob("*.yaml"))
    return [name for name in names if name != "demo" and not name.startswith("adaptation") and "covos" not in name]


def data_sets(root: Path) -> None:
    """Write tiny data sets where the recipes look for them."""
    davis_tree(root / "DAVIS", names=(*HELD_OUT, "camel", "swing", "tennis"), frames=5)
    for year, split, names in (
        (2016, "train", (*HELD_OUT, "camel", "swing", "tennis")),
        (2016, "val", ("bear",)),
        (2017, "val", ("bear",)),
    ):
        path = root / "DAVIS" / "ImageSets" / str(year) / f"{split}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(names) + "\n")
    youtube_tree(root / "YouTube-VOS", {f"{n:02}": Film(0, 25, ((1, "fish", 0), (2, "fish", 0))) for n in range(6)})
    squares = [{"id": n, "image_id": 10 + n, "segmentation": RECTANGLE, "iscrowd": 0} for n in range(16)]
    coco_tree(root / "COCO", squares, images=16)


def tiny(name: str, root: Path) -> DictConfig:
    """The recipe with a narrow network, three frames of 24 x 40, and one step."""
    places = [f"paths.data={root}", f"paths.cache={root / 'cache'}", f"paths.output={root}"]
    config = voslab.compose("train", [f"experiment={name}", "trainer=cpu", *places])
    network = config.model.network
    for key, value in WIDTHS.items():
        if network.get(key) is not None:
            network[key] = value
    for key in BACKBONES:
        if str(network.get(key)).startswith("resnet"):
            network[key] = "resnet18"
    if config.data.get("max_batch_per_device") != 1 and "dropout" in network:
        network.dropout = 0.0  # a process draws once for all clips of a pass
    for key in ("weights", "base_weights", "model.encoder_weights", "model.mask_encoder_weights"):
        if OmegaConf.select(config, key) is not None:
            OmegaConf.update(config, key, None)
    config.data.num_workers = 0
    config.data.clip.frames = min(3, config.data.clip.frames)
    OmegaConf.update(config, "data.clip.augmentation", {"size": [24, 40], "short": None}, force_add=True)
    OmegaConf.update(config, "data.clip.min_area", 4, force_add=True)
    quiet = {"precision": "32-true", "enable_progress_bar": False, "enable_checkpointing": False}
    OmegaConf.update(config, "trainer", {**quiet, "max_steps": 1, "limit_val_batches": 0}, force_add=True)
    return config


class Capture(L.Callback):
    """Keeps the gradient of the first step."""

    gradient: dict[str, torch.Tensor]

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        named = pl_module.named_parameters()
        self.gradient = {name: p.grad.clone() for name, p in named if p.grad is not None}


@dataclass(frozen=True)
class Run:
    """A recipe before its processes start."""

    config: DictConfig
    module: VOSModule
    data: VOSDataModule

    @classmethod
    def build(cls, name: str, root: Path) -> Run:
        config = tiny(name, root)
        L.seed_everything(config.seed, verbose=False)
        module = training_module(config).double()
        # Weights that a recipe names do not fit the tiny network, but batch norm is frozen as if they were loaded.
        recipe = voslab.compose("train", [f"experiment={name}"])
        module.pretrained = recipe.weights is not None or recipe.model.get("encoder_weights") is not None
        module.train()
        return cls(config, module, instantiate(config.data))

    def gradient(self, devices: int) -> dict[str, torch.Tensor] | str:
        """Return the gradient of the first step, or the message of an impossible division."""
        capture = Capture()
        callbacks = [capture, instantiate(self.config.callbacks.dropout)]
        self.config.trainer.devices = devices
        self.config.trainer.strategy = "ddp" if devices > 1 else "auto"
        try:
            trainer: L.Trainer = instantiate(self.config.trainer, logger=False, callbacks=callbacks)
            trainer.fit(self.module, datamodule=self.data)
        except ConfigError as error:
            return str(error)
        return capture.gradient


def process(rank: int, world: int, port: int, runs: dict[str, Run], folder: Path) -> None:
    """Train all recipes as one process of several, and save the gradients of process 0."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    if world > 1:
        os.environ |= {name: str(value) for name, value in environment.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    for name, run in runs.items():
        found = run.gradient(world)
        if rank == 0:
            torch.save(found, folder / f"{name}-{world}.pt")


def main(folder: Path) -> int:
    """Start the processes of all worlds at once, and return the number that failed."""
    torch.set_num_threads(1)
    data_sets(folder)
    runs = {name: Run.build(name, folder) for name in recipes()}
    children = []
    for world in WORLDS:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(world):
            if child := os.fork():
                children.append(child)
                continue
            code = 1
            try:
                process(rank, world, port, runs, folder)
                code = 0
            except BaseException:
                traceback.print_exc()
            os._exit(code)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
