"""Docstrings: their examples run, and the public functions of the API describe arguments and results."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "voslab"
MODULES = sorted(PACKAGE.rglob("*.py"))
WITH_EXAMPLES = [path for path in MODULES if ">>> " in path.read_text()]
EXPORT = {"export_compat.py", "matching_graphs.py"}  # serve `voslab export` only
PUBLIC = [PACKAGE / "predictor.py", *(PACKAGE / "nn").glob("*.py"), *(PACKAGE / "metrics").glob("*.py")]
PUBLIC = [path for path in PUBLIC if path.name not in EXPORT]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_run(path: Path) -> None:
    found = doctest.testmod(importlib.import_module(name_of(path)), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted
    assert found.failed == 0


def missing(path: Path) -> list[str]:
    """Functions of a module, and what their docstrings lack."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node) or ""
        returns = not (isinstance(node.returns, ast.Constant) and node.returns.value is None)
        wanted = {"Args:": bool(node.args.args), "Returns:": returns, ">>> ": True}
        found += [f"{node.name}: {part.strip()}" for part, needed in wanted.items() if needed and part not in text]
    return found


@pytest.mark.parametrize("path", PUBLIC, ids=name_of)
def test_public_functions_have_arguments_results_and_an_example(path: Path) -> None:
    assert missing(path) == []
