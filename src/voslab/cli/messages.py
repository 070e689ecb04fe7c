"""What a program says before and after its work: what will lie where, and the commands that come next."""

from __future__ import annotations

import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

PASSED_ON = ("paths.data=", "paths.folder=")
"""Arguments that a command which reads the same data needs, too."""


def describe_outputs(output: Path, contents: dict[str, str]) -> str:
    """A folder and what will be in it, a line each."""
    width = max(map(len, contents), default=0)
    return "\n".join([f"output: {output}", *(f"  {name:<{width}}  {what}" for name, what in contents.items())])


def describe_run_folder(config: DictConfig) -> dict[str, str]:
    """What a training writes."""
    callbacks = {name: part for name, part in config.callbacks.items() if part is not None}
    every = callbacks["last"].get("every_n_train_steps") if "last" in callbacks else None
    steps = f" and every {every} steps" if every else ""
    goes_on = shlex.quote(f"resume={config.paths.output}")
    found = {
        "checkpoints/last.ckpt": f"after every epoch{steps}; {goes_on} goes on from it",
        "checkpoints/best.ckpt": f"by {callbacks['best'].monitor}" if "best" in callbacks else "",
        "logs/metrics.csv": "curves" if config.logger.get("csv") is not None else "",
        "wandb/": "the same for W&B" if config.logger.get("wandb") is not None else "",
        "gallery/": "masks of validation, anew every time" if "gallery" in callbacks else "",
        "metrics.json": "the result" if config.test is None else f"the result of {config.test}.ckpt, in the end",
    }
    if "last" not in callbacks:
        del found["checkpoints/last.ckpt"]
    return {name: what for name, what in found.items() if what}


def after_training(output: Path, checkpoint: Path) -> str:
    """The commands that score a checkpoint, use it, and show its run."""
    hydra = HydraConfig.get()
    same = [argument for argument in hydra.overrides.task if argument.startswith(PASSED_ON)]
    # A run that is made again from its saved configuration has chosen no group.
    data = f"data={hydra.runtime.choices.get('data') or 'NAME'}"
    return following(
        ["src.evaluate", f"checkpoint={checkpoint}", data, *same, f"output={output / 'evaluation'}"],
        ["src.segment", f"checkpoint={checkpoint}", "video=FILE", "mask=FILE", f"output={output / 'segmented'}"],
        ["src.dashboard", f"runs={output}"],
    )


def following(*commands: list[str]) -> str:
    """Commands as they are typed, a line each."""
    return "\n".join(["next:", *(f"  python -m {shlex.join(command)}" for command in commands)])
