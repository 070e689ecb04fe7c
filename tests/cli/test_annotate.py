from __future__ import annotations

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from PIL import Image

from tests.conftest import Run
from voslab.cli.annotate import _bound
from voslab.cli.arguments import CONFIGS

CASES = Path(__file__).parent / "cases"
CLIP = f"video={CASES / 'clip.mp4'}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["video=missing.mp4"], "missing.mp4"),
        ([CLIP, "port=70000"], "port=70000: must be from 0 to 65535"),
        ([CLIP, "host=203.0.113.1"], "host=203.0.113.1 port=7860: cannot listen there"),
        ([CLIP, "proposer.encoder=a.onnx"], "proposer.encoder and proposer.decoder go together"),
        ([CLIP, "proposer.encoder=a.onnx", "proposer.decoder=b.onnx"], "proposer.encoder=a.onnx: no such file"),
        ([CLIP, "model=nothing"], "model=nothing: no such choice"),
    ],
)
def test_what_cannot_be_served_is_one_line(run: Run, tmp_path: Path, options: list[str], message: str) -> None:
    assert message in run("annotate", *options, f"output={tmp_path}", "browser=false")


def test_a_session_is_not_written_among_the_images_of_the_video(run: Run, tmp_path: Path) -> None:
    video = tmp_path / "clip"
    video.mkdir()
    Image.new("RGB", (16, 16)).save(video / "0.png")
    error = run("annotate", f"video={video}", f"output={tmp_path}", "browser=false")
    assert error == f"output={tmp_path}: the session would be in the folder of the video; give another one"
    assert [path.name for path in video.iterdir()] == ["0.png"]


def test_a_second_model_that_does_not_exist_is_one_line(run: Run, tmp_path: Path) -> None:
    options = ["model=copy_first", f"output={tmp_path}", "browser=false"]
    assert "model=nothing: no such model" in run("annotate", CLIP, "compare.model=nothing", *options)
    assert "missing.ckpt" in run("annotate", CLIP, "compare.checkpoint=missing.ckpt", *options)


def test_an_occupied_port_is_one_line(run: Run, tmp_path: Path) -> None:
    with _bound("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        error = run("annotate", CLIP, f"port={port}", f"output={tmp_path}", "browser=false")
    assert error == f"host=127.0.0.1 port={port}: cannot listen there (Address already in use); try another port"


def test_missing_packages_are_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    error = run("annotate", CLIP, f"output={tmp_path}", "browser=false")
    assert error == "the annotation page needs starlette and uvicorn: pip install 'voslab[annotate]'"


def test_the_default_weights_are_those_of_segment() -> None:
    annotate, segment = (OmegaConf.load(CONFIGS / f"{name}.yaml") for name in ("annotate", "segment"))
    assert annotate.default_checkpoint == segment.default_checkpoint
