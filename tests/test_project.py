"""Rules for the whole repository: imports, start-up cost, vocabulary, and files that must agree with each other."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.import_rules import faults

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "voslab"
MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    assert faults(path, PACKAGE) == []


FORBIDDEN = ["import voslab.cli.entry", "from voslab.methods.gam import network", "import lightning"]


@pytest.mark.parametrize("line", FORBIDDEN)
def test_a_forbidden_import_is_found_in_any_module(line: str, tmp_path: Path) -> None:
    # Some modules may import one of these.
    allowed = {"cli", "training", "gam", "cache", "module.py", "datamodule.py", "methods"}
    allowed |= {"configs.py", "factory.py", "predictor.py", "video_session.py"}
    candidates = [path for path in MODULES if not allowed & set(path.relative_to(PACKAGE).parts)]
    candidates += sorted((PACKAGE / "methods" / "covos").glob("[!m]*.py"))
    for path in random.Random(line).sample(candidates, 5):
        copy = tmp_path / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(f"{path.read_text()}\n{line}\n")
        assert faults(copy, tmp_path) != [], copy


def test_a_module_without_a_rule_is_a_fault(tmp_path: Path) -> None:
    module = tmp_path / "elsewhere" / "new.py"
    module.parent.mkdir()
    module.write_text("")
    assert faults(module, tmp_path) == ["elsewhere/new.py: no rule says what it may import"]


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


def test_the_package_imports_neither_torch_nor_numpy_until_something_is_used() -> None:
    code = "import sys, voslab; print([m for m in ('torch', 'numpy', 'hydra') if m in sys.modules], voslab.Predictor)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] <class")


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "--help"],
        ["segment", "vidoe=clip.mp4"],
        ["segment", "video=clip.mp4", "mask=mask.png", "engine.size=large"],
        ["segment", "video=clip.mp4", "mask=mask.png", "model=stcm"],
        ["train", "experiment=gam_davsi"],
        ["train", "trainer.max_stepz=3"],
        ["evaluate", "data=davis2016", "seed=-1"],
    ],
    ids=" ".join,
)
def test_help_and_configuration_errors_import_no_heavy_library(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom voslab.cli.main import main\nsys.argv[0] = 'voslab'\n"
        "try: main()\nexcept SystemExit as stopped: print(stopped.code)\n"
        "print([m for m in ('torch', 'lightning', 'albumentations') if m in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n"), done.stderr
    assert "--help" in arguments or done.stdout == "2\n[]\n"


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
    extras = [
        text for extra in ("dev", "export", "docs", "dashboard", "annotate", "pretrained") for text in optional[extra]
    ]
    for text in project["dependencies"] + extras:
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


# Terms that were replaced; the file that reads old checkpoints and records may name them.
OLD_NAMES = re.compile(
    r"\b(carrying|CarriedPicture|Coded|Coding|asked_by|stored_by|with_gaps|Walk|Replacing|begin_seconds|parameters_m"
    r"|fixed_norm|Compared|Referring|coded_pictures|prepare_davis_alike)\b"
)
OLD_WORDS = re.compile(r"\b(told|alike|ruler|nobody|so many)\b|(?<![a-z])pictures?(?![a-z])", re.IGNORECASE)
# Terms of ITU-T H.264 that contain a replaced word.
H264_TERMS = re.compile(
    r"IDR picture|decoded picture buffer|decoded reference picture marking|picture parameter sets?|picture_sets"
    r"|picture order counts?",
    re.IGNORECASE,
)
READERS = {
    "src/voslab/cli/renamed.py",
    "src/voslab/core/checkpoint.py",
    "src/voslab/reporting/run_record.py",
    "tests/reporting/test_studies.py",
    "tests/test_project.py",
}


def _texts(*places: str) -> list[tuple[str, str]]:
    paths = [path for place in places for path in (ROOT / place, *(ROOT / place).rglob("*")) if path.is_file()]
    kept = [path for path in paths if path.suffix in {".py", ".yaml", ".md", ".html"}]
    found = [(str(path.relative_to(ROOT)), path.read_text()) for path in kept]
    return [(name, text) for name, text in found if name not in READERS]


def test_replaced_names_do_not_come_back() -> None:
    texts = _texts("src", "conf", "tests")
    found = [(name, match.group()) for name, text in texts for match in OLD_NAMES.finditer(text)]
    assert found == []


def test_prose_uses_the_terms_of_the_field() -> None:
    places = ("src", "conf", "docs", "README.md", "CONTRIBUTING.md")
    texts = [(name, H264_TERMS.sub("", text) if "/h264/" in name else text) for name, text in _texts(*places)]
    found = [(name, match.group()) for name, text in texts for match in OLD_WORDS.finditer(text)]
    assert found == []
