"""The frame around every entry point: Hydra outside, one line and exit code 2 for bad input inside."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.core import VOSError

CONFIGS = Path(__file__).resolve().parents[2] / "conf"
PATH_KEYS = (
    "video",
    "mask",
    "checkpoint",
    "weights",
    "base_weights",
    "predictions",
    "output",
    "resume",
    "archive",
    "preview",
)
_PATH = re.compile(
    rf"^(?:\+\+?)?(?:{'|'.join(PATH_KEYS)}|paths\.\w+|model\.\w+_weights|hydra\.run\.dir)=(?P<value>.+)$", re.S
)


def entry(name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make `task(config)` a program that reads `conf/<name>.yaml` and the command line."""

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        @wraps(task)
        def guarded(config: DictConfig) -> None:
            try:
                task(config)
            except VOSError as error:
                fail(error)

        program = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(guarded)

        def main() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")
            _quieten()
            sys.argv[1:] = [quote_path(argument) for argument in sys.argv[1:]]
            try:
                program()
            except (HydraException, OmegaConfBaseException) as error:
                fail(error)

        return main

    return decorate


def fail(error: Exception) -> None:
    """Say what is wrong in one line and exit with code 2."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An error out of a loader's worker carries its traceback; its last line is the message.
    worker = bool(lines) and lines[0].startswith("Caught ")
    message = (
        re.sub(r"^[\w.]+Error: ", "", lines[-1]) if worker else " ".join(lines).partition(" Config search path:")[0]
    )
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _quieten() -> None:
    """What Lightning says on every run and nobody here can act on."""
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    tips = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    tips.addFilter(lambda record: not record.getMessage().startswith("💡"))


def quote_path(argument: str) -> str:
    """Quote the value of a path argument for Hydra's grammar, so that `clip (1), new.mp4` is a file and no sweep.

    >>> quote_path("video=my clips/a (1).mp4")
    "video='my clips/a (1).mp4'"
    >>> quote_path("seed=1,2")
    'seed=1,2'
    """
    found = _PATH.match(argument)
    if not found:
        return argument
    value = found["value"]
    plain = re.fullmatch(r"[\w./:~-]+", value, re.ASCII)
    sweep = "," in value and not Path(value).exists() and all(Path(part).exists() for part in value.split(","))
    if plain or sweep or value[0] in "'\"[{" or "${" in value:
        return argument
    # Hydra takes backslashes literally, except before a quote.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{argument[: found.start('value')]}'{escaped}'"


def plain(config: Any) -> Any:
    """A configuration as plain dicts, lists and values, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
