"""Wrappers: sources of the base, light encoder and decoder, and checkpoints that hold all three."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor, nn

from voslab.cli.arguments import CONFIGS
from voslab.cli.models import load_model
from voslab.cli.training_module import training_module
from voslab.core import CheckpointError, ConfigError
from voslab.core.checkpoint import CheckpointMetadata
from voslab.methods import registry
from voslab.methods.builder import from_checkpoint
from voslab.methods.checkpoint import check_resumed, load_light_encoder, merge
from voslab.nn.resnet import ResNet

SMALL = {"backbone": "resnet18", "norm": "group", "width": 8}
TINY = {**SMALL, "key_channels": 8, "value_channels": 16, "decoder_width": 8}


def composed(program: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(program, [*overrides])


def saved(path: Path, method: str, network: dict[str, Any], tensors: dict[str, Tensor], **more: Any) -> Path:
    metadata = {
        "format": 1,
        "engine": {"size": 96, "precision": "fp32"},
        "method": method,
        "network": network,
        **more,
    }
    torch.save({"state_dict": {f"segmenter.{key}": value for key, value in tensors.items()}, "vos": metadata}, path)
    return path


def base(path: Path, seed: int = 0, method: str = "stcn", **changed: Any) -> Path:
    torch.manual_seed(seed)
    network = {**TINY, **changed}
    built: Any = registry.build(method, network)
    return saved(path, method, network, built.state_dict())


def trained(folder: Path, *more: str) -> tuple[nn.Module, Path]:
    """A module over its own base, its decoder moved, and its checkpoint."""
    weights = base(folder / "base.ckpt", 1)
    over = (
        f"base_weights={weights}",
        "engine.size=96",
        "model.encoding.bframes=5",
        "model.intra_fill=none",
        *(more or ("model.encoder_weights=base",)),
    )
    module: Any = training_module(composed("train", "model=covos", *over))
    nn.init.normal_(module.segmenter.decoder.predict.weight)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "covos.ckpt")
    return module.segmenter, folder / "covos.ckpt"


def same(ours: nn.Module, theirs: nn.Module, part: str = "") -> bool:
    one, other = (module.get_submodule(part).state_dict() for module in (ours, theirs))
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_light_encoder_is_initialised_from_the_base(tmp_path: Path) -> None:
    segmenter, _ = trained(tmp_path)
    for part in ("conv1", "bn1", "layer1"):
        assert same(segmenter.get_submodule("encoder"), segmenter.get_submodule("base.encoder"), part)
    assert not any(p.requires_grad for key, p in segmenter.named_parameters() if not key.startswith("decoder."))


@pytest.mark.parametrize("prefix", ["rgb_encoder.", ""])
def test_the_light_encoder_comes_from_a_file(prefix: str, tmp_path: Path) -> None:
    donor = ResNet("resnet18", width=8)
    torch.save({f"{prefix}{key}": value for key, value in donor.state_dict().items()}, tmp_path / "encoder.pth")
    over = (f"base_weights={base(tmp_path / 'base.ckpt')}", f"model.encoder_weights={tmp_path}/encoder.pth")
    small = ("model=covos", "model.network.backbone=resnet18", "model.network.width=8")
    config = composed("evaluate", *small, *over, "data=generated", "output=x")
    loaded: Any = load_model(config, as_trained=True).segmenter
    assert same(loaded.encoder, donor, "layer1")
    assert same(loaded.encoder, donor, "bn1")
    torch.save({"nothing": torch.zeros(1)}, tmp_path / "encoder.pth")
    with pytest.raises(CheckpointError, match=r"encoder\.pth: no encoder in it"):
        load_model(config)


def test_a_checkpoint_holds_base_encoder_decoder_and_encoding(tmp_path: Path) -> None:
    segmenter, path = trained(tmp_path)
    merge([path], tmp_path / "half.safetensors")
    for file in (path, tmp_path / "half.safetensors"):
        model = from_checkpoint(file, tmp_path / "cache")
        assert model.settings.size == 96
        assert model.codec_source is not None
        assert (model.codec_source.encoding.bframes, model.codec_source.encoding.refs) == (5, 1)
        assert (model.codec_source.motion, model.codec_source.intra_fill) == ("codec", "none")
        assert model.codec_source.cache == tmp_path / "cache" / "coded"
        assert isinstance(model.segmenter, nn.Module)
        if file == path:
            assert same(model.segmenter, segmenter)
    config = composed("evaluate", f"checkpoint={path}", f"paths.cache={tmp_path}/there", "data=generated", "output=x")
    codec_source = load_model(config).codec_source
    assert codec_source is not None
    assert codec_source.cache == tmp_path / "there" / "coded"


def test_a_checkpoint_without_its_base_names_the_missing_argument(tmp_path: Path) -> None:
    _, path = trained(tmp_path)
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {key: value for key, value in content["state_dict"].items() if ".base." not in key}
    torch.save(content, path)
    said = rf"covos\.ckpt: .* without the base: say model=covos base_weights=FILE weights={path}"
    with pytest.raises(CheckpointError, match=said):
        from_checkpoint(path)


def test_a_base_without_parameters_has_none_in_a_checkpoint(tmp_path: Path) -> None:
    network = {"base": {"name": "copy_first", "network": {}}, **SMALL}
    torch.manual_seed(0)
    built: Any = registry.build("covos", network)
    model = from_checkpoint(saved(tmp_path / "covos.ckpt", "covos", network, built.state_dict()))
    assert same(model.segmenter, built, "decoder")


def test_checkpoints_without_an_encoding_stay_plain(tmp_path: Path) -> None:
    segmenter, _ = trained(tmp_path)
    network = {"base": {"name": "stcn", "network": TINY}, **SMALL}
    assert from_checkpoint(saved(tmp_path / "old.ckpt", "covos", network, segmenter.state_dict())).codec_source is None
    assert from_checkpoint(base(tmp_path / "stcn.ckpt")).codec_source is None


@pytest.mark.parametrize("other", [{"method": "stcn"}, {"method": "stm"}, {"method": "stcn", "width": 16}])
def test_a_decoder_moves_to_another_base(other: dict[str, Any], tmp_path: Path) -> None:
    segmenter, path = trained(tmp_path)
    weights = base(tmp_path / "other.ckpt", 2, **other)
    over = (f"base_weights={weights}", f"weights={path}", "data=generated", "output=x")
    moved: Any = load_model(composed("evaluate", "model=covos", *over)).segmenter
    assert same(moved, segmenter, "decoder")
    assert same(moved, segmenter, "encoder")
    expected: Any = from_checkpoint(weights).segmenter
    assert type(moved.base) is type(expected)
    assert same(moved.base, expected)
    assert not same(moved.base, segmenter.get_submodule("base"))


def test_decoder_over_features_of_its_base_gets_an_encoder_over_another_base(tmp_path: Path) -> None:
    segmenter, path = trained(tmp_path, "model.encoder_weights=null", "model.network.features=base")
    shape = ("model.network.features=own", "model.network.backbone=resnet18", "model.network.norm=group")
    over = ("model/base=oracle", *shape, "model.network.width=8", f"weights={path}", "data=generated", "output=x")
    encoder = f"model.encoder_weights={tmp_path / 'base.ckpt'}"
    moved: Any = load_model(composed("evaluate", "model=covos", *over, encoder), as_trained=True).segmenter
    assert same(moved, segmenter, "decoder")
    for part in ("conv1", "bn1", "layer1"):
        assert same(moved.encoder, segmenter.get_submodule("base.encoder"), part)
    with pytest.raises(CheckpointError, match=r"keys missing \(first: encoder"):
        load_model(composed("evaluate", "model=covos", *over))


def test_weights_without_base_weights_include_the_base(tmp_path: Path) -> None:
    segmenter, path = trained(tmp_path)
    model = load_model(composed("evaluate", "model=covos", f"weights={path}", "data=generated", "output=x"))
    assert same(model.segmenter, segmenter)
    assert model.settings.size == 96
    again: Any = training_module(composed("train", "model=covos", f"weights={path}"))
    assert same(again.segmenter, segmenter)


def test_pretrained_base_trains_at_the_published_rate(tmp_path: Path) -> None:
    over = ("model=stcn_adapted", f"base_weights={base(tmp_path / 'base.ckpt')}")
    made = training_module(composed("train", *over, "model.base.training.optimizer.lr=0.007"))
    assert made.pretrained
    assert made.configure_optimizers().param_groups[0]["lr"] == 0.007


def test_weights_of_disabled_modules_are_ignored(tmp_path: Path) -> None:
    segmenter, path = trained(tmp_path)
    asked = ("model=covos", f"weights={path}", "data=generated", "output=x")
    ungated: Any = load_model(composed("evaluate", *asked, "model.network.confidence=false")).segmenter
    assert ungated.decoder.confidence is None
    assert same(ungated.decoder.predict, segmenter.get_submodule("decoder.predict"))
    unrefined: Any = load_model(composed("evaluate", *asked, "model.network.refine=false")).segmenter
    assert unrefined.decoder is None
    assert same(unrefined, segmenter, "encoder")
    without = save_without(path, "segmenter.decoder.predict.")
    with pytest.raises(CheckpointError, match=r"decoder\.predict"):
        load_model(composed("evaluate", "model=covos", f"weights={without}", "data=generated", "output=x"))


def save_without(path: Path, prefix: str) -> Path:
    """A copy of a checkpoint without some of its tensors."""
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {key: value for key, value in content["state_dict"].items() if not key.startswith(prefix)}
    torch.save(content, path.with_name("without.ckpt"))
    return path.with_name("without.ckpt")


def test_frozen_parts_need_weights_that_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model=covos trains over a base that is trained: say base_weights=FILE"):
        training_module(composed("train", "model=covos"))
    weights = f"base_weights={base(tmp_path / 'base.ckpt')}"
    with pytest.raises(
        ConfigError, match=r"its light encoder does not train: say model\.encoder_weights=base, or a FILE"
    ):
        training_module(composed("train", "model=covos", weights))
    with pytest.raises(ConfigError, match=r"model\.encoder_weights=base: the base 'copy_first' has no encoder"):
        training_module(composed("train", "model=covos", "model/base=copy_first", "model.encoder_weights=base"))
    tensors = from_checkpoint(tmp_path / "base.ckpt").segmenter.state_dict()
    torch.save(tensors, tmp_path / "plain.pth")
    like = [f"model.base.network.{key}={value}" for key, value in TINY.items()]
    file = (f"base_weights={tmp_path}/plain.pth", *like)
    module: Any = training_module(composed("train", "model=covos", *file, "model.encoder_weights=base"))
    assert same(module.segmenter.encoder, module.segmenter.base.encoder, "layer1")


def test_encoder_of_another_shape_is_refused() -> None:
    network = {"base": {"name": "stcn", "network": TINY}, **SMALL, "width": 16}
    with pytest.raises(ConfigError, match=r"encoder_weights=base: 'bn1.bias' is \(8,\), this network's is \(16,\)$"):
        load_light_encoder(registry.build("covos", network), "covos", "base")


def test_base_weights_apply_to_the_innermost_base(tmp_path: Path) -> None:
    weights = base(tmp_path / "stcn.ckpt", 2)
    over = ("model=covos", "model/base=stcn_adapted", f"base_weights={weights}", "model.encoder_weights=base")
    model = load_model(composed("evaluate", *over, "model.base.network.steps=3", "data=generated", "output=x"))
    outer: Any = model.segmenter
    expected: Any = from_checkpoint(weights).segmenter
    assert (type(outer).__name__, type(outer.base).__name__, outer.base.tuning.steps) == ("CoVOS", "Adapted", 3)
    assert same(outer.base.base, expected)
    assert same(outer.encoder, expected.encoder, "bn1")
    assert model.settings.size == 96


def test_a_run_resumes_with_the_same_network_only(tmp_path: Path) -> None:
    path = base(tmp_path / "last.ckpt")
    metadata = CheckpointMetadata("stcn", TINY)
    check_resumed(path, metadata)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: the run began with network\.width=8, not 16"):
        check_resumed(path, replace(metadata, network={**TINY, "width": 16}))
    with pytest.raises(CheckpointError, match="a run of 'stcn' cannot go on as 'stm'"):
        check_resumed(path, replace(metadata, method="stm"))
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match=r"not a checkpoint of src\.train"):
        check_resumed(path, metadata)


def test_engine_settings_in_a_checkpoint_are_validated(tmp_path: Path) -> None:
    built: Any = registry.build("stcn", TINY)
    path = saved(tmp_path / "odd.ckpt", "stcn", TINY, built.state_dict(), engine={"size": "large"})
    with pytest.raises(CheckpointError, match=r"odd\.ckpt: engine\.size=large"):
        from_checkpoint(path)


@pytest.mark.parametrize("key", ["codec", "coding"])
@pytest.mark.parametrize("codec", [{"encoding": {"crf": "fine"}}, {"encoding": {}, "motion": "far"}, "fast"])
def test_codec_options_in_a_checkpoint_are_validated(codec: Any, key: str, tmp_path: Path) -> None:
    built: Any = registry.build("stcn", TINY)
    path = saved(tmp_path / "odd.ckpt", "stcn", TINY, built.state_dict(), **{key: codec})
    with pytest.raises(CheckpointError, match=r"odd\.ckpt: model\.(encoding|motion=far)"):
        from_checkpoint(path)
