"""Charts as inline SVG: lines over steps, and bubbles. Colours are classes, so that a page may be light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np

from voslab.reporting.curves import Values

WIDTH, WIDE, HEIGHT = 520, 1000, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 26
COLOURS = 10
"""Classes c0, c1, … that a page gives colours."""
LETTER = 6.2
"""Width of a letter of a label, in units of the drawing, which is about a pixel."""


class Line(NamedTuple):
    """A curve; steps and values are finite."""

    label: str
    colour: int
    steps: Values
    values: Values


class Bubble(NamedTuple):
    """A point with a size of 0..1."""

    label: str
    colour: int
    x: float
    y: float
    size: float


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to the drawing's units."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within."""
        if not self.log:
            return nice(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        decades = self.high / self.low > 50
        found = [m * 10.0**p for p in powers for m in ((1,) if decades else (1, 2, 5))]
        return [value for value in found if self.low <= value <= self.high]


def nice(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 and a power of ten, from `low` to `high`.

    >>> nice(0, 98)
    [0.0, 20.0, 40.0, 60.0, 80.0]
    """
    if high <= low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number of a tick or a tooltip, short.

    >>> number(3000), number(0.00031), number(57.3), number(1.5e6)
    ('3k', '3.1e-04', '57.3', '1.5M')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3g}"


def axis(values: Sequence[float], start: float, end: float, log: bool = False, zero: bool = False) -> Axis:
    """An axis that holds all values with a little room; `zero` makes it begin there."""
    low, high = min(values), max(values)
    if log:
        return Axis(low / 1.15, high * 1.15, start, end, True)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Axis(0.0 if zero and low >= 0 else low - room, high + room, start, end)


def lines(curves: Sequence[Line], log: bool = False) -> str:
    """Curves over steps. A logarithmic axis needs positive values, and is linear where there are others."""
    everything = np.concatenate([curve.values for curve in curves])
    log = log and float(everything.min()) > 0
    x = axis(np.concatenate([curve.steps for curve in curves]).tolist(), LEFT, WIDTH - RIGHT)
    y = axis(everything.tolist(), HEIGHT - BOTTOM, TOP, log)
    parts = _frame(x, y, "step", WIDTH)
    for curve in curves:
        places = [(x.at(s), y.at(v)) for s, v in zip(curve.steps.tolist(), curve.values.tolist(), strict=True)]
        text = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        attributes = f'class="line c{curve.colour % COLOURS}" data-run="{escape(curve.label)}"'
        parts.append(f'<polyline {attributes} points="{text}"/>')
        if len(places) <= 12:
            dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in places)
            parts.append(f"<g {attributes.replace('line ', 'dots ')}>{dots}</g>")
    facts = f'data-x="{x.low},{x.high},{x.start},{x.end}" data-y="{y.low},{y.high},{y.start},{y.end},{int(log)}"'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="chart lines" role="img" {facts}>{"".join(parts)}</svg>'


def bubbles(places: Sequence[Bubble], x_label: str, y_label: str) -> str:
    """Bubbles with their labels beside them where there is room; all labels are tooltips, too."""
    x = axis([one.x for one in places], LEFT, WIDE - RIGHT, zero=True)
    y = axis([one.y for one in places], HEIGHT - BOTTOM, TOP + 12)
    parts = _frame(x, y, x_label, WIDE)
    parts.append(f'<text class="axis" x="{LEFT}" y="{TOP}">{escape(y_label)}</text>')
    drawn = sorted(places, key=lambda one: -one.size)
    radii = {one: 4 + 9 * math.sqrt(one.size) for one in drawn}
    taken = [_box(x.at(one.x), y.at(one.y), radii[one], radii[one]) for one in drawn]
    for one in drawn:
        metadata = f"{one.label}: {number(one.y)} {y_label}, {number(one.x)} {x_label}"
        circle = f'<circle cx="{x.at(one.x):.1f}" cy="{y.at(one.y):.1f}" r="{radii[one]:.1f}"/>'
        parts.append(f'<g class="bubble c{one.colour % COLOURS}"><title>{escape(metadata)}</title>{circle}</g>')
    for one in sorted(places, key=lambda one: one.y):
        half = len(one.label) * LETTER / 2
        right, high = radii[one] + 4 + half, radii[one] + 8
        for dx, dy in ((right, 0), (-right, 0), (0, -high), (0, high), (right, -8), (right, 8), (-right, 8)):
            at_x, at_y = x.at(one.x) + dx, y.at(one.y) + dy
            box = _box(at_x, at_y, half, 5)
            inside = box[0] >= LEFT and box[2] <= WIDE and TOP <= at_y <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(f'<text class="label" x="{at_x:.1f}" y="{at_y + 4:.1f}">{escape(one.label)}</text>')
                break
    return f'<svg viewBox="0 0 {WIDE} {HEIGHT}" class="chart broad" role="img">{"".join(parts)}</svg>'


def _frame(x: Axis, y: Axis, x_label: str, width: int) -> list[str]:
    """Grid, ticks and the name of the horizontal axis."""
    right, parts = width - RIGHT, []
    for value in y.ticks():
        at = y.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{at + 4:.1f}">{number(value)}</text>')
    for value in x.ticks():
        parts.append(f'<text class="tick middle" x="{x.at(value):.1f}" y="{HEIGHT - 8}">{number(value)}</text>')
    parts.append(f'<text class="axis end" x="{right}" y="{HEIGHT - BOTTOM - 5}">{escape(x_label)}</text>')
    return parts


def _box(x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    return x - half_width, y - half_height, x + half_width, y + half_height


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
