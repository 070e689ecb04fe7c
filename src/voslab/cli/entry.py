"""Wraps every program: Hydra reads the command line, bad input becomes one line and exit code 2."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from voslab.cli.arguments import CONFIGS, PATH_ARGUMENT, explain, parse_flags, quote_path
from voslab.cli.continuation import Continuation
from voslab.cli.help import usage
from voslab.cli.hydra_config import checked_composition
from voslab.cli.jobs import register_names
from voslab.cli.messages import command
from voslab.cli.sweep import PARENT, run_job
from voslab.core.errors import ConfigError, VOSError
from voslab.core.parameters import check_parameters, fits
from voslab.core.signals import SIGNALS, Stopped, end_with_parent
from voslab.engine.settings import Settings

# Hydra would resolve `${…}` in the name of its folder again, so it gets none. The programs make their own.
_NO_RUN_FOLDER = (
    *("hydra.run.dir=.", "hydra.output_subdir=null"),
    # The handler of the log file stays configured, but nothing is logged to it.
    *("hydra.job_logging.root.handlers=[console]", "++hydra.job_logging.handlers.file.delay=true"),
)
_NEEDED = ("video", "mask", "output")
_LARGEST_SEED = 2**32 - 1
_DEADLINE = 12.0
"""Seconds after which a program that was stopped is killed; schedulers grant about 30."""
# Configurations use these resolvers, and are read by other callers of `check_values` too.
register_names()
log = logging.getLogger(__name__)


def run(name: str) -> None:
    """Run the program `voslab.cli.<name>`. Its module, and torch with it, is imported once the configuration is valid.

    Args:
        name: Name of the program; its configuration is `conf/<name>.yaml`.
    """

    def task(config: DictConfig) -> None:
        import_module(f"voslab.cli.{name}").main(config)

    # Hydra names the job, and its log file, after this module.
    task.__module__ = f"voslab.cli.{name}"
    entry(name, task.__module__)(task)()


def entry(name: str, module_name: str | None = None) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make `task(config)` a program that reads `conf/<name>.yaml` and the command line.

    With `-m` the program starts one process of itself per job of the sweep.

    Args:
        name: stem of the configuration file.
        module_name: module that `python -m` runs for a job; by default the one that defines the task.

    Returns:
        A decorator. The decorated function takes no arguments and reads `sys.argv`.
    """

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        own_module: str = getattr(task.__globals__["__spec__"], "name", "")
        module = own_module if module_name is None else module_name
        launch = _Launch()

        @wraps(task)
        def guarded(config: DictConfig) -> float | None:
            launch.task_started = True
            try:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    return run_job([module, *launch.flags], config)
                if HydraConfig.get().runtime.choices.get("sweep") is not None:
                    program = command(name) if module == f"voslab.cli.{name}" else f"python -m {module}"
                    raise ConfigError(f"sweep=NAME goes with -m: {program} -m sweep=NAME")
                if launch.continuation is not None:
                    config = launch.continuation.restore(name, CONFIGS, config)
                check_values(name, config)
                _prepare_process()
                task(config)
            except VOSError as error:
                fail(error)
            except MemoryError as error:
                fail(ConfigError(f"not enough memory: {str(error) or 'choose smaller sizes'}"))
            return None

        program = hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)(guarded)
        return partial(_run_until_signal, partial(_start, name, program, launch))

    return decorate


@dataclass
class _Launch:
    """State of one start of a program: flags that select another configuration, and whether the task has started.

    `continuation` is the run that is resumed with its own configuration.
    """

    flags: list[str] = field(default_factory=list)
    task_started: bool = False
    continuation: Continuation | None = None


def _run_until_signal(start: Callable[[], None]) -> None:
    """Start a program that SIGTERM and Ctrl-C stop with one line."""
    first = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_PROCID", "0")) == "0"
    SIGNALS.install(_DEADLINE)
    try:
        SIGNALS.launched = end_with_parent() and not first
        start()
    except Stopped as stopped:
        if first:
            log.warning("stopped by %s%s", stopped.signal.name, SIGNALS.detail)
        SIGNALS.exit(stopped)
    finally:
        SIGNALS.uninstall()


