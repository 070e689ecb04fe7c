from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from voslab.core import CheckpointError
from voslab.core.archive import find_tensors, read_archive, read_checkpoint


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
def test_damaged_files_raise_a_one_line_error(tmp_path: Path, content: bytes, suffix: str) -> None:
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


@pytest.mark.parametrize("prefix", ["module.", "model.", "segmenter.", "_orig_mod.", "net.", "model._orig_mod.module."])
def test_prefixes_of_wrappers_are_removed(tmp_path: Path, prefix: str) -> None:
    weights = nn.Sequential(nn.Linear(2, 3)).state_dict()
    torch.save({"state_dict": {f"{prefix}{key}": value for key, value in weights.items()}}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").tensors.keys() == weights.keys()


def test_parts_of_a_network_keep_their_names(tmp_path: Path) -> None:
    torch.save({"model.weight": torch.zeros(1), "head.weight": torch.zeros(1)}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").tensors.keys() == {"model.weight", "head.weight"}


def test_a_run_folder_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a folder without checkpoints/best\.ckpt or last\.ckpt"):
        read_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for value, name in enumerate(("last", "best"), 1):
        torch.save({"w": torch.full((1,), float(value))}, tmp_path / "checkpoints" / f"{name}.ckpt")
        checkpoint = read_checkpoint(tmp_path)
        assert (float(checkpoint.tensors["w"]), checkpoint.path.stem) == (value, name)


def test_keys_that_are_not_strings_are_ignored(tmp_path: Path) -> None:
    torch.save({"state_dict": {1: torch.zeros(2), "a": torch.zeros(1), "b": "text"}}, tmp_path / "a.pth")
    assert find_tensors(read_archive(tmp_path / "a.pth")).keys() == {"a"}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"method": 5}, {"network": [1]}, {"engine": None}, {"method": ["x"]}),
        *({"training": [1]}, {"training": {"minutes": "many"}}),
    ],
)
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_metadata_of_wrong_types_is_refused(tmp_path: Path, wrong: dict[str, object], suffix: str) -> None:
    metadata = {"method": "crvos", "network": {}, "engine": {}, **wrong}
    path = tmp_path / f"a.{suffix}"
    if suffix == "ckpt":
        torch.save({"vos": metadata, "state_dict": {}}, path)
    else:
        save_file({"w": torch.zeros(1)}, path, {"vos": json.dumps(metadata)})
    with pytest.raises(CheckpointError, match=rf"a\.{suffix}: damaged, its '{next(iter(wrong))}' is no"):
        read_archive(path)


def test_a_pickled_configuration_is_refused(tmp_path: Path) -> None:
    torch.save({"hyper_parameters": OmegaConf.create({"_target_": "os.system"})}, tmp_path / "config.ckpt")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read_archive(tmp_path / "config.ckpt")


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match="its members are compressed"):
        read_archive(tmp_path / "bomb.pth")


def test_an_inconsistent_safetensors_header_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.arange(6.0)}, tmp_path / "a.safetensors")
    assert torch.equal(read_archive(tmp_path / "a.safetensors")["w"], torch.arange(6.0))
    content = (tmp_path / "a.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    for lie in (
        *(struct.pack("<Q", 2**63) + content[8:], struct.pack("<Q", size - 3) + content[8:], content[:-4]),
        *(content.replace(b'"shape":[6]', b'"shape":[9]'), content.replace(b"[0,24]", b"[0,99]")),
    ):
        assert lie != content
        (tmp_path / "a.safetensors").write_bytes(lie)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged"):
            read_archive(tmp_path / "a.safetensors")
