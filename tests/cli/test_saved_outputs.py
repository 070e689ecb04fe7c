"""Tests of `save=[…]` of `python -m src.segment`."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.test_hostile import IMAGES, mask
from tests.video.clips import encode
from voslab.cli.saved_outputs import OUTPUTS, saved_outputs
from voslab.core import ConfigError
from voslab.video import open_video, read_mask

FRAMES = [f"{index:05d}.png" for index in range(len(IMAGES))]


@pytest.fixture
def given(tmp_path: Path) -> Path:
    labels = np.zeros((48, 64), np.uint8)
    labels[8:24, :12], labels[30:40, 20:50] = 2, 5
    return mask(tmp_path / "m.png", labels)


@pytest.fixture
def arguments(given: Path, tmp_path: Path) -> list[str]:
    clip = encode(tmp_path / "clip.mp4", IMAGES)
    return [f"video={clip}", f"mask={given}", "model=copy_first", f"output={tmp_path / 'out'}"]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("[!.]*") if path.is_file())


def test_masks_and_overlay_are_the_default(run: Run, arguments: list[str], tmp_path: Path) -> None:
    assert not run("segment", *arguments)
    assert files(tmp_path / "out") == [*(f"masks/{name}" for name in FRAMES), "overlay.mp4"]


@pytest.mark.parametrize(
    "kind", ["rgba", "alpha", "per_object", "probabilities", "greenscreen", "prores", "webm", "coco"]
)
def test_every_output_holds_every_frame(kind: str, run: Run, arguments: list[str], given: Path, tmp_path: Path) -> None:
    assert not run("segment", *arguments, f"save=[{kind}]")
    out, labels = tmp_path / "out", read_mask(given)
    if kind in {"rgba", "alpha"}:
        assert files(out) == [f"{kind}/{name}" for name in FRAMES]
        image = np.asarray(Image.open(out / kind / FRAMES[0]))
        assert np.array_equal(image[..., 3] if kind == "rgba" else image, np.where(labels > 0, 255, 0))
    elif kind == "coco":
        assert files(out) == ["annotations.json"]
        content = json.loads((out / "annotations.json").read_text())
        assert [one["file_name"] for one in content["images"]] == FRAMES
        assert len(content["annotations"]) == 2 * len(FRAMES)
    elif kind in {"prores", "webm"}:
        name = {"prores": "cutout.mov", "webm": "cutout.webm"}[kind]
        assert files(out) == [name]
        with av.open(str(out / name)) as container:
            # FFmpeg's own decoder of VP9 drops alpha.
            decoder = av.CodecContext.create("libvpx-vp9" if kind == "webm" else "prores", "r")
            packets = [packet for packet in container.demux(video=0) if packet.size]
            frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
            assert len(frames) == len(IMAGES)
            assert np.abs(frames[0].to_ndarray(format="rgba")[..., 3].astype(int) - 255 * (labels > 0)).mean() < 1
    elif kind == "greenscreen":
        assert files(out) == ["greenscreen.mp4"]
        first, *others = open_video(out / "greenscreen.mp4")
        assert len(others) == len(FRAMES) - 1
        assert np.abs(first.image[42:, 2:].astype(int) - [0, 255, 0]).mean() < 8
    else:
        assert files(out) == [f"{kind}/{identity}/{name}" for identity in (2, 5) for name in FRAMES]
        for identity in (2, 5):
            soft = np.asarray(Image.open(out / kind / str(identity) / FRAMES[0]))
            assert np.array_equal(soft, np.where(labels == identity, 255, 0))


def test_files_have_the_names_of_the_images(run: Run, given: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index, image in enumerate(IMAGES[:2]):
        Image.fromarray(image).save(tmp_path / "frames" / f"shot{index + 7}.bmp")
    arguments = (f"video={tmp_path / 'frames'}", f"mask={given}", "model=copy_first", f"output={tmp_path / 'out'}")
    assert not run("segment", *arguments, "save=[rgba,coco]")
    assert files(tmp_path / "out") == ["annotations.json", "rgba/shot7.png", "rgba/shot8.png"]
    images = json.loads((tmp_path / "out" / "annotations.json").read_text())["images"]
    assert [one["file_name"] for one in images] == ["shot7.bmp", "shot8.bmp"]


def test_an_unknown_output_is_answered_with_the_choices(run: Run, arguments: list[str], tmp_path: Path) -> None:
    error = run("segment", *arguments, "save=[masks,rgb]")
    assert error == f"save=rgb: no such output; did you mean 'rgba'? (there are {', '.join(OUTPUTS)})"
    assert not files(tmp_path / "out")


def test_one_name_is_a_list_of_one() -> None:
    assert list(saved_outputs("rgba")) == ["rgba"]
    for wrong in (None, 3, [["masks"]], []):
        with pytest.raises(ConfigError, match="there are masks, overlay"):
            saved_outputs(wrong)
