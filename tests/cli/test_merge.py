from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.conftest import Run
from voslab.core.archive import read_checkpoint
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods import registry
from voslab.methods.builder import from_checkpoint
from voslab.methods.checkpoint import write_weights

SMALL = {"backbone": "resnet18", "width": 4, "norm": "batch"}


def checkpoint(path: Path, method: str, seed: int, size: int = 240) -> Path:
    torch.manual_seed(seed)
    metadata = CheckpointMetadata(method, SMALL, {"size": size, "precision": "fp32"})
    write_weights(registry.build(method, SMALL), path, metadata)
    return path


def test_the_mean_of_two_checkpoints_is_a_checkpoint(run: Run, tmp_path: Path) -> None:
    first, second = (
        checkpoint(tmp_path / "a.safetensors", "stcn", 0),
        checkpoint(tmp_path / "b.safetensors", "stcn", 1, 480),
    )
    assert not run("merge", f"checkpoints=[{first},{second}]", f"output={tmp_path}/mean.safetensors")
    a, b, mean = (read_checkpoint(path).tensors for path in (first, second, tmp_path / "mean.safetensors"))
    for key, value in mean.items():
        expected = ((a[key] + b[key]) / 2).half() if value.is_floating_point() else b[key]
        assert torch.equal(value, expected), key
    assert any(not torch.equal(a[key], b[key]) for key in a)
    assert from_checkpoint(tmp_path / "mean.safetensors").settings.size == 480, "the last one's"


def test_engine_settings_can_be_replaced(run: Run, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "a.safetensors", "stcn", 0)
    assert not run("merge", f"checkpoints={source}", f"output={tmp_path}/b.safetensors", "engine.temperature=1.5")
    assert from_checkpoint(tmp_path / "b.safetensors").settings == Settings(240, "fp32", 1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("checkpoints=[{a},{other}] output={to}.safetensors", "other.safetensors: a network of another method"),
        ("checkpoints=[{a},{plain}] output={to}.safetensors", "plain.pth: not a checkpoint of src.train"),
        ("checkpoints=[] output={to}.safetensors", "give one or more checkpoints"),
        ("checkpoints={a} output={to}.ckpt", "must end in .safetensors"),
        ("checkpoints={a} output={to}.safetensors engine.temperature=0", "engine.temperature=0.*must be positive"),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, arguments: str, message: str) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pth")
    files = {
        "a": checkpoint(tmp_path / "a.safetensors", "stcn", 0),
        "other": checkpoint(tmp_path / "other.safetensors", "stm", 0),
        "plain": tmp_path / "plain.pth",
        "to": tmp_path / "to",
    }
    assert re.search(message, run("merge", *arguments.format(**files).split()))
    assert not list(tmp_path.glob("to.*"))
