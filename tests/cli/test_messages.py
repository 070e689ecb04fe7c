"""What a training promises is what its configuration makes it write."""

from __future__ import annotations

from pathlib import Path

from hydra import compose, initialize_config_dir

from voslab.cli.entry import CONFIGS
from voslab.cli.messages import describe_outputs, describe_run_folder, following


def promised(*overrides: str) -> dict[str, str]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return describe_run_folder(compose("train", [*overrides, "paths.output=/runs/a run"]))


def test_only_what_is_switched_on_is_promised() -> None:
    usual = promised()
    assert (
        usual["checkpoints/last.ckpt"] == "after every epoch and every 200 steps; 'resume=/runs/a run' goes on from it"
    )
    assert usual["checkpoints/best.ckpt"] == "by val/J&F-Mean"
    assert "wandb/" not in usual
    assert "wandb/" in promised("logger=wandb")
    less = promised("callbacks.best=null", "~callbacks.last", "callbacks.gallery=null", "~logger.csv", "test=null")
    assert less == {"metrics.json": "the result"}


def test_lines_are_short_and_commands_can_be_pasted() -> None:
    assert describe_outputs(Path("out"), {"a": "one", "long/": "two"}) == "output: out\n  a      one\n  long/  two"
    said = following(["src.evaluate", "checkpoint=/a run/best.ckpt", "data=davis2016"])
    assert said == "next:\n  python -m src.evaluate 'checkpoint=/a run/best.ckpt' data=davis2016"
