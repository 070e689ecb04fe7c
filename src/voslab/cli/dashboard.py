"""Writes the dashboard as an HTML page, or uploads it to W&B."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from voslab.cli.entry import plain, run
from voslab.core import ConfigError, atomic_write
from voslab.dashboard.runs import read_runs
from voslab.dashboard.workspace import upload


def main(config: DictConfig) -> None:
    """Write `output/index.html`, or create the same panels in the W&B project `upload`."""
    if config.upload is not None:
        for url in upload(str(config.upload)):
            print(f"dashboard: {url}")
        return
    folders = plain(config.runs)
    folders = folders if isinstance(folders, list) else [folders]
    if not folders or not all(isinstance(folder, str) and folder for folder in folders):
        raise ConfigError(f"runs={config.runs}: must be a folder or a list of folders")
    runs = [run for folder in folders for run in read_runs(Path(folder))]
    try:
        from voslab.dashboard.page import page_of
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "plotly":
            raise
        raise ConfigError("the dashboard needs plotly: pip install 'voslab[dashboard]'") from error
    path = Path(config.output) / "index.html"
    text = page_of(runs)
    atomic_write(path, text)
    curves, scores = sum(bool(run.history) for run in runs), sum(bool(run.summary) for run in runs)
    print(f"{curves} with curves, {scores} with scores, {len(text) / 2**20:.1f} MB")
    print(f"dashboard: {path} (opens in any browser)")


if __name__ == "__main__":
    run("dashboard")
