from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.data.test_datamodule import SETTINGS, attached, names
from tests.data.tree import video
from voslab.core import ConfigError, DataError
from voslab.data.datamodule import VOSDataModule


def module(
    folder: Path, clips: int = 7, world: int = 1, rank: int = 0, epoch: int = 0, **options: int
) -> VOSDataModule:
    sequences = tuple(video(folder / f"v{number}", frames=3) for number in range(clips))
    build_once = VOSDataModule(SETTINGS, sequences, **{"batch_size": 2, "num_workers": 0, **options})
    attached(build_once, world, rank, epoch)
    build_once.setup("fit")
    return build_once


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_behind_any_batch(tmp_path: Path, workers: int) -> None:
    build_once = module(tmp_path, num_workers=workers, epoch=3)
    whole = names(build_once)
    assert len(whole) == 3
    for done in range(4):
        loader = build_once.train_dataloader()
        batches = iter(loader)
        for _ in range(done):
            next(batches)
        state = loader.state_dict()
        assert (state["epoch"], state["batches"]) == (3, done)
        again = build_once.train_dataloader()
        again.load_state_dict(state)
        assert len(again) == 3
        assert [clip.names for clip in again] == whole[done:]
        assert again.state_dict()["batches"] == 3


def test_only_its_own_epoch_begins_later(tmp_path: Path) -> None:
    build_once = module(tmp_path, epoch=3)
    state = {"epoch": 2, "batches": 2, "plan": [7, 0, 2]}
    loader = build_once.train_dataloader()
    loader.load_state_dict(state)
    assert [clip.names for clip in loader] == names(build_once)


def test_two_processes_go_on_where_one_was(tmp_path: Path) -> None:
    whole = names(module(tmp_path))
    shares = []
    for rank in range(2):
        loader = module(tmp_path, world=2, rank=rank).train_dataloader()
        loader.load_state_dict({"epoch": 0, "batches": 1, "plan": [7, 0, 2]})
        shares.append([clip.names for clip in loader])
    assert [a + b for a, b in zip(*shares, strict=True)] == whole[1:]


def test_other_batches_in_the_middle_of_an_epoch_are_refused(tmp_path: Path) -> None:
    state = module(tmp_path).train_dataloader().state_dict()
    other = module(tmp_path, batch_size=1, seed=4).train_dataloader()
    changed = "seed was 0, is 4, clips per pass of all processes was 2, is 1, batch_size was 2, is 1"
    with pytest.raises(ConfigError, match=f"middle of an epoch and {changed}"):
        other.load_state_dict({**state, "batches": 1})
    other.load_state_dict({**state, "batches": 0})


@pytest.mark.parametrize("given", [0, 1])
def test_workers_outlive_a_signal_to_the_whole_group(tmp_path: Path, given: int) -> None:
    whole = names(build_once := module(tmp_path, num_workers=2))
    batches = iter(build_once.train_dataloader())
    seen = [next(batches).names for _ in range(given)]
    for child in children():
        os.kill(child, signal.SIGINT)
        os.kill(child, signal.SIGTERM)
    time.sleep(0.1)
    seen += [clip.names for clip in batches]
    assert seen == whole


def children() -> list[int]:
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [int(child) for child in found.read_text().split()]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 5 worker processes")
def test_more_workers_than_clips_are_no_matter(tmp_path: Path) -> None:
    assert names(module(tmp_path, clips=2, num_workers=5)) == names(module(tmp_path, clips=2))


def test_an_indivisible_batch_is_found_before_any_process_starts(tmp_path: Path) -> None:
    build_once = module(tmp_path)
    build_once.check(2)
    with pytest.raises(ConfigError, match="batch_size=2 is the batch of all 3 processes"):
        build_once.check(3)
    with pytest.raises(DataError, match="7 clips an epoch, fewer than one batch of 8"):
        module(tmp_path, batch_size=8, clips_per_epoch=7).check(2)
    with pytest.raises(DataError, match="has no videos"):
        VOSDataModule(SETTINGS, ()).check(1)
