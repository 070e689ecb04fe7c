"""The dashboards as W&B workspaces, by `wandb-workspaces`, which is no part of the tested environment."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from voslab.core import ConfigError
from voslab.dashboard.views import VIEWS, Panel, View


def workspaces(entity: str, project: str, views: Sequence[View] = VIEWS) -> list[Any]:
    """A `wandb_workspaces.workspaces.Workspace` per view, not saved: nothing here needs a network.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Of its own use of pydantic.
            warnings.simplefilter("ignore", DeprecationWarning)
            import wandb_workspaces.reports.v2 as reports
            import wandb_workspaces.workspaces as made
    except ImportError as error:
        raise ConfigError("upload: needs wandb-workspaces: pip install wandb-workspaces") from error
    return [
        made.Workspace(
            entity=entity,
            project=project,
            name=view.name,
            sections=[
                made.Section(name=group, panels=[_panel(reports, panel) for panel in panels], is_open=True)
                for group, panels in view.groups().items()
            ],
        )
        for view in views
    ]


def upload(target: str) -> list[str]:
    """Save a new view per dashboard in a project; their addresses.

    Args:
        target: `ENTITY/PROJECT`.

    Raises:
        ConfigError: the target is none, the package is not installed, nobody is logged in, or W&B refuses.
    """
    entity, _, project = target.partition("/")
    if not entity or not project or "/" in project:
        raise ConfigError(f"upload={target}: must be ENTITY/PROJECT")
    made = workspaces(entity, project)
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise ConfigError(f"upload={target}: nobody is logged in to W&B: wandb login")
    try:
        return [str(workspace.save().url) for workspace in made]
    except Exception as error:  # of wandb, its transport and the service: as many kinds as there are causes
        raise ConfigError(f"upload={target}: W&B does not take it ({' '.join(str(error).split())})") from error


def _panel(reports: Any, panel: Panel) -> Any:
    """The panel of W&B that shows the same."""
    title, metrics = panel.title, list(panel.metrics)
    match panel.kind:
        case "number":
            return reports.ScalarChart(title=title, metric=metrics[0], groupby_aggfunc="max")
        case "lines":
            patterns = [f"^{one[:-1]}" for one in metrics if one.endswith("*")]
            chosen: dict[str, Any] = {"metric_regex": "|".join(patterns)} if patterns else {"y": metrics}
            return reports.LinePlot(title=title, x="Step", log_y=panel.log, **chosen)
        case "scatter":
            x, y, size = (reports.SummaryMetric(name) for name in metrics)
            return reports.ScatterPlot(title=title, x=x, y=y, z=size)
        case "bars":
            return reports.BarPlot(title=title, metrics=[reports.SummaryMetric(name) for name in metrics])
        case "table":
            return reports.RunComparer(diff_only="split")
        case "sequences":
            return reports.WeavePanelSummaryTable(table_name=metrics[0])
        case "media":
            return reports.MediaBrowser(title=title, media_keys=metrics)
