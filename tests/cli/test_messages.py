"""Tests of the messages that programs print."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from voslab.cli import messages
from voslab.cli.arguments import CONFIGS
from voslab.cli.messages import command, describe_outputs, describe_run_folder, next_commands

ROOT = Path(__file__).resolve().parents[2]


def described(*overrides: str) -> dict[str, str]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return describe_run_folder(compose("train", [*overrides, "paths.output=/runs/a run"]))


def test_run_folder_lists_only_what_is_enabled() -> None:
    usual = described()
    assert (
        usual["checkpoints/last.ckpt"]
        == "after every epoch and every 200 steps and 15 minutes; continue with 'resume=/runs/a run'"
    )
    assert usual["checkpoints/best.ckpt"] == "by val/J&F-Mean"
    assert "wandb/" not in usual
    assert "wandb/" in described("logger=wandb")
    less = described("callbacks.best=null", "~callbacks.last", "callbacks.gallery=null", "~logger.csv", "test=null")
    assert less == {"metrics.json": "the result"}


def test_commands_are_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert describe_outputs(Path("out"), {"a": "one", "long/": "two"}) == "output: out\n  a      one\n  long/  two"
    text = next_commands(["evaluate", "checkpoint=/a run/best.ckpt", "data=davis2016"])
    assert text == "next:\n  python -m src.evaluate 'checkpoint=/a run/best.ckpt' data=davis2016"


def test_commands_outside_the_checkout_use_the_installed_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    assert command("train") == "python -m src.train"
    monkeypatch.chdir(tmp_path)
    assert command("train") == "voslab train"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(messages, "resource", lambda name: ROOT / "src/voslab/_resources" / name)
    assert command("train") == "voslab train"
