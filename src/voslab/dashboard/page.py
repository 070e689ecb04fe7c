"""Renders the dashboard as one HTML page that works offline."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import count
from pathlib import Path
from string import Template

import plotly.graph_objects as go  # type: ignore[import-untyped]
from plotly.io import to_html  # type: ignore[import-untyped]
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from voslab.dashboard.plotly_figures import (
    Curve,
    bar_plot,
    format_summary,
    line_plot,
    metric_column,
    scatter_plot,
    sequence_plot,
)
from voslab.dashboard.runs import Run, grouped
from voslab.dashboard.views import VIEWS, Panel, View
from voslab.video.images import opened_image

TEMPLATE = Path(__file__).with_suffix(".html")
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d"],
}
"""Settings of plotly; its buttons that link or upload to the plotly service are removed."""
MAX_IMAGES, MAX_WIDTH = 24, 900
"""Maximum number of images of a group, and their maximum width in pixels."""


def page_of(runs: Sequence[Run], views: Sequence[View] = VIEWS) -> str:
    """Render the page; equal runs give an equal page.

    Each group of runs is one section, of which the page shows one at a time. If there are several groups, the first
    section compares them: it shows the first view for all runs.

    Raises:
        DataError: if an image cannot be read.
    """
    ids = count()
    groups = grouped(runs)
    sections = [(group, members, views) for group, members in groups.items()]
    if len(groups) > 1:
        sections.insert(0, (f"All {len(groups)} groups", list(runs), views[:1]))
    trained, scored = sum(bool(run.history) for run in runs), sum(bool(run.summary) for run in runs)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        plotly=get_plotlyjs(),
        options="".join(f'<option value="{i}">{escape(title)}</option>' for i, (title, *_) in enumerate(sections)),
        facts=f"{trained} with curves, {scored} with scores",
        sections="\n".join(
            f'<template id="section-{i}">{Section(members, ids).render(shown)}</template>'
            for i, (_, members, shown) in enumerate(sections)
        ),
    )


class Section:
    """Renders the panels of a group of runs.

    Args:
        runs: runs of the section.
        ids: numbers for the identifiers of figures, shared by all sections of a page.
    """

    def __init__(self, runs: Sequence[Run], ids: count[int]) -> None:
        self.runs = runs
        self._ids = ids
        self._subtitled = len(grouped(runs)) > 1
        self._renderers: dict[str, Callable[[Panel], list[str]]] = {
            "number": self._number,
            "lines": self._lines,
            "scatter": self._scatter,
            "bars": self._bars,
            "table": self._table,
            "sequences": self._sequences,
            "media": self._media,
        }

    def render(self, views: Sequence[View]) -> str:
        """Render views as HTML, with links to them if there are several."""
        links = "".join(f'<a href="#{view.name.lower()}">{escape(view.name)}</a>' for view in views)
        return (f"<nav>{links}</nav>" if len(views) > 1 else "") + "".join(map(self._view, views))

    def _view(self, view: View) -> str:
        """Render the panels of a view by section; titles of panels without data are listed at the end."""
        parts, absent = [], []
        for group, panels in view.groups().items():
            cards = {panel: self._renderers[panel.kind](panel) for panel in panels}
            absent += [panel.title for panel in panels if not cards[panel]]
            if any(cards.values()):
                kind = " numbers" if all(panel.kind == "number" for panel in panels) else ""
                content = "".join(card for found in cards.values() for card in found)
                parts.append(f'<h2>{escape(group)}</h2><div class="cards{kind}">{content}</div>')
        nothing = f'<p class="absent">Nothing was logged for: {escape("; ".join(absent))}.</p>' if absent else ""
        head = f'<h1 id="{view.name.lower()}">{escape(view.name)}</h1><p>{escape(view.question)}</p>'
        return f"<section>{head}{''.join(parts)}{nothing}</section>"

    def _number(self, panel: Panel) -> list[str]:
        """Render the best run of each group; groups may have been evaluated on different data."""
        [metric] = panel.metrics
        cards = []
        for group, runs in grouped([run for run in self.runs if metric in run.summary]).items():
            best = max(runs, key=lambda run: run.summary[metric])
            unit = escape(metric_column(metric).heading)
            value = f'<div class="number">{format_summary(best, metric)} <small>{unit}</small></div>'
            cards.append(_card(panel.title, f"{value}<p>{escape(best.name)}</p>", subtitle=self._subtitle(group)))
        return cards

    def _lines(self, panel: Panel) -> list[str]:
        """Render one chart with a curve per run, or a chart per run if a run has several of the metrics."""
        trained = [run for run in self.runs if run.history]
        metrics = [[metric for pattern in panel.metrics for metric in run.named(pattern)] for run in trained]
        if all(len(names) <= 1 for names in metrics):
            curves = [
                Curve(run, name, run.name, number)
                for number, (run, names) in enumerate(zip(trained, metrics, strict=True))
                for name in names
            ]
            return [_card(panel.title, self._plot(line_plot(curves, panel.log)), panel.note)] if curves else []
        cards = []
        for run, names in zip(trained, metrics, strict=True):
            curves = [Curve(run, name, name.rpartition("/")[2], number) for number, name in enumerate(names)]
            if curves:
                cards.append(_card(panel.title, self._plot(line_plot(curves, panel.log)), panel.note, run.name))
        return cards

    def _scatter(self, panel: Panel) -> list[str]:
        """Render a bubble per run; of runs with equal numbers, the first one."""
        x, y, size = panel.metrics
        found = {(run.summary[x], run.summary[y]): run for run in reversed(self.runs) if {x, y} <= run.summary.keys()}
        if not found:
            return []
        figure = scatter_plot(list(reversed(found.values())), x, y, size)
        return [_card(panel.title, self._plot(figure), panel.note, kind="wide")]

    def _bars(self, panel: Panel) -> list[str]:
        [metric] = panel.metrics
        return [
            _card(panel.title, self._plot(bar_plot(runs, metric)), panel.note, self._subtitle(group), "wide")
            for group, runs in grouped([run for run in self.runs if metric in run.summary]).items()
        ]

    def _table(self, panel: Panel) -> list[str]:
        """Render a table per group; it shows all metrics of the group if it has none of the panel's."""
        cards = []
        for group, runs in grouped([run for run in self.runs if run.summary]).items():
            measured = dict.fromkeys(metric for run in runs for metric in run.summary)
            metrics = [metric for metric in panel.metrics if metric in measured] or list(measured)
            head = ["", *(metric_column(metric).heading for metric in metrics)]
            rows = [[run.name, *(format_summary(run, metric) for metric in metrics)] for run in runs]
            cards.append(_card(panel.title, _html_table(head, rows), panel.note, self._subtitle(group), "wide"))
        return cards

    def _sequences(self, panel: Panel) -> list[str]:
        """Render bars per sequence, lowest mean first, and all values as a table."""
        cards = []
        for group, runs in grouped([run for run in self.runs if run.sequences]).items():
            scores: dict[str, list[float]] = {}
            for run in runs:
                for name, score in run.sequences.items():
                    scores.setdefault(name, []).append(score)
            names = sorted(scores, key=lambda name: (math.fsum(scores[name]) / len(scores[name]), name))
            rows = [
                [name, *(f"{100 * run.sequences[name]:.1f}" if name in run.sequences else "-" for run in runs)]
                for name in names
            ]
            table = (
                f"<details><summary>Values</summary>{_html_table(['', *(run.name for run in runs)], rows)}</details>"
            )
            content = self._plot(sequence_plot(runs, names)) + table
            cards.append(_card(panel.title, content, panel.note, self._subtitle(group), "wide"))
        return cards

    def _media(self, panel: Panel) -> list[str]:
        found = [(run, caption, path) for run in self.runs for caption, path in run.images.items()]
        return [
            f'<figure class="card"><img alt="{escape(caption)}" src="{_image_url(path)}">'
            f"<figcaption><b>{escape(run.name)}</b>: {escape(caption)}</figcaption></figure>"
            for run, caption, path in found[:MAX_IMAGES]
        ]

    def _subtitle(self, group: str) -> str:
        """Return the name of a group for a card if the section has several groups."""
        return group if self._subtitled else ""

    def _plot(self, figure: go.Figure) -> str:
        name = f"plot-{next(self._ids)}"
        return str(to_html(figure, dict(CONFIG), full_html=False, include_plotlyjs=False, div_id=name))


def _card(title: str, content: str, note: str = "", subtitle: str = "", kind: str = "") -> str:
    below = f"<p>{escape(note)}</p>" if note else ""
    small = f"<small>{escape(subtitle)}</small>" if subtitle else ""
    return f'<div class="card {kind}"><h3>{escape(title)}{small}</h3>{content}{below}</div>'


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _image_url(path: Path) -> str:
    """Return a reduced WebP copy of an image as a `data:` URL."""
    with opened_image(path) as image:
        small = image.convert("RGB")
        small.thumbnail((MAX_WIDTH, 4 * MAX_WIDTH))
    data = io.BytesIO()
    small.save(data, format="WEBP", quality=60)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
