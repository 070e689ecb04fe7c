"""Draws the figures of a study with Matplotlib, from its records and curves."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas

from voslab.core import ConfigError, atomic_path
from voslab.reporting.curves import downsample, points, read_table
from voslab.reporting.page import column
from voslab.reporting.study import Figure, Study
from voslab.reporting.summary import sequence_scores, summarise


def curves(study: Study, figure: Figure) -> Canvas:
    """Plot training loss, and J&F of held-out sequences if there is any, over optimiser steps, one colour per file.

    Files have columns step, train/loss and val/J&F-Mean, as the CSV logger writes them.
    """
    files = {Path(file).stem: read_table(study.folder / file) for file in figure.files}
    scores = {label: points(rows, "val/J&F-Mean") for label, rows in files.items()}
    count = 1 + any(len(steps) for steps, _ in scores.values())
    canvas = Canvas(figsize=(4.5 * count, 3.4), layout="constrained")
    (loss, *others) = canvas.subplots(1, count, squeeze=False)[0]
    for label, rows in files.items():
        steps, losses = points(rows, "train/loss")
        (line,) = loss.plot(downsample(steps), downsample(losses), label=label)
        for score in others:
            steps, values = scores[label]
            score.plot(steps, 100 * values, "o-", color=line.get_color(), label=label)
    loss.set(xlabel="optimiser steps", ylabel="training loss", yscale="log")
    for score in others:
        score.set(xlabel="optimiser steps", ylabel="J&F of held-out sequences")
    for axes in (loss, *others):
        axes.grid(alpha=0.3)
    (others or [loss])[0].legend(fontsize="small")
    return canvas


def sequences(study: Study, figure: Figure) -> Canvas:
    """Plot J&F of every sequence, one bar per row, sorted by the first row."""
    names = figure.rows or list(study.rows)
    found = {name: sequence_scores(study.runs(name)) for name in names}
    if empty := [name for name, scores in found.items() if not scores]:
        raise ConfigError(f"{study.folder / 'study.yaml'}: the record of '{empty[0]}' has no scores per sequence")
    order = sorted(found[names[0]], key=lambda sequence: found[names[0]][sequence])
    canvas = Canvas(figsize=(9, 1 + 0.22 * len(order) * max(1, len(names) / 2)), layout="constrained")
    axes = canvas.subplots()
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        positions = np.arange(len(order)) + 0.4 - height * (i + 0.5)
        values = [100 * found[name].get(sequence, np.nan) for sequence in order]
        axes.barh(positions, values, height, label=_plain(study, name))
    axes.set(
        yticks=np.arange(len(order)), yticklabels=order, xlim=(0, 100), xlabel="J&F", ylim=(-0.6, len(order) - 0.4)
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return canvas


def bubbles(study: Study, figure: Figure) -> Canvas:
    """Plot J&F over frames per second; the area of a bubble is peak memory."""
    canvas = Canvas(figsize=(7, 4), layout="constrained")
    axes = canvas.subplots()
    for name in figure.rows or study.rows:
        runs = study.runs(name)
        speed, score, memory = (
            summarise(runs, metric).mean for metric in ("frames_per_second", "J&F-Mean", "peak_memory_mb")
        )
        axes.scatter(speed, 100 * score, s=0 if np.isnan(memory) else memory / 4, alpha=0.5)
        axes.annotate(_plain(study, name), (speed, 100 * score), fontsize="small", ha="center", va="bottom")
    axes.set(xlabel=column("frames_per_second").heading, ylabel=column("J&F-Mean").heading)
    axes.margins(0.2)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    return canvas


def lines(study: Study, figure: Figure) -> Canvas:
    """Plot one metric over another metric or setting: a point per row, joined from left to right, and marked points."""
    x_metric, y_metric = figure.axes
    canvas = Canvas(figsize=(7, 4.4), layout="constrained")
    axes = canvas.subplots()
    for label, rows in figure.lines.items():
        coords = sorted(tuple(_page_value(study, row, metric) for metric in (x_metric, y_metric)) for row in rows)
        axes.plot(*zip(*coords, strict=True), "o-" if len(coords) > 1 else "o", label=label)
    for label, (x, y) in figure.marks.items():
        axes.plot(x, y, "*", color="black", markersize=9, label=f"_{label}")
        axes.annotate(label, (x, y), (0, -12), textcoords="offset points", fontsize="x-small", ha="center")
    axes.set(xlabel=column(x_metric).heading, ylabel=column(y_metric).heading)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return canvas


KINDS: dict[str, Callable[[Study, Figure], Canvas]] = {
    "curves": curves,
    "sequences": sequences,
    "bubbles": bubbles,
    "lines": lines,
}
"""Kinds of drawn figures; `file` is an existing image."""


def draw(study: Study, name: str) -> Path:
    """Write `figures/<name>.png`, or check that an existing image is present.

    Args:
        study: the study.
        name: name of one of its figures.

    Returns:
        Path of the image.

    Raises:
        ConfigError: if the kind is unknown, or a file is missing or lacks a column.
    """
    figure = study.figures[name]
    path = study.folder / figure.image_path(name)
    where = f"{study.folder / 'study.yaml'}: figures.{name}"
    if figure.kind == "file":
        if not path.is_file():
            raise ConfigError(f"{where}: there is no {path}")
        return path
    if figure.kind not in KINDS:
        raise ConfigError(f"{where}: unknown kind '{figure.kind}', choose from file, {', '.join(KINDS)}")
    try:
        canvas = KINDS[figure.kind](study, figure)
    except (OSError, KeyError, OverflowError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(f"{where}: {error}") from error
    with atomic_path(path) as temporary:
        # Without the library's version in the file, the same numbers give the same bytes.
        canvas.savefig(temporary, dpi=110, metadata={"Software": None})
    return path


def _page_value(study: Study, row: str, name: str) -> float:
    """Return a metric in the unit of the page, or a number of the configuration."""
    runs = study.runs(row)
    if name in runs[0].metrics:
        return summarise(runs, name).mean * column(name).scale
    return runs[0].setting(name)


def _plain(study: Study, row: str) -> str:
    return study.rows[row].label.replace("`", "")
