from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from src.core import ConfigError, DataError
from src.launch.entry import fail, quote_path
from src.launch.instantiate import instantiate


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="$"), min_size=1, max_size=30))
def test_any_path_arrives_as_it_is(path: str) -> None:
    if path.strip() != path or path[0] in "'\"[{" or path in ("~", "null", "true") or path.lower() in ("null", "nan"):
        return
    override = OverridesParser.create().parse_override(quote_path(f"video=/clips/{path}"))
    assert override.value() == f"/clips/{path}"
    assert not override.is_sweep_override()


def test_lists_of_existing_files_are_still_sweeps(tmp_path: Path) -> None:
    files = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    for file in files:
        file.touch()
    argument = f"checkpoint={files[0]},{files[1]}"
    assert quote_path(argument) == argument


@pytest.mark.parametrize("argument", ["seed=1,2", "output='a b'", "model=crvos", "-m", "--cfg", "paths.data=/x/y"])
def test_the_rest_is_left_alone(argument: str) -> None:
    assert quote_path(argument) == argument


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("a.png: truncated"), "error: a.png: truncated"),
        (ConfigError("first\n  second\n"), "error: first second"),
        (
            DataError(
                "Caught DataError in DataLoader worker process 0.\nTraceback\nsrc.core.errors.DataError: b.png: empty\n"
            ),
            "error: b.png: empty",
        ),
    ],
)
def test_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str], error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        fail(error)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.run", "builtins.eval", "torch.load", "shutil.rmtree", "yaml.load"]
)
def test_only_listed_targets_are_built(target: str) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        instantiate({"nested": [{"_target_": target}]})


def test_allowed_targets_are_built_with_plain_values() -> None:
    made = instantiate({"_target_": "src.engine.Settings", "size": 100})
    assert made.size == 100
    with pytest.raises(ConfigError, match=r"engine\.size=0"):
        instantiate({"_target_": "src.engine.Settings", "size": 0})
    with pytest.raises(ConfigError, match=r"cannot build src\.engine\.Settings: .*\n.*colour"):
        instantiate({"_target_": "src.engine.Settings", "colour": 1})
