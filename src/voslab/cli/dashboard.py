"""The dashboards: `python -m src.dashboard [runs=FOLDER] [output=DIR]` writes them as a page of HTML.

`upload=ENTITY/PROJECT` makes the same panels in a project of W&B instead.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from voslab.cli.entry import entry, plain
from voslab.core import ConfigError, atomic_write
from voslab.dashboard.page import page_of
from voslab.dashboard.runs import read_runs
from voslab.dashboard.workspace import upload


@entry("dashboard")
def main(config: DictConfig) -> None:
    """Write `output/index.html`, or upload."""
    if config.upload is not None:
        for address in upload(str(config.upload)):
            print(f"dashboard: {address}")
        return
    folders = plain(config.runs)
    folders = folders if isinstance(folders, list) else [folders]
    if not folders or not all(isinstance(folder, str) and folder for folder in folders):
        raise ConfigError(f"runs={config.runs}: must name a folder, or be a list of them")
    runs = [run for folder in folders for run in read_runs(Path(folder))]
    path = Path(config.output) / "index.html"
    text = page_of(runs)
    atomic_write(path, text)
    curves, scores = sum(bool(run.history) for run in runs), sum(bool(run.summary) for run in runs)
    print(f"{curves} with curves, {scores} with scores, {len(text) / 2**20:.1f} MB")
    print(f"dashboard: {path} (opens in any browser)")


if __name__ == "__main__":
    main()
