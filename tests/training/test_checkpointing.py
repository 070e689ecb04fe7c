from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from voslab.core import WriteError
from voslab.training.checkpointing import AtomicCheckpointIO

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = {"state_dict": {"a": torch.zeros(3)}}, {"state_dict": {"a": torch.ones(1000)}}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "run ü" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(OLD, path)
    return path


def unchanged(target: Path) -> None:
    assert torch.load(target, weights_only=True)["state_dict"]["a"].tolist() == [0, 0, 0]
    assert [path.name for path in target.parent.iterdir()] == ["last.ckpt"]


def test_full_disk_keeps_the_old_checkpoint(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(content: Any, file: Any) -> None:
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(WriteError, match=r"last\.ckpt: cannot be written \(No space left on device\)$"):
        AtomicCheckpointIO().save_checkpoint(NEW, target)
    unchanged(target)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_full_disk_is_reported_by_torchs_writer(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: real(Path("/dev/full") if "w" in mode else path, mode))
    with pytest.raises(WriteError, match=r"last\.ckpt: cannot be written"):
        AtomicCheckpointIO().save_checkpoint(NEW, target)
    monkeypatch.undo()
    unchanged(target)


def test_failing_sync_keeps_the_old_checkpoint(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError, match=r"last\.ckpt: cannot be written \(Input/output error\)$"):
        AtomicCheckpointIO().save_checkpoint(NEW, target)
    unchanged(target)


def test_kill_between_writing_and_renaming_keeps_the_old_checkpoint(target: Path) -> None:
    code = (
        "import os, signal, sys, pathlib, torch\n"
        "from voslab.training.checkpointing import AtomicCheckpointIO\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "AtomicCheckpointIO().save_checkpoint({'a': torch.ones(9)}, sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert torch.load(target, weights_only=True)["state_dict"]["a"].tolist() == [0, 0, 0]
    # The next one is written all the same.
    AtomicCheckpointIO().save_checkpoint(NEW, target)
    assert len(torch.load(target, weights_only=True)["state_dict"]["a"]) == 1000


def test_blocked_path_is_reported_in_one_line(tmp_path: Path, target: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WriteError, match="cannot be written") as caught:
        AtomicCheckpointIO().save_checkpoint(NEW, tmp_path / "file" / "last.ckpt")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "folder.ckpt").mkdir()
    with pytest.raises(WriteError, match=r"folder\.ckpt: cannot be written"):
        AtomicCheckpointIO().save_checkpoint(NEW, tmp_path / "folder.ckpt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_folder_keeps_the_old_checkpoint(target: Path) -> None:
    target.parent.chmod(0o500)
    try:
        with pytest.raises(WriteError, match=r"cannot be written \(Permission denied\)"):
            AtomicCheckpointIO().save_checkpoint(NEW, target)
    finally:
        target.parent.chmod(0o700)
    unchanged(target)