def _start(name: str, program: Callable[[], None], launch: _Launch) -> None:
    """Start Hydra with the arguments of `sys.argv`, and report bad ones in one line."""
    launch.task_started, launch.continuation = False, None
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(usage(CONFIGS, name), end="")
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    _silence_lightning()
    sys.argv[1:] = [quote_path(argument) for argument in sys.argv[1:]]
    try:
        sweeps, launch.flags = parse_flags(sys.argv[1:])
        if sweeps:
            if int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
                raise ConfigError("-m starts the processes of its jobs itself: not below torchrun or srun")
            sys.argv += PARENT
        elif any(re.match(r"(output|paths\.outputs)='.*\$\{", argument, re.S) for argument in sys.argv[1:]):
            content = plain_file(CONFIGS / f"{name}.yaml")
            sys.argv += _NO_RUN_FOLDER if "output" in content and "job_logging" in content["hydra"] else ()
        elif name == "train" and not launch.flags:
            launch.continuation = Continuation.find(sys.argv[1:])
        if launch.continuation is not None:
            sys.argv[1:] = [quote_path(argument) for argument in launch.continuation.arguments()]
            parse_flags(sys.argv[1:])
            if os.environ.get("LOCAL_RANK", "0") == "0":
                print(launch.continuation.describe(), flush=True)
        with checked_composition():
            program()
    except ConfigError as error:
        fail(error)
    except (HydraException, OmegaConfBaseException) as error:
        fail(ConfigError(explain(error)))
    except (ValueError, OSError) as error:
        # Before the task starts, only Hydra runs: it parses arguments and creates the run folder.
        if launch.task_started:
            raise
        fail(ConfigError(explain(error)))


def fail(error: Exception) -> None:
    """Print the error in one line and exit with code 2."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # An error from a loader worker contains its traceback; the last line is the message.
    worker = bool(lines) and lines[0].startswith("Caught ")
    message = re.sub(r"^[\w.]+Error: ", "", lines[-1]) if worker else " ".join(lines)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def check_values(name: str, config: DictConfig) -> None:
    """Check the types of top-level values and of the engine settings against the program's configuration file.

    Raises:
        ConfigError: a value of another type than the default, or an unknown engine setting.
    """
    seed = config.get("seed")
    if isinstance(seed, int) and not 0 <= seed <= _LARGEST_SEED:
        raise ConfigError(f"seed={seed}: must be from 0 to {_LARGEST_SEED}")
    for key, default in plain_file(CONFIGS / f"{name}.yaml").items():
        value = config[key] if key in config and not OmegaConf.is_missing(config, key) else default
        if key in _NEEDED and value in (None, "", "???"):
            raise ConfigError(f"{key}={value}: must name a file or folder" if value != "???" else f"say {key}=PATH")
        if PATH_ARGUMENT.match(f"{key}=x") and OmegaConf.is_config(value) and not isinstance(default, list):
            raise ConfigError(f"{key}={value}: must be one file or folder, and there is none of that name")
        if isinstance(default, bool | int) and not fits(value, type(default)):
            kind = "true or false" if isinstance(default, bool) else "a whole number"
            raise ConfigError(f"{key}={value}: must be {kind}")
    if config.get("record") is not None:
        from voslab.reporting.run_record import check_study

        check_study(config.record)
    engine = plain(config.get("engine", {}))
    if not isinstance(engine, dict):
        raise ConfigError(f"engine={engine}: must hold size and precision")
    settings = {key: value for key, value in engine.items() if key != "device" and value is not None}
    check_parameters(Settings, settings, "engine.")


def _prepare_process() -> None:
    # Imports torch, which takes seconds: only once the configuration is known to be valid.
    from voslab.cli.cpu_runtime import configure_cpu

    configure_cpu()


def _silence_lightning() -> None:
    """Silence messages of Lightning that the user cannot act on."""
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    tips = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    tips.addFilter(lambda record: not record.getMessage().startswith(("💡", "TPU available: False")))


def plain(config: Any) -> Any:
    """Convert a configuration to plain dicts, lists and values, with interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def plain_file(path: Path) -> dict[str, Any]:
    """Read a configuration file without resolving interpolations."""
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return dict(content)
