"""Shared fixtures."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

from voslab.cli.entry import run as run_program

Run = Callable[..., str]
# Shape annotations are checked at every call, in the process of the tests.
SHAPED = ("affinity", "aggregation", "blocks", "decoders", "encoders", "key_projections", "losses", "normalise")
install_import_hook([f"voslab.nn.{name}" for name in SHAPED], "beartype.beartype")
# A busy machine makes no property false, and the same commit has the same result in every run.
settings.register_profile("voslab", deadline=None, derandomize=True)
settings.load_profile("voslab")
# Programs that tests start find the package of this checkout, whether it is installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parents[1] / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
)


@pytest.fixture(autouse=True)
def _smallest_numbers() -> Iterator[None]:
    """Programs take them for zero in their process, which here is that of other tests too."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def vos_data() -> Path:
    """The real data sets (`VOS_DATA`); tests that need them skip without."""
    folder = os.environ.get("VOS_DATA")
    if not folder or not (Path(folder) / "DAVIS").is_dir():
        pytest.skip("needs real data: set VOS_DATA to a folder that holds DAVIS/")
    return Path(folder)


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """Traced tensors have symbolic sizes, which jaxtyping cannot compare."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a program in this process: `run(name, *arguments)` gives the line of an error, "" if there was none."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    # Handlers that a library made during another test write to that test's stderr.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def program(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [f"src.{name}", *map(str, arguments)])
        code: object = 0
        try:
            run_program(name)
        except SystemExit as stopped:
            code = stopped.code
        finally:
            for handler in [handler for handler in root.handlers if handler not in handlers]:
                root.removeHandler(handler)
                handler.close()
            root.setLevel(level)
        said = capsys.readouterr().err
        assert code in {0, 2}, said
        assert "Traceback" not in said
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(lines) == (code == 2)
        return lines[0].removeprefix("error: ") if lines else ""

    return program
