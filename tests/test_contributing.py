"""The examples of CONTRIBUTING.md work as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.tree import image, labels, save_image, save_mask

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```\w+ (\S+/\S+)( append)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks() -> dict[str, tuple[bool, str]]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return {path: (bool(append), body) for path, append, body in BLOCK.findall(text)}


def repository(folder: Path) -> Path:
    """A copy of the repository with the files of CONTRIBUTING.md."""
    for name in ("src", "conf", "tests", "weights"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, (append, body) in blocks().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.read_text() + "\n\n" if append else ""
        target.write_text(before + body)
    return folder


def data(root: Path) -> None:
    for split in ("train", "val"):
        names = [f"{split}_{number}" for number in range(4)]
        (root / "minimal").mkdir(parents=True, exist_ok=True)
        (root / "minimal" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            for frame in range(4):
                save_image(root / "minimal" / "frames" / name / f"{frame:05}.jpg", image(frame))
                save_mask(root / "minimal" / "masks" / name / f"{frame:05}.png", labels(frame))


def python(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "VOS_DATA"}
    environment |= {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("repository"))


@pytest.mark.slow
def test_the_contract_and_the_catalogue_accept_the_examples(copy: Path) -> None:
    files = ("tests/core/test_contract.py", "tests/data/preparation/test_catalogue.py")
    python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", "minimal")
    python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", files[1])
    python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_configs.py", "-k", "minimal or method")


@pytest.mark.slow
def test_the_method_trains_and_evaluates_on_the_data_set_and_the_study_has_a_page(copy: Path) -> None:
    data(copy / "data")
    recipe = ("experiment=minimal_demo", "trainer=cpu", "engine.size=24", "hydra.run.dir=run", "record=minimal")
    python(copy, "-m", "src.train", *recipe)
    checkpoint = "checkpoint=run/checkpoints/last.ckpt"
    python(copy, "-m", "src.evaluate", checkpoint, "data=minimal", "trainer=cpu", "output=scores")
    assert (copy / "scores" / "metrics.json").is_file()
    assert "complete" in python(copy, "-m", "src.prepare", "data=minimal")
    [record] = (copy / "experiments" / "minimal" / "records").glob("*.json")
    study = copy / "experiments" / "minimal" / "study.yaml"
    study.write_text(study.read_text().replace("RECORD", record.stem))
    python(copy, "-m", "src.report", "study=minimal")
    assert "`minimal`, one step" in (copy / "experiments" / "minimal" / "README.md").read_text()
