"""The dashboards, declared once: what the HTML page and the W&B workspaces are both made of.

Metrics go by the names under which trainings log them, `test/` before those of `metrics.json`. One that ends in `*`
stands for all that begin so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "lines", "scatter", "bars", "table", "sequences", "media"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        title: above it.
        kind: `number`: the best value; `lines`: over steps, a line per run; `scatter`: a bubble per run at the first
            metric, the second one high, of the third's size; `bars`: one per run; `table`: runs by metrics;
            `sequences`: sequences by runs; `media`: pictures.
        metrics: what it shows.
        group: the section it stands in.
        note: how to read it.
        log: a logarithmic axis.
    """

    title: str
    kind: Kind
    metrics: tuple[str, ...]
    group: str
    note: str = ""
    log: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A dashboard.

    Attributes:
        name: of the workspace, heading of the page's part.
        question: that it answers.
        panels: in order; those of a group follow each other.
    """

    name: str
    question: str
    panels: tuple[Panel, ...]

    def groups(self) -> dict[str, list[Panel]]:
        """Panels by section."""
        found: dict[str, list[Panel]] = {}
        for panel in self.panels:
            found.setdefault(panel.group, []).append(panel)
        return found


SCORE, SPEED, MEMORY = "test/J&F-Mean", "test/frames_per_second", "test/peak_memory_mb"
STATISTICS = tuple(f"test/{measure}-{statistic}" for measure in "JF" for statistic in ("Mean", "Recall", "Decay"))
VIEWS = (
    View(
        "Overview",
        "Is it learning, what does it cost, and what came of it?",
        (
            Panel("Best J&F", "number", (SCORE,), "Result"),
            Panel("Training loss", "lines", ("train/loss",), "Learning", log=True),
            Panel("J&F of validation", "lines", ("val/J&F-Mean",), "Learning"),
            Panel("J of validation", "lines", ("val/J-Mean",), "Learning"),
            Panel("F of validation", "lines", ("val/F-Mean",), "Learning"),
            Panel(
                "J&F against speed",
                "scatter",
                (SPEED, SCORE, MEMORY),
                "Cost",
                note="The area is peak memory. Speeds compare where the machine was the same and not shared.",
            ),
            Panel("Learning rate", "lines", ("lr-*",), "Machine"),
            Panel("Gradient norm, before clipping", "lines", ("train/gradient_norm",), "Machine", log=True),
            Panel("Share of time spent waiting for data", "lines", ("train/data_wait",), "Machine"),
            Panel("Clips per second", "lines", ("train/clips_per_second",), "Machine"),
            Panel("Frames per second, validation", "lines", ("val/frames_per_second",), "Machine"),
            Panel("Peak memory, training", "lines", ("train/peak_memory_mb",), "Machine"),
        ),
    ),
    View(
        "Ablation",
        "Which part makes which difference?",
        (
            Panel("J&F", "bars", (SCORE,), "Accuracy"),
            Panel("Frames per second", "bars", (SPEED,), "Cost"),
            Panel(
                "All numbers",
                "table",
                (SCORE, *STATISTICS, SPEED, MEMORY),
                "Numbers",
            ),
        ),
    ),
    View(
        "Video",
        "Which videos are easy, which are hard, and what do the masks look like?",
        (
            Panel("J&F of every sequence", "sequences", ("test/per_sequence",), "Sequences"),
            Panel("J&F of every validation sequence", "lines", ("val/sequences/*",), "Sequences"),
            Panel("Masks", "media", ("val/gallery",), "Masks"),
        ),
    ),
)
