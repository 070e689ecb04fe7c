"""The dashboards as one HTML page that needs neither network nor account: `page_of(runs)`."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template

from PIL import Image, UnidentifiedImageError

from voslab.core import DataError
from voslab.dashboard.charts import COLOURS, Bubble, Line, bubbles, lines
from voslab.dashboard.runs import Run, grouped
from voslab.dashboard.views import VIEWS, Panel, View
from voslab.reporting.curves import thinned
from voslab.reporting.page import Column, column

TEMPLATE = Path(__file__).with_suffix(".html")
POINTS = 200
"""Most points of a curve."""
PICTURES, PIXELS = 24, 900
"""Most pictures of a page, and their largest width."""


def page_of(runs: Sequence[Run], views: Sequence[View] = VIEWS) -> str:
    """The page, the same for the same runs.

    Raises:
        DataError: a picture cannot be read.
    """
    trained = [run for run in runs if run.history]
    colours = {run.name: number for number, run in enumerate(trained)}
    drawn = Page(runs, colours)
    scored = sum(bool(run.summary) for run in runs)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        colours="\n".join(f".c{i} {{ --c: var(--c{i}); }}" for i in range(COLOURS)),
        links="".join(f'<a href="#{view.name.lower()}">{escape(view.name)}</a>' for view in views),
        facts=f"{len(trained)} with curves, {scored} with scores",
        views="\n".join(drawn.view(view) for view in views),
    )


class Page:
    """Draws panels.

    Args:
        runs: that it shows.
        colours: of runs with curves, by name.
    """

    def __init__(self, runs: Sequence[Run], colours: dict[str, int]) -> None:
        self.runs = runs
        self.colours = colours
        self._kinds: dict[str, Callable[[Panel], list[str]]] = {
            "number": self._number,
            "lines": self._lines,
            "scatter": self._scatter,
            "bars": self._bars,
            "table": self._table,
            "sequences": self._sequences,
            "media": self._media,
        }

    def view(self, view: View) -> str:
        """A part of the page; panels that have nothing to show are named at its end."""
        parts, absent = [], []
        curves = False
        for group, panels in view.groups().items():
            cards = {panel: self._kinds[panel.kind](panel) for panel in panels}
            absent += [panel.title for panel in panels if not cards[panel]]
            curves |= any(panel.kind == "lines" for panel in panels if cards[panel])
            if any(cards.values()):
                kind = " numbers" if all(panel.kind == "number" for panel in panels) else ""
                content = "".join(card for found in cards.values() for card in found)
                parts.append(f'<h2>{escape(group)}</h2><div class="cards{kind}">{content}</div>')
        nothing = f'<p class="absent">Nothing was logged for: {escape("; ".join(absent))}.</p>' if absent else ""
        head = f'<h1 id="{view.name.lower()}">{escape(view.name)}</h1><p>{escape(view.question)}</p>'
        return f"<section>{head}{self._legend() if curves else ''}{''.join(parts)}{nothing}</section>"

    def _legend(self) -> str:
        buttons = (
            f'<button data-run="{name}" aria-pressed="true"><i class="c{i % COLOURS}"></i>{name}</button>'
            for name, i in ((escape(run), number) for run, number in self.colours.items())
        )
        return f'<div class="legend">{"".join(buttons)}</div>'

    def _number(self, panel: Panel) -> list[str]:
        [metric] = panel.metrics
        found = [run for run in self.runs if metric in run.summary]
        if not found:
            return []
        unit = _column(metric).heading
        cards = []
        # Runs of other groups may have seen other data.
        for group in dict.fromkeys(run.group for run in found):
            best = max((run for run in found if run.group == group), key=lambda run: run.summary[metric])
            value = f'<div class="number">{_shown(best, metric)} <small>{escape(unit)}</small></div>'
            cards.append(_card(panel.title, f"{value}<p>{escape(best.name)} · {escape(group)}</p>"))
        return cards

    def _lines(self, panel: Panel) -> list[str]:
        """One chart with a colour per run; where a run has several of the metrics, a chart per run."""
        found = [(run, metric) for run in self.runs for pattern in panel.metrics for metric in run.named(pattern)]
        if not found:
            return []
        if len(found) == len({id(run) for run, _ in found}):
            curves = [_line(run, metric, run.name, self.colours[run.name]) for run, metric in found]
            return [_card(panel.title, lines(curves, panel.log), panel.note)]
        cards = []
        for run in self.runs:
            metrics = [metric for one, metric in found if one is run]
            curves = [_line(run, name, name.rpartition("/")[2], i) for i, name in enumerate(metrics)]
            if curves:
                drawn = lines(curves, panel.log) + _keys([curve.label for curve in curves])
                cards.append(_card(panel.title, drawn, panel.note, run.name))
        return cards

    def _scatter(self, panel: Panel) -> list[str]:
        x, y, size = panel.metrics
        found = {(run.summary[x], run.summary[y]): run for run in reversed(self.runs) if {x, y} <= run.summary.keys()}
        if not found:
            return []
        chosen = list(reversed(found.values()))
        groups = list(dict.fromkeys(run.group for run in chosen))
        largest = max((run.summary.get(size, 0.0) for run in chosen), default=0.0) or 1.0
        places = [
            Bubble(
                run.name,
                groups.index(run.group),
                run.summary[x] * _column(x).scale,
                run.summary[y] * _column(y).scale,
                run.summary.get(size, 0.0) / largest,
            )
            for run in chosen
        ]
        drawn = bubbles(places, _column(x).heading, _column(y).heading)
        return [_card(panel.title, drawn + (_keys(groups) if len(groups) > 1 else ""), panel.note, kind="wide")]

    def _bars(self, panel: Panel) -> list[str]:
        [metric] = panel.metrics
        cards = []
        for colour, (group, runs) in enumerate(grouped([run for run in self.runs if metric in run.summary]).items()):
            largest = max(run.summary[metric] for run in runs) or 1.0
            rows = (_bar(run, metric, run.summary[metric] / largest, colour) for run in runs)
            cards.append(_card(panel.title, f'<div class="bars">{"".join(rows)}</div>', panel.note, group))
        return cards

    def _table(self, panel: Panel) -> list[str]:
        """A table per group; one that measured none of the panel's metrics shows what it did measure."""
        cards = []
        for group, runs in grouped([run for run in self.runs if run.summary]).items():
            there = dict.fromkeys(metric for run in runs for metric in run.summary)
            metrics = [metric for metric in panel.metrics if metric in there] or list(there)
            rows = [[escape(run.name), *(_shown(run, metric) for metric in metrics)] for run in runs]
            content = _html_table(["", *(_column(metric).heading for metric in metrics)], rows)
            cards.append(_card(panel.title, content, panel.note, group, "wide"))
        return cards

    def _sequences(self, panel: Panel) -> list[str]:
        """Hardest first; a bar in each cell."""
        cards = []
        for group, runs in grouped([run for run in self.runs if run.sequences]).items():
            names = {name for run in runs for name in run.sequences}
            means = {name: _mean([run.sequences[name] for run in runs if name in run.sequences]) for name in names}
            rows: list[list[str | float]] = [
                [escape(name), *(run.sequences.get(name, math.nan) for run in runs)]
                for name in sorted(names, key=lambda name: (means[name], name))
            ]
            content = _html_table(["", *(run.name for run in runs)], rows)
            cards.append(_card(panel.title, content, panel.note, group, "wide"))
        return cards

    def _media(self, panel: Panel) -> list[str]:
        found = [(run, caption, path) for run in self.runs for caption, path in run.pictures.items()]
        return [
            f'<figure class="card"><img alt="{escape(caption)}" src="{_picture(path)}">'
            f"<figcaption><b>{escape(run.name)}</b>: {escape(caption)}</figcaption></figure>"
            for run, caption, path in found[:PICTURES]
        ]


