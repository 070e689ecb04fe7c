"""Renders `experiments/README.md`: what each study found, and the table and chart of the one that compares methods."""

from __future__ import annotations

import re
from collections.abc import Sequence

from voslab.reporting.page import found, table
from voslab.reporting.study import Study

LINK = re.compile(r"\]\((?!https?:)")


def index(studies: Sequence[Study]) -> str:
    """Render the overview of all studies in Markdown.

    Args:
        studies: the studies. Of those with a figure of kind `bubbles`, the first one's table and figure are shown.

    Returns:
        the page; its links are relative to the folder that holds the studies.
    """
    charts = ((study, name) for study in studies for name, one in study.figures.items() if one.kind == "bubbles")
    chart = next(charts, None)
    blocks = [
        "<!-- written by `python -m src.report` from the studies; edit those -->",
        "# Experiments",
        "Each folder is a study: a question, tables, figures, and the command of every row. Numbers come from records.",
        *(_comparison(*chart) if chart else []),
        "## Studies",
        "\n".join(map(_entry, studies)),
    ]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _comparison(study: Study, figure: str) -> list[str]:
    one = study.figures[figure]
    return [
        f"## {study.title}",
        _relative(study, found(study)),
        _relative(study, table(study, study.all_tables()[0])),
        f"![{one.caption}]({study.folder.name}/{one.image_path(figure)})",
        f"*{one.caption}*",
    ]


def _entry(study: Study) -> str:
    text = " ".join(_relative(study, found(study) or study.question).split())
    return f"* [{study.title}]({study.folder.name}/README.md). {text}"


def _relative(study: Study, text: str) -> str:
    """Make links relative to the parent of the study's folder."""
    return LINK.sub(f"]({study.folder.name}/", text)
