"""Trains the stages of a job one after the other, each from the last checkpoint of the stage before."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from voslab.core import ConfigError

FOLDER = "stages"
"""Folder in a job's folder with a run folder for each stage but the last, whose run folder is that of the job."""


def stage_commands(command: Sequence[str], stages: Any, folder: Path) -> list[list[str]]:
    """Return the overrides of the runs that a job consists of.

    A stage is an experiment, or an experiment and its own overrides as in `"gam_davis trainer.max_epochs=20"`. The
    overrides of the job apply to all stages. Stages but the last are neither tested nor recorded.

    Args:
        command: Overrides of the job. `stages=…` among them replaces `stages`.
        stages: Stages of the sweep's file; None for none. They are for the experiment of the last stage only, so a
            job with another `experiment=` has no stages.
        folder: Folder of the job.

    Returns:
        Overrides of each run. A job without stages is one run.

    Raises:
        ConfigError: If the stages are not a list of experiments.

    Example:
        >>> from pathlib import Path
        >>> first, second = stage_commands(["stages=[gam_coco,gam_davis]", "seed=1"], None, Path("0"))
        >>> first
        ['experiment=gam_coco', 'seed=1', 'test=null', 'record=null']
        >>> second
        ['experiment=gam_davis', 'seed=1', 'weights=0/stages/0/checkpoints/last.ckpt']
    """
    given = [part.partition("=")[2] for part in command if _key(part) == "stages"]
    if given:
        stages = OverridesParser.create().parse_override(f"stages={given[-1]}").value()
    if stages is None:
        return [[part for part in command if _key(part) != "stages"]]
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not all(map(str, stages)) or not stages:
        raise ConfigError(f"stages={stages}: must be a list of experiments, such as [gam_coco,gam_davis]")
    experiment, *_ = shlex.split(str(stages[-1]))
    chosen = [part.partition("=")[2] for part in command if _key(part) == "experiment"]
    if not given and chosen and chosen[-1] != experiment:
        return [list(command)]
    shared = [part for part in command if _key(part) not in ("stages", "experiment")]
    commands: list[list[str]] = []
    for number, stage in enumerate(stages):
        name, *own = shlex.split(str(stage))
        inherited = [part for part in shared if number == 0 or _key(part) != "weights"]
        before = folder / FOLDER / str(number - 1) / "checkpoints" / "last.ckpt"
        start = [f"weights={before}"] if number else []
        only = ["test=null", "record=null"] if number < len(stages) - 1 else []
        commands.append([f"experiment={name}", *_without(inherited, own + only), *own, *start, *only])
    return commands


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _without(overrides: Sequence[str], replaced: Sequence[str]) -> list[str]:
    keys = {_key(part) for part in replaced}
    return [part for part in overrides if _key(part) not in keys]
