"""A disk that fills up under each program: one line, exit code 2, and what was there before is whole."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Run
from voslab.core.archive import read_archive
from voslab.data.sources.synthetic.generated import generate
from voslab.video import read_mask

MIB, PAGE = 2**20, 2**12
SMALL = ("model=stcn", "model.network.backbone=resnet18", "model.network.width=8", "model.network.decoder_width=8")
TINY = (*SMALL, "model.network.value_channels=16", "model.network.norm=group", "engine.size=32", "data=davis2017")
CLIPS = ("data.clip.frames=3", "data.clip.augmentation.size=[32,48]", "data.batch_size=2", "data.num_workers=0")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of eight MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], check=False, capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    generate(folder / "DAVIS", train=2, val=1, frames=4, size=(48, 64), objects=(1, 1))
    return folder


def fill(disk: Path, leave: int) -> None:
    """Leave so many bytes."""
    (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - leave))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")
def test_training_says_so_and_its_last_checkpoint_is_whole(run: Run, disk: Path, data: Path) -> None:
    arguments = (*TINY, *CLIPS, "trainer=cpu", f"paths.data={data}", "test=null", "trainer.enable_progress_bar=false")
    assert run("train", *arguments, "trainer.max_epochs=1", f"hydra.run.dir={disk}/run") == ""
    last = disk / "run" / "checkpoints" / "last.ckpt"
    before, whole = last.read_bytes(), read_archive(last)
    fill(disk, leave=MIB // 4)
    said = run("train", *arguments, "trainer.max_epochs=2", "resume=auto", f"hydra.run.dir={disk}/run")
    assert said.endswith(".ckpt: cannot be written (No space left on device)")
    assert last.read_bytes() == before
    assert whole["global_step"] == 1
    assert list(last.parent.glob(".*")) == []


def test_evaluation_says_so_and_keeps_the_masks_it_has(run: Run, disk: Path, data: Path) -> None:
    arguments = (
        *TINY,
        "trainer=cpu",
        f"paths.data={data}",
        f"output={disk}/scores",
        "trainer.enable_progress_bar=false",
    )
    (disk / "scores").mkdir()
    fill(disk, leave=5 * PAGE)
    said = run("evaluate", *arguments)
    assert said.endswith("cannot be written (No space left on device)")
    written = list((disk / "scores" / "masks").rglob("*.png"))
    assert all(read_mask(path).shape == (48, 64) for path in written)
    assert not (disk / "scores" / "metrics.json").exists()


def test_segment_says_so_and_keeps_the_masks_it_has(run: Run, disk: Path, data: Path) -> None:
    video, mask = data / "DAVIS/JPEGImages/480p/val_000", data / "DAVIS/Annotations/480p/val_000/00000.png"
    (disk / "result").mkdir()
    fill(disk, leave=5 * PAGE)
    said = run("segment", *TINY[:-1], f"video={video}", f"mask={mask}", f"output={disk}/result")
    assert said.endswith("cannot be written (No space left on device)")
    assert all(read_mask(path).shape == (48, 64) for path in (disk / "result" / "masks").glob("*.png"))