def _line(run: Run, metric: str, label: str, colour: int) -> Line:
    steps, values = (thinned(part, POINTS) for part in run.history[metric])
    return Line(label, colour, steps, values * _column(metric).scale)


def _column(metric: str) -> Column:
    place, _, name = metric.rpartition("/")
    return column("J&F-Mean" if place in ("val/sequences", "val/J", "val/F") else name)


def _shown(run: Run, metric: str) -> str:
    if metric not in run.summary:
        return "-"
    kind = _column(metric)
    text = f"{run.summary[metric] * kind.scale:.{kind.digits}f}"
    spread = run.spread.get(metric)
    return text if spread is None else f"{text} ± {spread * kind.scale:.{kind.digits}f}"


def _card(title: str, content: str, note: str = "", about: str = "", kind: str = "") -> str:
    below = f"<p>{escape(note)}</p>" if note else ""
    small = f"<small>{escape(about)}</small>" if about else ""
    return f'<div class="card {kind}"><h3>{escape(title)}{small}</h3>{content}{below}</div>'


def _bar(run: Run, metric: str, share: float, colour: int) -> str:
    width = f"width:{100 * min(1.0, max(0.0, share)):.1f}%"
    bar = f'<div><i class="c{colour % COLOURS}" style="{width}"></i></div>'
    return f"<span>{escape(run.name)}</span>{bar}<b>{_shown(run, metric)}</b>"


def _keys(labels: Sequence[str]) -> str:
    """What the colours of one chart stand for."""
    keys = (f'<span><i class="c{i % COLOURS}"></i>{escape(label)}</span>' for i, label in enumerate(labels))
    return f'<div class="keys">{"".join(keys)}</div>'


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Words are HTML already; numbers, of 0..1, are bars of per cent."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f"<td>{value}</td>"
    if math.isnan(value):
        return "<td>-</td>"
    return f'<td class="fill" style="--w:{100 * value:.0f}%">{100 * value:.1f}</td>'


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _picture(path: Path) -> str:
    """A JPEG as a `data:` address, reduced."""
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((PIXELS, 4 * PIXELS))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: no picture ({error})") from error
    data = io.BytesIO()
    small.save(data, format="JPEG", quality=78)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
