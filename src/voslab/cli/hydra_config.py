"""Checks the `hydra` block of a configuration before Hydra instantiates anything from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, ListConfig, OmegaConf

from voslab.cli.targets import find_target, refused
from voslab.core import ConfigError

PLUGINS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
)
"""Launchers and sweepers that a configuration may name."""
OURS = ("voslab.cli.sweep_table.Sweep",)
FOREIGN = ("optuna.samplers.",)
"""Other targets below `hydra` that a configuration may name."""
LOGGING = (
    "colorlog.ColoredFormatter",
    "logging.FileHandler",
    "logging.Formatter",
    "logging.NullHandler",
    "logging.StreamHandler",
)
"""Classes that the logging blocks may name as `class` or `()`."""
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
"""Objects that the logging blocks may refer to."""


@contextmanager
def checked_composition() -> Iterator[None]:
    """Check every configuration that Hydra composes inside the block, before Hydra uses it.

    Hydra configures logging and builds callbacks, launcher and sweeper before the task starts.

    Raises:
        ConfigError: From the composition, if the `hydra` block is refused; see `check_hydra`.
    """
    load = ConfigLoaderImpl.load_configuration

    @wraps(load)
    def checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        config: DictConfig = load(self, *args, **kwargs)
        check_hydra(config)
        return config

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


def check_hydra(config: DictConfig) -> None:
    """Check that the `hydra` block of a composed configuration can run nothing but listed classes.

    Args:
        config: The composed configuration, with `hydra`.

    Raises:
        ConfigError: If a target, logging class or stream is not listed, a plugin is not installed, or the block sets
            environment variables.
        OmegaConfBaseException: If an interpolation in `callbacks`, `launcher` or `sweeper` cannot be resolved.
    """
    block = config.hydra
    for name, kind in (("launcher", Launcher), ("sweeper", Sweeper)):
        content = _content(block, name, resolve=True)
        _check_plugin(content, f"hydra.{name}", kind)
        _check_targets(content, f"hydra.{name}", PLUGINS)
    _check_targets(_content(block, "callbacks", resolve=True), "hydra.callbacks")
    for name in ("hydra_logging", "job_logging"):
        # Its interpolations name the run folder, which is not known yet.
        _check_logging(_content(block, name, resolve=False), f"hydra.{name}")
    # Hydra adds the variables of `env_copy`, with the values that they have already.
    if changed := sorted(set(block.job.env_set) - set(block.job.env_copy)):
        raise ConfigError(f"hydra.job.env_set.{changed[0]}: not allowed; set environment variables in the shell")


def _content(block: DictConfig, name: str, resolve: bool) -> Any:
    # The whole block is not resolved: it holds values that Hydra sets later.
    node = block._get_node(name)
    if isinstance(node, DictConfig) and node._is_interpolation():
        raise ConfigError(f"hydra.{name}={node._value()}: must be written out")
    return OmegaConf.to_container(node, resolve=resolve) if isinstance(node, DictConfig | ListConfig) else None


def _check_plugin(content: Any, where: str, kind: type[Any]) -> None:
    target = content.get("_target_") if isinstance(content, dict) else None
    if target not in PLUGINS:
        raise refused(where, "_target_", target)
    if not any(f"{one.__module__}.{one.__name__}" == target for one in Plugins.instance().discover(kind)):
        raise ConfigError(f"{where}: {target} is not installed, or is no {kind.__name__.lower()}")


def _check_targets(content: Any, where: str, known: tuple[str, ...] = ()) -> None:
    """Check every `_target_` in a block."""
    for key, value, place in _walk(content, where):
        if key == "_target_" and value not in known:
            find_target(value, place.removesuffix("._target_"), OURS, FOREIGN)
        # Optuna's plugin imports and calls the function of that name.
        if key == "custom_search_space" and value is not None:
            raise refused(place.removesuffix(f".{key}"), key, value)


def _check_logging(content: Any, where: str) -> None:
    """Check what `logging.config` would import, and the files that it would open."""
    for key, value, place in _walk(content, where):
        text = str(value)
        if key in ("class", "()") and value not in LOGGING:
            raise refused(place.removesuffix(f".{key}"), key, value)
        if key == "filename" and not text.endswith(".log"):
            raise ConfigError(f"{place}={value}: a log file must be named *.log")
        # Such a value is looked up when logging is configured, and could be anything.
        if text.startswith(("ext://", "cfg://")) and text not in STREAMS:
            raise refused(place.removesuffix(f".{key}"), key, value)
        if isinstance(value, str) and "${" in text and key != "filename":
            raise ConfigError(f"{place}={value}: must be written out")


def _walk(content: Any, where: str) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and full key of all entries of nested dicts and lists."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        place = f"{where}[{key}]" if isinstance(content, list) else f"{where}.{key}"
        yield str(key), value, place
        yield from _walk(value, place)
