from __future__ import annotations

import pytest

from voslab.cli.arguments import CONFIGS
from voslab.cli.entry import run
from voslab.cli.help import FOOTER, usage

PROGRAMS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "wandb_sweep")


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_shows_the_command_and_the_options(name: str) -> None:
    text = usage(CONFIGS, name)
    head = text.partition("\n\n")[0]
    assert "python -m src." in head or "python -m benchmarks." in head
    assert "hydra:" not in text
    assert "defaults:" not in text
    assert text.endswith(f"{FOOTER}\n")


def test_help_shows_comments_and_choices() -> None:
    text = usage(CONFIGS, "segment")
    assert "checkpoint: null        # checkpoint of src.train" in text
    assert "  device: auto          # auto | cpu" in text
    [models] = [line for line in text.splitlines() if line.startswith("model ")]
    assert "stcn, stcn_adapted, stm" in models


def test_help_alone_is_ours_and_with_values_hydras(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["src.segment", "--help"])
    run("segment")
    assert capsys.readouterr().out == usage(CONFIGS, "segment")
    monkeypatch.setattr("sys.argv", ["src.segment", "--help", "model=stm"])
    with pytest.raises(SystemExit, match="0"):
        run("segment")
    assert "name: stm" in capsys.readouterr().out
