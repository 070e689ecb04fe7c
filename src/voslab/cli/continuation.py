"""Continues a run with the configuration in its folder: `resume=RUN_FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from voslab.core import ConfigError, atomic_write

HERE = ("auto", "null", "")
"""Values of `resume` that do not name another run's folder."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """A run folder to continue.

    Attributes:
        folder: The run folder.
        recorded: Overrides of the run, without `resume`.
        config: Configuration of the run, with unresolved interpolations.
        added: Overrides of the new command, without `resume`.
    """

    folder: Path
    recorded: tuple[str, ...]
    config: dict[str, Any]
    added: tuple[str, ...]

    @classmethod
    def find(cls, arguments: Sequence[str]) -> Continuation | None:
        """Read the folder that `resume` names; None if it names none, or one without a recorded configuration.

        Args:
            arguments: Overrides of the command.

        Raises:
            ConfigError: If the recorded configuration cannot be read.
        """
        resume = [argument for argument in arguments if _key(argument) == "resume"]
        value = str(OverridesParser.create().parse_override(resume[-1]).value()) if resume else ""
        files = [Path(value) / ".hydra" / f"{name}.yaml" for name in ("overrides", "config")]
        if value in HERE or not all(file.is_file() for file in files):
            return None
        try:
            overrides, config = (OmegaConf.to_container(OmegaConf.load(file), resolve=False) for file in files)
        except Exception as error:  # the parser raises many kinds of errors
            raise ConfigError(f"{files[0].parent}: not the configuration of a run ({error})") from error
        if not isinstance(overrides, list) or not isinstance(config, dict):
            raise ConfigError(f"{files[0].parent}: not the configuration of a run")
        recorded = tuple(str(one) for one in overrides if _key(str(one)) != "resume")
        added = tuple(argument for argument in arguments if _key(argument) != "resume")
        return cls(Path(value), recorded, {str(key): part for key, part in config.items()}, added)

    def arguments(self) -> list[str]:
        """Return a command that continues in the folder: the run's overrides, unless the new command has others."""
        folder = {"resume": f"resume={self.folder}", "hydra.run.dir": f"hydra.run.dir={self.folder}"}
        replaced = {_key(argument) for argument in self.added}
        kept = [one for one in self.recorded if _key(one) not in replaced]
        return [*kept, *self.added, *(one for key, one in folder.items() if key not in replaced)]

    def describe(self) -> str:
        """Return one line that names the folder and what the new command changes."""
        changed = [one for one in self.added if one not in self.recorded and not one.startswith("hydra.")]
        return f"resume: configuration of {self.folder}" + (f", but {' '.join(changed)}" if changed else "")

    def restore(self, name: str, configs: Path, composed: DictConfig) -> DictConfig:
        """Return the configuration of the run, changed where the new command changes it.

        Recipes may have changed since the run began; the run keeps its own values. Options of the program that did not
        exist then get their defaults. The result replaces the file that Hydra wrote.

        Args:
            name: Name of the program's configuration.
            configs: Folder of the configuration.
            composed: Configuration that Hydra composed from `arguments`.
        """
        # The program itself runs under Hydra.
        outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        try:
            with initialize_config_dir(str(configs), version_base="1.3"):
                before = OmegaConf.to_container(compose(name, list(self.recorded)), resolve=False)
        finally:
            GlobalHydra.instance().hydra = outer
        now = OmegaConf.to_container(composed, resolve=False)
        assert isinstance(now, dict)
        restored: DictConfig = OmegaConf.create({**now, **_merge(self.config, before, now)})
        hydra = HydraConfig.get()
        if hydra.output_subdir is not None:
            # Hydra has written the composed one.
            atomic_write(
                Path(hydra.runtime.output_dir, hydra.output_subdir, "config.yaml"), OmegaConf.to_yaml(restored)
            )
        return restored


def _merge(recorded: Any, before: Any, now: Any) -> Any:
    """Apply the differences between `before` and `now` to a recorded value."""
    if now == before:
        return recorded
    if not (isinstance(recorded, dict) and isinstance(before, dict) and isinstance(now, dict)):
        return now
    kept = {key: value for key, value in recorded.items() if key in now or key not in before}
    merged = {key: _merge(value, before.get(key), now[key]) if key in now else value for key, value in kept.items()}
    new = {key: value for key, value in now.items() if key not in recorded and value != before.get(key)}
    return {**merged, **new}


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
