"""Composes the configurations of the programs in notebooks and scripts, from any working directory."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from voslab.cli.arguments import explain
from voslab.cli.jobs import register_names
from voslab.core import ConfigError
from voslab.core.resources import resource


def compose(program: str = "train", overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration that a program would get from these overrides.

    `hydra.utils.instantiate` builds `data`, `model` and `trainer` of the result. Unless `paths.output` is given, they
    write to `outputs/<name of the run>`.

    Args:
        program: Program whose configuration is composed: `train`, `evaluate`, `segment`, …
        overrides: Overrides as on the command line, such as `experiment=gam_davis` or `trainer.max_steps=10`.

    Returns:
        The configuration, without Hydra's own part.

    Raises:
        ConfigError: If an option, a key or a value does not exist.

    Example:
        >>> import voslab
        >>> config = voslab.compose("train", ["experiment=gam_davis", "trainer=cpu"])
        >>> config.model.name, config.data.clip.frames, config.paths.output
        ('gam', 10, 'outputs/gam_davis')
    """
    register_names()
    # A program that itself runs under Hydra has an initialised instance already.
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(resource("conf")), version_base="1.3"):
            config = hydra_compose(program, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer
    if "paths" in config and not any(part.lstrip("+").startswith("paths.output=") for part in overrides):
        config.paths.output = f"{config.paths.outputs}/{config.get('name', program)}"
    return config
