"""The wheel: what it carries, and that it works where nothing but the lock file's packages is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.video.clips import encode
from voslab.video import read_mask

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, capture_output=True, text=True
    )
    [built] = folder.glob("voslab-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that has the wheel, and sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    found = folder / "bin" / "python"
    [packages] = (folder / "lib").glob("python*/site-packages")
    # Paths in a .pth file are searched, but .pth files below them are not read: an editable install stays invisible.
    (packages / "lock.pth").write_text(sysconfig.get_paths()["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", str(found), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True, capture_output=True, text=True)
    return found


def run(python: Path, folder: Path, *arguments: str) -> str:
    """What a command prints in a folder, without PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(python), *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_carries_the_configurations_and_one_file_of_weights(wheel: Path) -> None:
    assert wheel.stat().st_size < 30e6
    names = zipfile.ZipFile(wheel).namelist()
    default = yaml.safe_load((ROOT / "conf" / "segment.yaml").read_text())["default_checkpoint"]
    assert [name for name in names if name.endswith(".safetensors")] == [f"voslab/_resources/{default}"]
    configurations = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {f"voslab/_resources/{name}" for name in configurations} <= set(names)
    assert not [name for name in names if not name.startswith(("voslab/", "voslab-"))]


def test_an_installed_package_segments_a_clip(python: Path, tmp_path: Path) -> None:
    file = run(python, tmp_path, "-c", "import voslab; print(voslab.__file__)")
    assert Path(file.strip()).is_relative_to(python.parents[1])
    frames = np.full((5, 48, 64, 3), 90, np.uint8)
    for index, frame in enumerate(frames):
        frame[12:30, 10 + 2 * index : 30 + 2 * index] = (220, 60, 40)
    encode(tmp_path / "clip.mp4", frames)
    mask = np.zeros((48, 64), np.uint8)
    mask[12:30, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    command = (str(python.with_name("voslab")), "segment", "video=clip.mp4", "mask=mask.png", "output=result")
    run(python, tmp_path, *command)
    written = sorted((tmp_path / "result" / "masks").glob("*.png"))
    assert len(written) == 5
    assert (read_mask(written[0]) == mask).all()
    assert (tmp_path / "result" / "overlay.mp4").is_file()


def test_runs_of_an_installed_package_go_to_the_current_folder(python: Path, tmp_path: Path) -> None:
    run(python, tmp_path, "-m", "voslab", "train", "experiment=demo", "debug=fast", "trainer=cpu")
    assert list((tmp_path / "outputs").rglob("metrics.json"))
