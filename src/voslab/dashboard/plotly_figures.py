"""Draws the panels of the dashboard as plotly figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go  # type: ignore[import-untyped]
from plotly.colors import qualitative  # type: ignore[import-untyped]

from voslab.dashboard.runs import Run, grouped, shorten
from voslab.reporting.curves import downsample
from voslab.reporting.page import Column, column

PALETTE = qualitative.D3
DASHES = ("solid", "dash", "dot")
MAX_POINTS = 200
"""Maximum number of points of a curve; longer curves are averaged over equal parts."""
VISIBLE_RUNS = 5
"""Number of runs that a chart of sequences shows at first; the legend shows the others."""
BAR_HEIGHT, MAX_LEGEND = 22, 110
"""Height of a bar and maximum height of a legend in pixels."""


def metric_column(metric: str) -> Column:
    """Return the format of a metric under its logged name, such as `test/J&F-Mean`."""
    prefix, _, name = metric.rpartition("/")
    return column("J&F-Mean" if prefix in ("val/sequences", "val/J", "val/F") else name)


def format_summary(run: Run, metric: str) -> str:
    """Format a metric of the summary, with ± standard deviation if there is one; "-" if it was not measured."""
    if metric not in run.summary:
        return "-"
    kind = metric_column(metric)
    text = f"{run.summary[metric] * kind.scale:.{kind.digits}f}"
    spread = run.spread.get(metric)
    return text if spread is None else f"{text} ± {spread * kind.scale:.{kind.digits}f}"


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of a line plot.

    Attributes:
        run: run that logged it.
        metric: its name in the history of the run.
        label: name in the legend.
        number: number of the curve, which selects colour and dash.
    """

    run: Run
    metric: str
    label: str
    number: int


