"""Creates the dashboards as W&B workspaces with the optional package `wandb-workspaces`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from voslab.core import ConfigError
from voslab.dashboard.views import VIEWS, Panel, View


def workspaces(entity: str, project: str, views: Sequence[View] = VIEWS) -> list[Any]:
    """Return an unsaved `wandb_workspaces.workspaces.Workspace` per view; needs no network.

    Raises:
        ConfigError: if the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            # wandb-workspaces uses deprecated features of pydantic.
            warnings.simplefilter("ignore", DeprecationWarning)
            import wandb_workspaces.reports.v2 as reports
            import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError("upload: needs wandb-workspaces: pip install wandb-workspaces") from error
    return [
        ws.Workspace(
            entity=entity,
            project=project,
            name=view.name,
            sections=[
                ws.Section(name=group, panels=[_panel(reports, panel) for panel in panels], is_open=True)
                for group, panels in view.groups().items()
            ],
        )
        for view in views
    ]


def upload(target: str) -> list[str]:
    """Save a workspace per view in a W&B project and return their URLs.

    Args:
        target: `ENTITY/PROJECT`.

    Raises:
        ConfigError: if the target is malformed, the package is not installed, there is no W&B login, or W&B reports
            an error.
    """
    entity, _, project = target.partition("/")
    if not entity or not project or "/" in project:
        raise ConfigError(f"upload={target}: must be ENTITY/PROJECT")
    unsaved = workspaces(entity, project)
    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise ConfigError(f"upload={target}: not logged in to W&B: run wandb login")
    try:
        return [str(workspace.save().url) for workspace in unsaved]
    except Exception as error:  # wandb, its transport and the service have no common exception class
        raise ConfigError(f"upload={target}: W&B reports an error ({' '.join(str(error).split())})") from error


def _panel(reports: Any, panel: Panel) -> Any:
    """Return the W&B panel that corresponds to a panel of the page."""
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
