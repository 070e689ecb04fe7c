"""Formats the messages of programs: the files they will write, and the commands to run next."""

from __future__ import annotations

import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from voslab.core.resources import resource

DATA_ARGUMENTS = ("paths.data=", "paths.folder=")
"""Arguments that the next command needs too, because it reads the same data."""


def command(name: str) -> str:
    """Return how the user starts a program: `python -m src.NAME` in the checkout's folder, `voslab NAME` elsewhere.

    Args:
        name: Name of the program, such as `train`.

    Returns:
        The command, without arguments.
    """
    return f"python -m src.{name}" if Path.cwd() == resource("").resolve() else f"voslab {name}"


def describe_outputs(output: Path, contents: dict[str, str]) -> str:
    """List a folder and the files that will be written to it, one per line.

    Args:
        output: the folder.
        contents: descriptions by file name.

    Example:
        >>> print(describe_outputs(Path("out"), {"metrics.json": "scores", "masks/": "a PNG per frame"}))
        output: out
          metrics.json  scores
          masks/        a PNG per frame
    """
    width = max(map(len, contents), default=0)
    return "\n".join([f"output: {output}", *(f"  {name:<{width}}  {what}" for name, what in contents.items())])


def describe_key_frames(key_frames: int, frames: int) -> str:
    """Describe the share of frames that the base of a wrapper segments.

    Args:
        key_frames: number of key frames.
        frames: number of frames.

    Example:
        >>> describe_key_frames(3, 12)
        'key frames: 3 of 12 (25%)'
    """
    share = f"key frames: {key_frames} of {frames} ({key_frames / max(1, frames):.0%})"
    if key_frames < frames:
        return share
    return (
        f"{share}; no B-frame is propagated, so the result is that of the base (model/keys=every_k: P-frames are too)"
    )


def describe_run_folder(config: DictConfig) -> dict[str, str]:
    """Return descriptions of the files that a training writes, by file name.

    Args:
        config: configuration of `src.train`.
    """
    callbacks = {name: part for name, part in config.callbacks.items() if part is not None}
    every = callbacks["last"].get("every_n_train_steps") if "last" in callbacks else None
    minutes = callbacks["last"].get("every_minutes") if "last" in callbacks else None
    steps = f" and every {every} steps" if every else ""
    steps += f" and {minutes:g} minutes" if minutes else ""
    resume = shlex.quote(f"resume={config.paths.output}")
    found = {
        "checkpoints/last.ckpt": f"after every epoch{steps}; continue with {resume}",
        "checkpoints/best.ckpt": f"by {callbacks['best'].monitor}" if "best" in callbacks else "",
        "logs/metrics.csv": "curves" if config.logger.get("csv") is not None else "",
        "wandb/": "the same for W&B" if config.logger.get("wandb") is not None else "",
        "tensorboard/": "the same for TensorBoard" if config.logger.get("tensorboard") is not None else "",
        "gallery/": "masks of the last validation" if "gallery" in callbacks else "",
        "metrics.json": "the result" if config.test is None else f"the result of {config.test}.ckpt, at the end",
    }
    if "last" not in callbacks:
        del found["checkpoints/last.ckpt"]
    return {name: what for name, what in found.items() if what}


def after_training(output: Path, checkpoint: Path) -> str:
    """Return the commands that evaluate a checkpoint, segment a video with it, and show its run.

    Args:
        output: run folder.
        checkpoint: checkpoint of the run.
    """
    hydra = HydraConfig.get()
    same_data = [argument for argument in hydra.overrides.task if argument.startswith(DATA_ARGUMENTS)]
    # A run that was started from its saved configuration has no choice of groups.
    data = f"data={hydra.runtime.choices.get('data') or 'NAME'}"
    return next_commands(
        ["evaluate", f"checkpoint={checkpoint}", data, *same_data, f"output={output / 'evaluation'}"],
        ["segment", f"checkpoint={checkpoint}", "video=FILE", "mask=FILE", f"output={output / 'segmented'}"],
        ["dashboard", f"runs={output}"],
    )


def next_commands(*commands: list[str]) -> str:
    """Format commands to run next, one per line, quoted for the shell.

    Args:
        commands: for each command, the name of the program and its arguments.
    """
    return "\n".join(["next:", *(f"  {command(name)} {shlex.join(arguments)}" for name, *arguments in commands)])
