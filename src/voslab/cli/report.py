"""Rebuilds the pages of `experiments/` from run records: `python -m src.report [study=NAME]`."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from voslab.cli.entry import run
from voslab.core import ConfigError, atomic_write
from voslab.core.parameters import nearest
from voslab.reporting.figures import draw
from voslab.reporting.index import index
from voslab.reporting.page import page, table_csv
from voslab.reporting.study_files import read_study, study_folders


def main(config: DictConfig) -> None:
    """Write `README.md`, `table.csv` and `figures/` of one study, or of all studies, and the overview of all."""
    root = Path(config.paths.experiments)
    folders = {folder.name: folder for folder in study_folders(root)}
    if config.study is not None and config.study not in folders:
        known = f"{nearest(str(config.study), folders)} (there are {', '.join(folders) or 'none'})"
        raise ConfigError(f"study={config.study}: no {root / str(config.study) / 'study.yaml'}{known}")
    written = {}
    for name, folder in folders.items() if config.study is None else [(config.study, folders[config.study])]:
        written[name] = study = read_study(folder)
        text, table = page(study), table_csv(study)
        for figure in study.figures:
            draw(study, figure)
        atomic_write(folder / "table.csv", table)
        atomic_write(folder / "README.md", text)
        summary = f"{len(study.rows)} rows of {len(study.records)} records, {len(study.figures)} figures"
        print(f"{folder / 'README.md'}: {summary}")
    if folders:
        studies = [written.get(name) or read_study(folder) for name, folder in folders.items()]
        atomic_write(root / "README.md", index(studies))


if __name__ == "__main__":
    run("report")
