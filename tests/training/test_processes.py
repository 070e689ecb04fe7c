"""Two processes compute what one computes, and today what was computed before: every method, in double precision.

`python -m tests.training.test_processes` freezes the losses of the first steps anew, for a change that is meant.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.core.test_contract import SMALL
from voslab.core import VOID, Clip
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods import registry
from voslab.training.module import VOSModule
from voslab.training.recipe import Recipe

METHODS = ("crvos", "gam", "mivos", "stcn", "stm", "swiftnet")
GLOBAL, STEPS = 4, 5
FROZEN = Path(__file__).resolve().parents[1] / "golden" / "first_losses.json"


class Losses(nn.Module):
    """A module's training step as a forward pass, for torch's own wrapper."""

    def __init__(self, module: VOSModule) -> None:
        super().__init__()
        self.module = module
        module.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]

    def forward(self, clip: Clip) -> Tensor:
        return self.module.training_step(clip)


def batch(step: int) -> Clip:
    rng = torch.Generator().manual_seed(step)
    images = torch.rand(GLOBAL, 3, 3, 32, 48, generator=rng, dtype=torch.float64)
    labels = torch.zeros(GLOBAL, 3, 32, 48, dtype=torch.int64)
    labels[:, :, 8:20, 10:30] = 1
    labels[:, :, 22:30, 30:44] = 2
    labels[:, :, :2] = VOID
    return Clip(images, labels, torch.ones(GLOBAL, 2, dtype=torch.bool), ("clip",) * GLOBAL)


def part(clip: Clip, rank: int, world: int) -> Clip:
    share = slice(rank * GLOBAL // world, (rank + 1) * GLOBAL // world)
    return Clip(clip.images[share], clip.labels[share], clip.slot_mask[share], clip.names[share])


def trained(name: str, rank: int, world: int) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of the steps, and the weights after them."""
    torch.manual_seed(0)
    segmenter = registry.build(name, dict(SMALL[name]))
    assert isinstance(segmenter, nn.Module)
    made = registry.method(name).module()
    assert made is not None
    recipe = Recipe(partial(torch.optim.SGD, lr=0.01))
    metadata = CheckpointMetadata(name, {})
    module: Any = made(segmenter=segmenter, recipe=recipe, settings=Settings(), metadata=metadata, pretrained=False)
    losses: nn.Module = Losses(module.double())
    for child in losses.modules():
        # Statistics of a batch are a process's own, and so is dropout.
        if isinstance(child, nn.modules.batchnorm._BatchNorm | nn.Dropout | nn.Dropout2d):
            child.eval()
    parameters = [p for p in losses.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    wrapped = losses if world == 1 else DistributedDataParallel(losses, find_unused_parameters=True)
    found = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = wrapped(part(batch(step), rank, world))
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    return found, {key: value.clone() for key, value in segmenter.state_dict().items()}


def everything(rank: int, world: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # Networks and losses compute in single precision at least; here that is double.
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    torch.set_default_dtype(torch.float64)
    if world > 1:
        rendezvous = (Path(folder) / "rendezvous").as_uri()
        dist.init_process_group("gloo", rendezvous, timedelta(seconds=60), world_size=world, rank=rank)
    torch.save({name: trained(name, rank, world) for name in METHODS}, Path(folder) / f"{world}.{rank}")
    if world > 1:
        dist.destroy_process_group()


def of_world(world: int, folder: Path) -> list[dict[str, tuple[list[float], dict[str, Tensor]]]]:
    """Results of each process, by method."""
    torch.multiprocessing.spawn(everything, (world, str(folder)), nprocs=world, daemon=True)
    return [torch.load(folder / f"{world}.{rank}", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[float], dict[str, Tensor]]]:
    return of_world(1, tmp_path_factory.mktemp("one"))[0]


@pytest.mark.slow
def test_two_processes_equal_one(one: Any, tmp_path: Path) -> None:
    two = of_world(2, tmp_path)
    for name in METHODS:
        losses, weights = one[name]
        assert losses == pytest.approx([(a + b) / 2 for a, b in zip(*(other[name][0] for other in two), strict=True)])
        for key, value in weights.items():
            for other in two:
                difference = float((other[name][1][key] - value).abs().max()) if value.is_floating_point() else 0.0
                assert difference <= 1e-12, (name, key, difference)
        assert {value.dtype for value in weights.values() if value.is_floating_point()} == {torch.float64}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_first_losses_are_unchanged(one: Any, name: str) -> None:
    assert one[name][0] == pytest.approx(json.loads(FROZEN.read_text())[name], rel=1e-9)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        [found] = of_world(1, Path(folder))
    FROZEN.write_text(json.dumps({name: losses for name, (losses, _) in found.items()}, indent=1) + "\n")
