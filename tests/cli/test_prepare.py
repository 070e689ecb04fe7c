"""`python -m src.prepare` as people use it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.data.coco_tree import coco_tree
from tests.data.preparation.test_completion import packed
from tests.data.tree import davis_tree
from tests.test_cli import ROOT, program
from voslab.data.sources.davis import davis
from voslab.data.sources.synthetic.generated import generate
from voslab.engine.codec_source import CodecSource
from voslab.video.encode import Encoding


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the archive of a DAVIS 2017 of two sequences."""
    source = davis_tree(tmp_path / "source")
    (source / "ImageSets/2017/val.txt").write_text("camel\n")
    packed(source, tmp_path / "data/downloads/DAVIS-2017-trainval-480p.zip", "DAVIS/")
    return tmp_path / "data"


def prepare(data: Path, *arguments: str, code: int = 0) -> list[str]:
    done = program("prepare", f"paths.data={data}", *arguments, code=code)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_unpacks_and_reports_and_is_done_the_second_time(data: Path) -> None:
    lines = prepare(data, "data=davis2017")
    archive, root = data / "downloads/DAVIS-2017-trainval-480p.zip", data / "DAVIS"
    assert lines[0] == f"{archive}: 22 files unpacked into {root}, 0 existed already"
    assert lines[1] == f"DAVIS 2017 in {root}/: complete"
    assert "├── ✓ ImageSets/2017/train.txt           2 sequences, officially 60" in lines
    assert "└── ✓ Annotations/480p/<sequence>/*.png  10 masks, 2 of 2 sequences" in lines
    assert any(line.startswith("source   https://davischallenge.org/") for line in lines)
    assert any(line.startswith("licence  CC BY-NC") for line in lines)
    assert lines[-1].startswith("next     python -m src.")
    assert lines[-1].endswith(f"data=davis2017 paths.data={data}")
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert prepare(data, "data=davis2017")[0] == f"{archive}: nothing to unpack, DAVIS 2017 is complete"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert "davis2017          complete  10 frames, 2 of 2 sequences" in prepare(data)


def test_videos_are_encoded_for_a_method_that_reads_them(data: Path, tmp_path: Path) -> None:
    more = ("data=davis2017", "model=covos", "model.encoding.crf=30", f"paths.cache={tmp_path}/cache")
    lines = prepare(data, *more)
    assert f"encoded  2 videos for model=covos in {tmp_path}/cache/coded" in lines
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/coded").iterdir()}
    assert len(times) == 2
    videos = davis(data / "DAVIS", 2017, "train")
    codec_source = CodecSource(tmp_path / "cache/coded", Encoding(crf=30))
    assert {codec_source.file(video.source) for video in videos} <= set(times)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/coded").iterdir()} == times
    done = program("prepare", f"paths.data={data}", "data=davis2017", "model=stcn", code=2)
    assert done.stderr == "error: model=stcn: looks at no codec data, so nothing is encoded for it\n"


def test_missing_data_give_exit_code_one_and_the_next_step(tmp_path: Path) -> None:
    lines = prepare(tmp_path, "data=coco", code=1)
    assert lines[0] == f"COCO 2017 in {tmp_path}/COCO/: absent"
    assert "├── ✗ annotations/instances_train2017.json  missing" in lines
    [first, second] = [line for line in lines if line.startswith("next")]
    assert "download annotations_trainval2017.zip from http://images.cocodataset.org/" in first
    assert "DAVIS-data.zip" in second
    assert not [path for path in tmp_path.iterdir() if path.name != "COCO"]


def test_damage_is_listed_up_to_twenty_lines(tmp_path: Path) -> None:
    root = davis_tree(tmp_path / "DAVIS", frames=24)
    (root / "ImageSets/2017/train.txt").rename(root / "ImageSets/2017/val.txt")
    (root / "ImageSets/2017/train.txt").write_text("bear\n")
    for path in root.glob("JPEGImages/480p/bear/*"):
        path.write_bytes(path.read_bytes()[:-40])
    lines = prepare(tmp_path, "data=davis2017", "verify=full", code=1)
    assert "incomplete" in lines[0]
    wrong = [line for line in lines if line.startswith("wrong")]
    assert len(wrong) == 20
    assert "JPEGImages/480p/bear/00000.jpg" in wrong[0]
    assert any("… and 4 more" in line for line in lines)


@pytest.mark.slow
def test_a_killed_run_goes_on(data: Path) -> None:
    code = (
        "import os, sys\nfrom voslab.data.preparation import archives\nwrite, left = archives.atomic_path, [5]\n"
        "def dying(path):\n    left[0] -= 1\n    os._exit(9) if left[0] < 0 else None\n    return write(path)\n"
        "archives.atomic_path = dying\nsys.argv[0] = 'prepare'\nfrom voslab.cli.entry import run\nrun('prepare')"
    )
    command = [sys.executable, "-c", code, "data=davis2017", f"paths.data={data}"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 9
    assert sum(path.is_file() for path in (data / "DAVIS").rglob("*")) == 5
    assert "17 files unpacked" in prepare(data, "data=davis2017")[0]


def test_bad_input_is_code_two(tmp_path: Path) -> None:
    done = program("prepare", f"paths.data={tmp_path}", "data=davis2017", "verify=maybe", code=2)
    assert done.stderr == "error: verify=maybe: choose true, false, full or auto\n"


def test_a_hostile_archive_is_one_line(data: Path) -> None:
    archive = data / "downloads/DAVIS-2017-trainval-480p.zip"
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("DAVIS/JPEGImages/../../../../out.jpg", b"1")
    done = program("prepare", f"paths.data={data}", "data=davis2017", code=2)
    member = "DAVIS/JPEGImages/../../../../out.jpg"
    assert done.stderr == f"error: {archive}: member '{member}': a path that leads out of the target; refused\n"
    assert sorted(path.name for path in data.iterdir()) == ["downloads"]


def test_a_named_archive_without_a_data_set(data: Path) -> None:
    archive = data / "downloads/DAVIS-2017-trainval-480p.zip"
    lines = prepare(data, f"archive={archive}")
    assert "22 files unpacked" in lines[0]
    assert any(line.startswith("davis2017          complete") for line in lines)


def test_a_terminal_that_knows_ascii_only_and_generated_videos(tmp_path: Path) -> None:
    generate(tmp_path / "cache/generated", train=1, val=1, frames=1, size=(32, 64))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "src.prepare", "data=generated", f"paths.cache={tmp_path}/cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "generated.json" in done.stdout


@pytest.mark.slow
def test_a_sheet_of_training_clips(tmp_path: Path) -> None:
    root = coco_tree(tmp_path / "data" / "COCO", images=3)
    target = tmp_path / "sheet (1).png"
    small = ["data.train.stills.min_area=100", "data.val=null", "data.test=null", f"paths.cache={tmp_path}/cache"]
    lines = prepare(root.parent, "data=coco", f"preview={target}", *small)
    assert f"preview  {target}" in lines
    with Image.open(target) as sheet:
        assert sheet.width == 3 * (3 * 160 + 4)
        assert len(sheet.getcolors(1 << 20) or []) > 1000
    done = program("prepare", f"paths.data={root.parent}", f"preview={target}", code=2)
    assert "add data=NAME" in done.stderr
