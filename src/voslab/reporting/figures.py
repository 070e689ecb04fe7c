"""Figures of a study, drawn with Matplotlib from its records and the curves beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Canvas

from voslab.core import ConfigError, atomic_path
from voslab.reporting.curves import points, read_table, thinned
from voslab.reporting.page import column
from voslab.reporting.records import sequence_scores, summarise
from voslab.reporting.study import Figure, Study


def curves(study: Study, figure: Figure) -> Canvas:
    """Training loss, and J&F of held-out sequences where there is some, over optimiser steps: a colour per file.

    Files have columns step, train/loss and val/J&F-Mean, as the CSV logger writes them.
    """
    files = {Path(file).stem: read_table(study.folder / file) for file in figure.files}
    scores = {label: points(rows, "val/J&F-Mean") for label, rows in files.items()}
    count = 1 + any(len(steps) for steps, _ in scores.values())
    canvas = Canvas(figsize=(4.5 * count, 3.4), layout="constrained")
    (loss, *others) = canvas.subplots(1, count, squeeze=False)[0]
    for label, rows in files.items():
        steps, losses = points(rows, "train/loss")
        (line,) = loss.plot(thinned(steps), thinned(losses), label=label)
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
    """J&F of every sequence, a bar per row, sorted by the first row that is shown."""
    names = figure.rows or list(study.rows)
    found = {name: sequence_scores(study.runs(name)) for name in names}
    if empty := [name for name, scores in found.items() if not scores]:
        raise ConfigError(f"{study.folder / 'study.yaml'}: the record of '{empty[0]}' holds no sequences")
    order = sorted(found[names[0]], key=lambda sequence: found[names[0]][sequence])
    canvas = Canvas(figsize=(9, 1 + 0.22 * len(order) * max(1, len(names) / 2)), layout="constrained")
    axes = canvas.subplots()
    height = 0.8 / len(names)
    for i, name in enumerate(names):
        at = np.arange(len(order)) + 0.4 - height * (i + 0.5)
        axes.barh(at, [100 * found[name].get(one, np.nan) for one in order], height, label=_plain(study, name))
    axes.set(
        yticks=np.arange(len(order)), yticklabels=order, xlim=(0, 100), xlabel="J&F", ylim=(-0.6, len(order) - 0.4)
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return canvas


def bubbles(study: Study, figure: Figure) -> Canvas:
    """J&F against frames per second; the area of a bubble is peak memory."""
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
    """One metric against another or a setting: a point per row, lines from left to right, and marked points."""
    across, up = figure.axes
    canvas = Canvas(figsize=(7, 4.4), layout="constrained")
    axes = canvas.subplots()
    for label, rows in figure.lines.items():
        places = sorted(tuple(_on_page(study, row, metric) for metric in (across, up)) for row in rows)
        axes.plot(*zip(*places, strict=True), "o-" if len(places) > 1 else "o", label=label)
    for label, (x, y) in figure.marks.items():
        axes.plot(x, y, "*", color="black", markersize=9, label=f"_{label}")
        axes.annotate(label, (x, y), (0, -12), textcoords="offset points", fontsize="x-small", ha="center")
    axes.set(xlabel=column(across).heading, ylabel=column(up).heading)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return canvas


KINDS: dict[str, Callable[[Study, Figure], Canvas]] = {
    "curves": curves,
    "sequences": sequences,
    "bubbles": bubbles,
    "lines": lines,
}
"""What can be drawn; `file` stands for a picture that is there already."""


def draw(study: Study, name: str) -> Path:
    """Write `figures/<name>.png`, or see that it is there.

    Raises:
        ConfigError: for an unknown kind, or a file that is missing or has no such columns.
    """
    figure = study.figures[name]
    path = study.folder / figure.place(name)
    where = f"{study.folder / 'study.yaml'}: figures.{name}"
    if figure.kind == "file":
        if not path.is_file():
            raise ConfigError(f"{where}: there is no {path}")
        return path
    if figure.kind not in KINDS:
        raise ConfigError(f"{where}: unknown kind '{figure.kind}', choose from file, {', '.join(KINDS)}")
    try:
        canvas = KINDS[figure.kind](study, figure)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    with atomic_path(path) as temporary:
        # Without the library's version in it, the same numbers give the same file.
        canvas.savefig(temporary, dpi=110, metadata={"Software": None})
    return path


def _on_page(study: Study, row: str, name: str) -> float:
    """A metric in the unit of the page, or a number of the configuration as it is."""
    runs = study.runs(row)
    if name in runs[0].content["metrics"]:
        return summarise(runs, name).mean * column(name).scale
    return runs[0].setting(name)


def _plain(study: Study, row: str) -> str:
    return study.rows[row].label.replace("`", "")
