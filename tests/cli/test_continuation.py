"""`resume=RUN_FOLDER` continues a run in its folder with its own configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import voslab
from voslab.cli.continuation import Continuation
from voslab.cli.entry import entry, plain
from voslab.core import ConfigError

RECORDED = ("experiment=gam_davis", "trainer.max_epochs=3", "model.network.history=1")


def run_folder(root: Path, *overrides: str) -> Path:
    """The folder of a run: what Hydra writes."""
    folder = root / "a run, (1)"
    (folder / ".hydra").mkdir(parents=True)
    config = voslab.compose("train", [*overrides])
    config.paths.output = "${hydra:runtime.output_dir}"
    (folder / ".hydra" / "overrides.yaml").write_text(OmegaConf.to_yaml([*overrides]))
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))
    return folder


def resumed(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """The configuration with which the program starts, and its folder."""
    found: list[Any] = []
    monkeypatch.setattr("sys.argv", ["train", *arguments])

    def task(config: DictConfig) -> None:
        found.extend((OmegaConf.create(plain(config)), HydraConfig.get().runtime.output_dir))

    entry("train")(task)()
    return found


def test_the_folder_alone_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, *RECORDED)
    config, output = resumed(monkeypatch, f"resume={folder}")
    assert (config.name, config.trainer.max_epochs, config.model.network.history) == ("gam_davis", 3, 1)
    assert (output, config.paths.output, config.resume) == (str(folder), str(folder), str(folder))
    assert capsys.readouterr().out == f"resume: configuration of {folder}\n"


def test_overrides_are_applied_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, *RECORDED)
    config, _ = resumed(monkeypatch, f"resume={folder}", "trainer=ddp_cpu", "trainer.max_epochs=5")
    assert (config.trainer.strategy, config.trainer.max_epochs, config.model.network.history) == ("ddp", 5, 1)
    printed = capsys.readouterr().out
    assert printed == f"resume: configuration of {folder}, but trainer=ddp_cpu trainer.max_epochs=5\n"
    again, _ = resumed(monkeypatch, f"resume={folder}")
    assert (again.trainer.strategy, again.trainer.max_epochs) == ("ddp", 5)


def test_a_recipe_that_has_changed_since_does_not_change_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(tmp_path, *RECORDED)
    file = folder / ".hydra" / "config.yaml"
    before = OmegaConf.load(file)
    before.model.training.optimizer.lr = 0.125
    before.data.clip.frames = 7
    del before.data.max_batch_per_device
    OmegaConf.save(before, file)
    config, _ = resumed(monkeypatch, f"resume={folder}", "data.clip.frames=9")
    assert config.model.training.optimizer.lr == 0.125
    assert config.data.clip.frames == 9
    assert "max_batch_per_device" not in config.data
    again, _ = resumed(monkeypatch, f"resume={folder}")
    assert (again.model.training.optimizer.lr, again.data.clip.frames) == (0.125, 9)


def test_options_that_are_newer_than_the_run_get_their_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(tmp_path, *RECORDED)
    file = folder / ".hydra" / "config.yaml"
    before = OmegaConf.load(file)
    del before.stages
    OmegaConf.save(before, file)
    config, _ = resumed(monkeypatch, f"resume={folder}")
    assert config.stages is None
    assert config.trainer.max_epochs == 3


def test_a_new_folder_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folder(tmp_path, *RECORDED)
    config, output = resumed(monkeypatch, f"resume={folder}", f"hydra.run.dir={tmp_path / 'new'}")
    assert (output, config.resume, config.trainer.max_epochs) == (str(tmp_path / "new"), str(folder), 3)


def test_a_folder_without_a_configuration_is_not_continued(tmp_path: Path) -> None:
    for value in (tmp_path, "auto", "null"):
        assert Continuation.find([f"resume={value}"]) is None
    assert Continuation.find(["seed=1"]) is None
    folder = run_folder(tmp_path, *RECORDED)
    (folder / ".hydra" / "config.yaml").write_text("[: broken")
    with pytest.raises(ConfigError, match="not the configuration of a run"):
        Continuation.find([f"resume='{folder}'"])


def test_a_renamed_key_of_the_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folder(tmp_path, "experiment=gam_davis")
    (folder / ".hydra" / "overrides.yaml").write_text("- model.training.scratch_lr=0.1\n")
    with pytest.raises(SystemExit, match="2"):
        resumed(monkeypatch, f"resume={folder}")
    assert "renamed; use model.training.optimizer.lr" in capsys.readouterr().err