def line_plot(curves: Sequence[Curve], log: bool = False) -> go.Figure:
    """Draw curves over training steps.

    Args:
        curves: at least one curve.
        log: whether to use a logarithmic axis; ignored if a value is not positive.
    """
    figure = go.Figure()
    positive = True
    for curve in curves:
        steps, values = (downsample(part, MAX_POINTS) for part in curve.run.history[curve.metric])
        positive &= bool((values > 0).all())
        figure.add_scatter(
            x=steps.tolist(),
            y=(values * metric_column(curve.metric).scale).tolist(),
            name=escape(shorten(curve.label)),
            mode="lines+markers" if len(steps) <= 12 else "lines",
            line={"color": _colour(curve.number), "dash": DASHES[curve.number // len(PALETTE) % len(DASHES)]},
            hovertemplate="%{y:.4g}",
        )
    _style(figure, 290, len(curves))
    figure.update_layout(hovermode="x unified", xaxis_title="step")
    if log and positive:
        figure.update_yaxes(type="log", dtick="D2")
    return figure


def scatter_plot(runs: Sequence[Run], x: str, y: str, size: str) -> go.Figure:
    """Draw a bubble per run in the colour of its group; runs on the Pareto front are labelled.

    Args:
        runs: runs whose summary has the metrics `x` and `y`.
        x: metric of the horizontal axis.
        y: metric of the vertical axis.
        size: metric of the bubble's area.
    """
    largest = max((run.summary.get(size, 0.0) for run in runs), default=0.0) or 1.0
    kept = labelled_points([(run.summary[x], run.summary[y]) for run in runs])
    labelled = {id(runs[number]) for number in kept}
    headings = [metric_column(metric).heading for metric in (x, y, size)]
    figure = go.Figure()
    groups = grouped(runs)
    for number, (group, members) in enumerate(groups.items()):
        figure.add_scatter(
            x=[run.summary[x] * metric_column(x).scale for run in members],
            y=[run.summary[y] * metric_column(y).scale for run in members],
            name=escape(shorten(group)),
            mode="markers+text",
            text=[escape(shorten(run.name)) if id(run) in labelled else "" for run in members],
            textposition="top center",
            cliponaxis=False,
            customdata=[
                [escape(run.name), *(format_summary(run, metric) for metric in (x, y, size))] for run in members
            ],
            marker={
                "color": _colour(number),
                "opacity": 0.65,
                "size": [8 + 18 * math.sqrt(run.summary.get(size, 0.0) / largest) for run in members],
            },
            hovertemplate="<b>%{customdata[0]}</b>"
            + "".join(f"<br>{escape(name)}: %{{customdata[{i}]}}" for i, name in enumerate(headings, 1))
            + "<extra></extra>",
        )
    _style(figure, 380, len(groups) if len(groups) > 1 else 0)
    figure.update_layout(xaxis_title=escape(headings[0]), yaxis_title=escape(headings[1]))
    figure.update_xaxes(rangemode="tozero")
    return figure


def bar_plot(runs: Sequence[Run], metric: str) -> go.Figure:
    """Draw a horizontal bar per run, in the given order from the top."""
    kind = metric_column(metric)
    positions = list(range(len(runs)))
    figure = go.Figure(
        go.Bar(
            x=[run.summary[metric] * kind.scale for run in runs],
            y=positions,
            orientation="h",
            marker_color=_colour(0),
            text=[format_summary(run, metric) for run in runs],
            textposition="outside",
            cliponaxis=False,
            hovertext=[escape(run.name) for run in runs],
            hovertemplate="%{hovertext}: %{text}<extra></extra>",
        )
    )
    _style(figure, 70 + BAR_HEIGHT * len(runs))
    figure.update_layout(xaxis_title=escape(kind.heading), bargap=0.25)
    names = [escape(shorten(run.name)) for run in runs]
    figure.update_yaxes(tickvals=positions, ticktext=names, autorange="reversed", showgrid=False, ticklabelstandoff=6)
    return figure


def sequence_plot(runs: Sequence[Run], names: Sequence[str]) -> go.Figure:
    """Draw J&F of every sequence as bars, one colour per run; the first runs are visible at first.

    Args:
        runs: runs with scores of sequences.
        names: sequences in the order of the horizontal axis.
    """
    figure = go.Figure()
    for number, run in enumerate(runs):
        found = [name for name in names if name in run.sequences]
        figure.add_bar(
            x=[escape(name) for name in found],
            y=[round(100 * run.sequences[name], 2) for name in found],
            name=escape(shorten(run.name)),
            marker_color=_colour(number),
            visible=True if number < VISIBLE_RUNS else "legendonly",
            hovertemplate="%{y:.1f}",
        )
    _style(figure, 340, len(runs))
    figure.update_layout(hovermode="x unified", barmode="group", yaxis_title=escape("J&F"))
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=[escape(name) for name in names])
    return figure


def labelled_points(points: Sequence[tuple[float, float]]) -> list[int]:
    """Select the points of the Pareto front whose labels do not overlap, highest first.

    Args:
        points: horizontal and vertical coordinates.

    Returns:
        Indices of points that no other point exceeds in both coordinates, at a distance from each other of at least
        a fifth of the range horizontally or a twelfth vertically.

    Example:
        >>> labelled_points([(1.0, 3.0), (9.0, 2.0), (1.0, 2.0)])
        [0, 1]
    """
    front = [
        number
        for number, (x, y) in enumerate(points)
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points)
    ]
    width, height = (max(axis) - min(axis) for axis in zip(*points, strict=True))
    chosen: list[int] = []
    for number in sorted(front, key=lambda number: -points[number][1]):
        x, y = points[number]
        if all(abs(x - points[i][0]) > width / 5 or abs(y - points[i][1]) > height / 12 for i in chosen):
            chosen.append(number)
    return chosen


def _colour(number: int) -> str:
    return str(PALETTE[number % len(PALETTE)])


def _style(figure: go.Figure, height: int, entries: int = 0) -> None:
    """Set the layout that all figures share; the page's CSS sets the colour of text for light and dark mode.

    Args:
        figure: figure to change.
        height: height without the legend in pixels.
        entries: number of entries of the legend; 0 hides it.
    """
    grid, transparent = "rgba(128, 128, 128, 0.2)", "rgba(0, 0, 0, 0)"
    legend = min(MAX_LEGEND, 22 * math.ceil(entries / 3))
    figure.update_layout(
        template="none",
        height=height + legend,
        margin={"l": 50, "r": 15, "t": 25, "b": 45 + legend},
        paper_bgcolor=transparent,
        plot_bgcolor=transparent,
        font={"family": "system-ui, sans-serif", "size": 12},
        modebar={"bgcolor": transparent, "color": "#8a93a3", "activecolor": "#2f6feb"},
        showlegend=entries > 0,
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "maxheight": MAX_LEGEND,
            "bgcolor": transparent,
        },
    )
    figure.update_xaxes(automargin="height", gridcolor=grid, zeroline=False, title_standoff=6)
    figure.update_yaxes(automargin=True, gridcolor=grid, zeroline=False, title_standoff=6)
