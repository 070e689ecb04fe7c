"""The house itself: one-way imports, light networks, files that must agree with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "voslab"
MODULES = sorted(PACKAGE.rglob("*.py"))
# What each room may import. A method's room stands for itself; everything may import core.
ALLOWED = {
    "core": set(),
    "video": set(),
    "metrics": set(),
    "nn": set(),
    "data": {"video"},
    "methods/*/network.py": {"nn"},
    "methods/*/weights.py": set(),
    "methods/*/graphs.py": {"nn"},
    "methods/*/module.py": {"nn", "training", "engine", "data", "video"},
    "engine": {"video"},
    "studies": set(),
    "training": {"engine", "metrics", "data", "video", "nn"},
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("voslab.")}


def rule(path: Path) -> tuple[str, set[str]] | None:
    inside = path.relative_to(PACKAGE)
    for room, allowed in ALLOWED.items():
        if inside.match(room) or inside.parts[0] == room:
            return room.split("/")[0], allowed
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    found = rule(path)
    if found is None:
        return
    own, allowed = found
    inside = path.relative_to(PACKAGE)
    for name in imports(path):
        room = name.split(".")[1]
        if own == "methods" and room == "methods":
            assert name.split(".")[2] == inside.parts[1], f"{inside} imports another method: {name}"
        else:
            assert room in allowed | {own, "core"}, f"{inside} may not import {name}"


def test_networks_are_light() -> None:
    networks = sorted((PACKAGE / "methods").glob("*/network.py"))
    assert networks
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in networks]
    heavy = ("lightning", "albumentations", "wandb", "hydra", "av")
    code = f"import sys, {', '.join(names)}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["segment", "benchmark", "export"])
def test_programs_that_do_not_train_start_without_what_training_needs(name: str) -> None:
    heavy = ("lightning", "torchmetrics", "albumentations", "wandb", "matplotlib", "scipy", "torch._dynamo", "onnx")
    code = f"import sys, voslab.cli.{name}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_anything_does_no_work() -> None:
    modules = [*MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules]
    names = [name.removeprefix("src.") for name in names if not name.endswith("__main__")]
    code = (
        "import socket, importlib, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('network at import')\n"
        "socket.socket.connect = refuse\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print('albumentations' in sys.modules, 'wandb' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False"]


def test_conda_and_pip_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda[-1]["pip"] == project["dependencies"] + project["optional-dependencies"]["dev"]
    assert conda[0] == f"python{project['requires-python']}"


def test_the_lock_pins_every_dependency_and_nothing_that_cannot_run() -> None:
    from packaging.requirements import Requirement
    from packaging.version import Version

    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines())
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    for text in project["dependencies"] + optional["dev"] + optional["export"]:
        requirement = Requirement(text)
        assert Version(pins[requirement.name]) in requirement.specifier, text
    assert pins["torch"] == "2.13.0"
    assert pins["albumentations"] == "2.0.8"
    assert not {"torchvision", "timm", "albumentationsx"} & pins.keys()
    assert not [name for name in pins if name.startswith("nvidia")]


def test_no_file_can_run_code_and_no_setting_is_mutated() -> None:
    for path in MODULES:
        text = path.read_text()
        assert not re.search(r"weights_only\s*=\s*False", text), path
        assert "OmegaConf.update" not in text, path
        assert "open_dict" not in text, path
