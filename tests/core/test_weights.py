from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from voslab.core import CheckpointError
from voslab.core.weights import load_encoder, load_tensors
from voslab.nn.resnet import ResNet


def test_mismatches_name_a_key() -> None:
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


def test_tensors_must_be_real_dense_and_finite() -> None:
    network = nn.Linear(2, 3)
    whole = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}
    for odd in (
        *(torch.full((3,), float("nan")), torch.tensor([0.0, float("inf"), 0.0])),
        *(torch.zeros(3, dtype=torch.complex64), torch.zeros(3).to_sparse()),
    ):
        with pytest.raises(CheckpointError, match="f: 'bias' is not made of real, finite numbers"):
            load_tensors(network, {**whole, "bias": odd}, "f")
    with pytest.raises(CheckpointError, match=r"'bias' is \(1000000000000,\), this network's is \(3,\)"):
        load_tensors(network, {**whole, "bias": torch.zeros(1).expand(10**12)}, "f")
    load_tensors(network, whole, "f")


def test_an_encoder_comes_from_a_checkpoint_of_another_method(tmp_path: Path) -> None:
    donor, deeper = ResNet("resnet18", width=8, layers=3), ResNet("resnet18", width=8)
    tensors = {f"segmenter.encoder.{key}": value for key, value in donor.state_dict().items()}
    vos = {"method": "stcn", "network": {}, "engine": {}}
    torch.save({"vos": vos, "state_dict": tensors}, tmp_path / "stcn.ckpt")
    untouched = deeper.layer4[0].conv1.weight.clone()
    load_encoder(deeper, tmp_path / "stcn.ckpt")
    assert torch.equal(deeper.layer3[0].conv1.weight, donor.layer3[0].conv1.weight)
    assert torch.equal(deeper.layer4[0].conv1.weight, untouched)
    with pytest.raises(CheckpointError, match="140 keys missing"):
        load_encoder(ResNet("resnet50", width=8), tmp_path / "stcn.ckpt")
    torch.save({"vos": vos, "state_dict": {}}, tmp_path / "stcn.ckpt")
    with pytest.raises(CheckpointError, match=r"stcn\.ckpt: a checkpoint without an encoder"):
        load_encoder(deeper, tmp_path / "stcn.ckpt")
