"""What a checkpoint declares is checked before a network is built from it."""

from __future__ import annotations

import inspect
import io
import typing
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.test_contract import SMALL, frames, probs
from voslab.core import CheckpointError, ConfigError
from voslab.core.archive import read_checkpoint
from voslab.methods import registry
from voslab.methods.builder import ModelSpec, build_model, from_checkpoint

HUGE = {"backbone": "resnet18", "width": 20000}
MOST = 10**7
"""Parameters that a test may allocate."""


def saved(path: Path, method: str, network: dict[str, Any], tensors: dict[str, Tensor] | None = None) -> Path:
    prefixed = {f"segmenter.{key}": value for key, value in (tensors or {"x": torch.zeros(1)}).items()}
    metadata = {"format": 1, "method": method, "network": network, "engine": {"size": 60, "precision": "fp32"}}
    torch.save({"vos": metadata, "state_dict": prefixed}, path)
    return path


@pytest.fixture
def _few_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail as soon as a network with more than `MOST` parameters is about to be filled."""
    register, count = nn.Module.register_parameter, 0

    def counted(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += 0 if parameter is None or parameter.is_meta else parameter.numel()
        assert count < MOST, "a large network is built"
        register(self, name, parameter)

    monkeypatch.setattr(nn.Module, "register_parameter", counted)


@pytest.mark.usefixtures("_few_parameters")
@pytest.mark.parametrize(
    ("method", "network"),
    [
        ("stcn", HUGE),
        ("gam", HUGE | {"mem_channels": 10**5}),
        ("covos", {"base": {"name": "stcn", "network": HUGE}}),
        ("adaptation", {"base": {"name": "swiftnet", "network": HUGE}}),
        ("covos", {"base": {"name": "adaptation", "network": {"base": {"name": "stcn", "network": HUGE}}}}),
        ("covos", {"base": {"name": "copy_first", "network": {}}} | HUGE),
    ],
)
def test_a_small_file_that_declares_a_large_network_is_refused(
    tmp_path: Path, method: str, network: dict[str, Any]
) -> None:
    file = saved(tmp_path / "a.ckpt", method, network)
    assert file.stat().st_size < 3000
    with pytest.raises(CheckpointError, match=r"a\.ckpt: "):
        from_checkpoint(file)
    # A plain model takes its sizes from its configuration; a wrapper takes those of its base from the file.
    if method == "covos":
        own = {**SMALL["covos"], "base": {"name": "copy_first", "network": {}}}
        with pytest.raises(CheckpointError, match=r"a\.ckpt: "):
            build_model(ModelSpec(model="covos", network=own, weights=file))
    else:
        with pytest.raises(CheckpointError, match=r"a\.ckpt: "):
            build_model(ModelSpec(model="covos", network=SMALL["covos"], base_weights=file))


@pytest.mark.usefixtures("_few_parameters")
def test_an_encoder_that_a_file_declares_but_does_not_hold_is_not_built(tmp_path: Path) -> None:
    base = {"name": "stcn", "network": SMALL["stcn"]}
    without = {"base": base, "correction": False, "refine": False}
    trained = registry.build("covos", without)
    declared = {**without, **HUGE}
    file = saved(tmp_path / "a.ckpt", "covos", declared, trained.state_dict())
    with pytest.raises(CheckpointError, match=r"a\.ckpt: does not fit this network: .* keys missing"):
        build_model(ModelSpec(model="covos", network={**SMALL["covos"], "base": base}, weights=file))


@pytest.mark.parametrize("name", registry.names())
def test_shapes_are_those_of_the_network(name: str) -> None:
    built = registry.build(name, SMALL.get(name, {})).state_dict()
    assert registry.shapes(name, SMALL.get(name, {})) == {key: value.shape for key, value in built.items()}


@pytest.mark.parametrize(("name", "parameter"), [("stcn", "object_chunk"), ("crvos", "object_chunk")])
@pytest.mark.parametrize("value", [0, -3])
def test_a_number_out_of_range_names_the_file(tmp_path: Path, name: str, parameter: str, value: int) -> None:
    network = registry.build(name, SMALL[name])
    file = saved(tmp_path / "a.ckpt", name, {**SMALL[name], parameter: value}, network.state_dict())
    message = rf"a\.ckpt: model '{name}': network\.{parameter}={value}: must be a whole number from 1 to"
    with pytest.raises(CheckpointError, match=message):
        from_checkpoint(file)


BUILT = {"width", "key_channels", "value_channels", "decoder_width", "refine_width", "mem_channels", "history", "steps"}
"""Parameters of which large values take memory or time."""


def numbers(name: str) -> list[tuple[str, object]]:
    """Odd values of each number that the network takes."""
    found: list[tuple[str, object]] = []
    for parameter, hint in typing.get_type_hints(registry.method(name).network().__init__).items():
        kinds = typing.get_args(hint) or (hint,)
        if int in kinds:
            found += [(parameter, value) for value in (0, -3, *(() if parameter in BUILT else (2**70,)))]
        if float in kinds:
            found += [(parameter, value) for value in (-1.0, float("nan"), 1e308, 10**400)]
    return found


@pytest.mark.parametrize("name", registry.names())
@torch.no_grad()
def test_every_number_is_refused_or_works(name: str) -> None:
    assert inspect.isclass(registry.method(name).network())
    first, *others = frames(3)
    for parameter, value in numbers(name):
        extra = {"trigger": "variation"} if "threshold" in parameter and name == "swiftnet" else {}
        try:
            network = registry.build(name, {**SMALL.get(name, {}), **extra, parameter: value}).eval()
        except ConfigError:
            continue
        state = network.begin(first, probs(2))
        for frame in others:
            logits, state = network.step(frame, state)
            assert torch.isfinite(logits).all(), (parameter, value)
        network.add(others[-1], probs(1), state)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**6, 10**5), "more values than the file holds"),
        (torch.empty(4, device="meta"), "not made of real, finite numbers"),
        (torch.zeros(4).to_sparse(), "not made of real, finite numbers"),
        (torch.zeros(4, dtype=torch.complex64), "not made of real, finite numbers"),
    ],
)
def test_tensors_that_are_no_plain_arrays_are_refused(tmp_path: Path, tensor: Tensor, message: str) -> None:
    torch.save({"weight": tensor}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"a\.pth: .*{message}"):
        read_checkpoint(tmp_path / "a.pth")


def test_many_views_of_few_values_are_refused(tmp_path: Path) -> None:
    values = torch.zeros(1000)
    torch.save({str(number): values for number in range(3)}, tmp_path / "tied.pth")
    assert len(read_checkpoint(tmp_path / "tied.pth").tensors) == 3
    torch.save({str(number): values for number in range(1000)}, tmp_path / "many.pth")
    with pytest.raises(CheckpointError, match=r"many\.pth: its tensors have more values than the file holds"):
        read_checkpoint(tmp_path / "many.pth")


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(10**4)}, tmp_path / "a.pth")
    content = io.BytesIO((tmp_path / "a.pth").read_bytes())
    with zipfile.ZipFile(content, "a") as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        for number in range(3):
            archive.filelist.append(largest)
            archive.NameToInfo[f"{largest.filename}{number}"] = largest
        archive._didModify = True  # type: ignore[attr-defined]
    (tmp_path / "b.pth").write_bytes(content.getvalue())
    with pytest.raises(CheckpointError, match=r"b\.pth: .*its members overlap"):
        read_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"steps": 10**400}},
        {"training": {"steps": float("nan")}},
        {"network": {"width": torch.zeros(3)}},
        {"network": {3: 4}},
        {"codec": {"encoding": {"crf": 10**400}}},
    ],
)
def test_metadata_that_is_not_plain_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    metadata = {"format": 1, "method": "crvos", "network": SMALL["crvos"], "engine": {}, **values}
    tensors = registry.build("crvos", SMALL["crvos"]).state_dict()
    content = {"vos": metadata, "state_dict": {f"segmenter.{key}": value for key, value in tensors.items()}}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"a\.ckpt: ") as error:
        from_checkpoint(tmp_path / "a.ckpt")
    assert len(str(error.value)) < 400


def test_metadata_that_is_nested_deeply_is_refused(tmp_path: Path) -> None:
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"base": nested}
    with pytest.raises(CheckpointError, match=r"a\.ckpt: damaged, its metadata is not made of plain values"):
        from_checkpoint(saved(tmp_path / "a.ckpt", "covos", nested))
