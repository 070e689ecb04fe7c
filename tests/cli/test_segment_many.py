"""Tests of `python -m src.segment video=DIR mask=DIR`: pairs, failures, repeated runs and several processes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_hostile import mask
from tests.video.clips import encode, moving_square
from voslab.cli.entry import run as run_program
from voslab.video import open_video, read_mask

SIZE = (48, 64)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two clips and a folder of images with masks, and a clip and a mask without a partner."""
    videos, masks = tmp_path / "videos", tmp_path / "masks"
    videos.mkdir()
    encode(videos / "long.mp4", moving_square(7, SIZE))
    encode(videos / "short.mp4", moving_square(3, SIZE))
    (videos / "frames").mkdir()
    for index, image in enumerate(moving_square(4, SIZE)):
        Image.fromarray(image).save(videos / "frames" / f"shot{index + 7}.png")
    encode(videos / "alone.mp4", moving_square(1, SIZE))
    labels = np.zeros(SIZE, np.uint8)
    for identity, name in enumerate(("long.png", "frames.png", "short/00000.png", "extra.png"), 1):
        labels[8:24, :12] = identity
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        mask(masks / name, labels)
    return tmp_path


@pytest.fixture
def run(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Segment the folders in this process: returns the exit code, stdout and stderr."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def program(*options: str) -> tuple[int, str, str]:
        arguments = (f"video={folders}/videos", f"mask={folders}/masks", f"output={folders}/out", *options)
        monkeypatch.setattr(sys, "argv", ["src.segment", "model=copy_first", *arguments])
        code = 0
        try:
            run_program("segment")
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return code, *capsys.readouterr()

    yield program
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def written(folders: Path) -> dict[str, int]:
    """Return the time of the last change of every mask and overlay."""
    found = [path for path in (folders / "out").rglob("*") if path.suffix in {".png", ".mp4"}]
    return {str(path.relative_to(folders / "out")): path.stat().st_mtime_ns for path in found}


def test_pairs_are_segmented_and_the_rest_is_named(folders: Path, run: Run) -> None:
    code, out, err = run()
    assert (code, "failed" in err) == (0, False)
    counts = {"long": 7, "short": 3, "frames": 4}
    for (name, count), identity in zip(sorted(counts.items()), (2, 1, 3), strict=True):
        folder = folders / "out" / name
        assert len(list((folder / "masks").glob("*.png"))) == count
        assert sum(1 for _ in open_video(folder / "overlay.mp4")) == count
        assert json.loads((folder / "finished.json").read_text())["frames"] == count
        stem = "shot7" if name == "frames" else "00000"
        assert set(np.unique(read_mask(folder / "masks" / f"{stem}.png"))) == {0, identity}
    assert sorted(path.name for path in (folders / "out").iterdir()) == sorted(counts)
    assert f"{folders}/videos/alone.mp4: no mask of this name" in out
    assert f"{folders}/masks/extra.png: no video of this name" in out
    assert "videos: 3 segmented, 2 left out without a partner\n" in out


def test_a_failing_video_does_not_stop_the_others(folders: Path, run: Run) -> None:
    (folders / "videos" / "bad.mp4").write_text("not a video")
    mask(folders / "masks" / "bad.png", np.ones(SIZE, np.uint8))
    mask(folders / "masks" / "long.png", np.ones((40, 64), np.uint8))
    code, out, err = run()
    assert code == 1
    assert "videos: 2 segmented, 2 failed, 2 left out without a partner\n" in out
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert failed[0].startswith(f"failed: bad: {folders}/videos/bad.mp4: not a video")
    assert failed[1].startswith(f"failed: long: {folders}/masks/long.png: the mask is 64 x 40")
    assert not list((folders / "out").glob("long/*.json"))


def test_an_unexpected_error_of_one_video_is_listed(folders: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from voslab.cli import segment_video

    def opened(path: Path, drop_frames: bool | None = None) -> object:
        if path.stem == "long":
            raise RuntimeError("out of memory\non the device")
        return open_video(path)

    monkeypatch.setattr(segment_video, "open_video", opened)
    code, out, err = run()
    assert (code, "videos: 2 segmented, 1 failed" in out) == (1, True)
    assert f"failed: long: {folders}/videos/long.mp4: RuntimeError: out of memory on the device" in err


def test_finished_videos_are_skipped(folders: Path, run: Run) -> None:
    run()
    before = written(folders)
    (folders / "out" / "short" / "finished.json").unlink()
    code, out, _ = run()
    assert (code, "videos: 1 segmented, 2 finished before" in out) == (0, True)
    changed = {name for name, time in written(folders).items() if time != before[name]}
    assert changed == {name for name in before if name.startswith("short/")}


@pytest.mark.parametrize("change", ["option", "video", "mask", "output"])
def test_finished_videos_are_segmented_again_after_a_change(folders: Path, run: Run, change: str) -> None:
    run("save=[masks]")
    if change == "video":
        encode(folders / "videos" / "long.mp4", moving_square(5, SIZE))
    elif change == "mask":
        mask(folders / "masks" / "short" / "00002.png", np.full(SIZE, 3, np.uint8))
    elif change == "output":
        shutil.rmtree(folders / "out" / "frames" / "masks")
    _, out, _ = run("save=[masks]", *(["mask_scope=full"] if change == "option" else []))
    expected = "3 segmented" if change == "option" else "1 segmented, 2 finished before"
    assert f"videos: {expected}" in out


def test_a_stopped_video_is_not_finished(folders: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from voslab.cli import segment_video

    def interrupted(path: Path, drop_frames: bool | None = None) -> object:
        if path.stem == "long":
            raise SystemExit(130)
        return open_video(path)

    monkeypatch.setattr(segment_video, "open_video", interrupted)
    assert run()[0] == 130
    monkeypatch.undo()
    assert [path.parent.name for path in (folders / "out").glob("*/finished.json")] == ["frames"]


def start(folders: Path, launcher: list[str], **variables: str) -> subprocess.Popen[str]:
    arguments = (f"video={folders}/videos", f"mask={folders}/masks", f"output={folders}/out", "save=[masks]")
    command = [sys.executable, "-m", *launcher, "voslab", "segment", "model=copy_first", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **variables})


def test_two_processes_share_the_videos_by_length(folders: Path) -> None:
    processes = [
        start(folders, [], SLURM_PROCID=str(rank), SLURM_NTASKS="2", SLURM_LOCALID=str(rank)) for rank in (0, 1)
    ]
    (first, _), (second, _) = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert "process 1 of 2: 1 of 3 videos" in first
    assert "process 2 of 2: 2 of 3 videos" in second
    assert "videos: 1 segmented" in first
    assert "videos: 2 segmented" in second
    assert {path.parent.name for path in (folders / "out").glob("*/finished.json")} == {"long", "short", "frames"}


@pytest.mark.slow
def test_a_failure_under_torchrun_does_not_kill_the_other_process(folders: Path) -> None:
    """Torchrun kills the others when a process exits with an error: the failed share must wait."""
    for name in ("long", "short"):
        (folders / "videos" / f"{name}.mp4").write_text("not a video")
    images = moving_square(200, SIZE)
    encode(folders / "videos" / "longest.mp4", images)
    shutil.copy(folders / "masks" / "long.png", folders / "masks" / "longest.png")
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    process = start(folders, launcher, OMP_NUM_THREADS="1")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert out.count("videos: 2 segmented, 2 failed") == 1
    assert err.count("failed: long: ") == err.count("failed: short: ") == 1
    assert len(list((folders / "out" / "longest" / "masks").glob("*.png"))) == len(images)


def test_several_processes_need_one_output(folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = (f"video={folders}/videos", f"mask={folders}/masks", f"paths.outputs={folders}/outputs")
    monkeypatch.setattr(sys, "argv", ["src.segment", "model=copy_first", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_program("segment")
    assert stopped.value.code == 2
    assert "error: say output=DIR, the same for all processes" in capsys.readouterr().err  # type: ignore[attr-defined]
