"""Tests that workspaces contain the panels of the page, and that upload errors take one line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.conftest import Run
from voslab.core import ConfigError
from voslab.dashboard.views import VIEWS
from voslab.dashboard.workspace import upload, workspaces


def needs_package() -> None:
    if importlib.util.find_spec("wandb_workspaces") is None:
        pytest.skip("the optional extra `dashboard` is not installed")


def test_every_view_is_a_workspace_with_all_panels() -> None:
    needs_package()
    made = workspaces("someone", "vos-lab")
    assert [workspace.name for workspace in made] == [view.name for view in VIEWS]
    for workspace, view in zip(made, VIEWS, strict=True):
        sections = {section.name: section.panels for section in workspace.sections}
        assert {name: len(panels) for name, panels in sections.items()} == {
            name: len(panels) for name, panels in view.groups().items()
        }
        sent = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
        for panel in view.panels:
            assert panel.kind == "table" or all(name.rstrip("*") in sent for name in panel.metrics), panel


def test_a_missing_package_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert "needs wandb-workspaces" in run("dashboard", "upload=someone/vos-lab", f"output={tmp_path}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["vos-lab", "/vos-lab", "someone/", "a/b/c"])
def test_a_malformed_target_is_reported_first(target: str) -> None:
    with pytest.raises(ConfigError, match="must be ENTITY/PROJECT"):
        upload(target)


def test_a_missing_login_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_package()
    import wandb

    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(ConfigError, match="not logged in to W&B"):
        upload("someone/vos-lab")
