from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from src.core import CheckpointError
from src.core.weights import find_tensors, load_encoder, load_tensors, read_archive
from src.nn.resnet import ResNet


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def test_a_hostile_file_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": Hostile(tmp_path / "ran")}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"evil\.ckpt: holds more than tensors"):
        read_archive(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1})[:5]])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files_are_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_archive(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_truncated_and_wrong_content(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such"):
        read_archive(tmp_path / "none.pth")
    torch.save({"a": torch.rand(1000)}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"cut\.pth: damaged"):
        read_archive(tmp_path / "cut.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_archive(tmp_path / "list.pth")


def test_state_dicts_are_found_under_the_usual_names(tmp_path: Path) -> None:
    tensor = torch.rand(2)
    for content in ({"w": tensor}, {"net": {"w": tensor}, "epoch": 3}, {"state_dict": {"module.w": tensor}}):
        torch.save(content, tmp_path / "x.pth")
        assert torch.equal(find_tensors(read_archive(tmp_path / "x.pth"))["w"], tensor)
    save_file({"w": tensor}, tmp_path / "x.safetensors")
    assert torch.equal(find_tensors(read_archive(tmp_path / "x.safetensors"))["w"], tensor)


def test_misfits_name_a_key() -> None:
    network = nn.Linear(2, 3)
    with pytest.raises(
        CheckpointError, match=r"f: does not fit this network: 1 keys missing \(first: bias\), 1 unknown"
    ):
        load_tensors(network, {"weight": torch.zeros(3, 2), "other": torch.zeros(1)}, "f")
    with pytest.raises(CheckpointError, match=r"'weight' is \(2, 2\), this network's is \(3, 2\)"):
        load_tensors(network, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, "f")


def test_a_torchvision_file_loads_without_its_classifier(tmp_path: Path) -> None:
    donor, encoder = ResNet("resnet18"), ResNet("resnet18")
    content = donor.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    old = {key: value for key, value in content.items() if not key.endswith("num_batches_tracked")}
    for i, saved in enumerate((content, old)):
        torch.save(saved, tmp_path / f"{i}.pth")
        load_encoder(encoder, tmp_path / f"{i}.pth")
        assert torch.equal(encoder.layer4[1].conv2.weight, donor.layer4[1].conv2.weight)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_encoder(ResNet("resnet50"), tmp_path / "0.pth")
