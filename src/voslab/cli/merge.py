"""Averages checkpoints and writes the network for release: `python -m src.merge checkpoints=[A,B] output=FILE`."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from voslab.cli.entry import run
from voslab.core import ConfigError
from voslab.engine.settings import Settings
from voslab.methods.checkpoint import merge


def main(config: DictConfig) -> None:
    """Write the mean of the networks in half precision."""
    given, output = config.checkpoints, Path(config.output)
    sources = [Path(source) for source in (given if isinstance(given, ListConfig) else [given])]
    if not sources:
        raise ConfigError("checkpoints=[]: give one or more checkpoints")
    if output.suffix != ".safetensors":
        raise ConfigError(f"output={output}: must end in .safetensors")
    engine = {key: value for key, value in config.engine.items() if value is not None}
    Settings.from_dict(engine, "engine")
    merge(sources, output, engine)
    of = f", the mean of {len(sources)} checkpoints" if len(sources) > 1 else ""
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB{of}")


if __name__ == "__main__":
    run("merge")
