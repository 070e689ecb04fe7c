"""The notebook of the documentation runs from top to bottom.

Its cells run in this process, in order and in one namespace; no Jupyter kernel is needed.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "lightning.ipynb"


def execute(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell and return the value of its last expression, as a kernel shows it."""
    *statements, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        statements, last = [*statements, last], None
    exec(compile(ast.Module(statements, []), "<cell>", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), "outputs are not committed"
    namespace: dict[str, Any] = {}
    results = [execute("".join(cell["source"]), namespace) for cell in cells if cell["cell_type"] == "code"]
    trained, changed, restored, predicted, composed = results
    assert trained is None
    assert changed == (1.0, 1e-4)
    assert restored == ("gam", "resnet18")
    name, shape, kind = predicted
    assert (len(shape), kind) == (3, "uint16")
    assert name.startswith("val")
    assert composed == ("GAMModule", 10, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["example"]
