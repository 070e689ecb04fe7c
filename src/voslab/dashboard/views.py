"""Declares the panels that the HTML page and the W&B workspaces show.

Metrics have the names under which trainings log them; those of `metrics.json` have the prefix `test/`. A name that ends
in `*` matches all metrics with that prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "lines", "scatter", "bars", "table", "sequences", "media"]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of a dashboard.

    Attributes:
        title: title of the panel.
        kind: `number` shows the best value; `lines` a curve over steps per run; `scatter` a bubble per run, with the
            metrics for x, y and area; `bars` a bar per run; `table` runs by metrics; `sequences` sequences by runs;
            `media` images.
        metrics: metrics that the panel shows.
        group: section of the view.
        note: explanation below the chart.
        log: whether the vertical axis is logarithmic.
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
        name: name of the W&B workspace and heading on the page.
        question: question that the view answers.
        panels: panels in order; panels of the same group are consecutive.
    """

    name: str
    question: str
    panels: tuple[Panel, ...]

    def groups(self) -> dict[str, list[Panel]]:
        """Return the panels by section."""
        groups: dict[str, list[Panel]] = {}
        for panel in self.panels:
            groups.setdefault(panel.group, []).append(panel)
        return groups


SCORE, SPEED, MEMORY = "test/J&F-Mean", "test/frames_per_second", "test/peak_memory_mb"
STATISTICS = tuple(f"test/{measure}-{statistic}" for measure in "JF" for statistic in ("Mean", "Recall", "Decay"))
VIEWS = (
    View(
        "Overview",
        "Does the training converge, what does it cost, and what is the result?",
        (
            Panel("Best J&F", "number", (SCORE,), "Result"),
            Panel("Training loss", "lines", ("train/loss",), "Learning", log=True),
            Panel("Validation J&F", "lines", ("val/J&F-Mean",), "Learning"),
            Panel("Validation J", "lines", ("val/J-Mean",), "Learning"),
            Panel("Validation F", "lines", ("val/F-Mean",), "Learning"),
            Panel(
                "J&F against speed",
                "scatter",
                (SPEED, SCORE, MEMORY),
                "Cost",
                note="The area is the peak memory. Speeds are comparable only between runs on the same idle machine.",
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
        "How much does each component contribute?",
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
        "Which videos are easy or hard, and what do the masks look like?",
        (
            Panel("J&F per sequence", "sequences", ("test/per_sequence",), "Sequences"),
            Panel("J&F per validation sequence", "lines", ("val/sequences/*",), "Sequences"),
            Panel("Masks", "media", ("val/gallery",), "Masks"),
        ),
    ),
)
