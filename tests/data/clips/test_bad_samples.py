from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.test_datamodule import attached
from tests.data.tree import video
from voslab.core import ConfigError, DataError
from voslab.data import Augmentation, ClipSettings, VideoSequence
from voslab.data.clips.bad_samples import BadSampleCounter, join_reasons
from voslab.data.datamodule import VOSDataModule

SETTINGS = ClipSettings(Augmentation((24, 40), fit="crop"), frames=3, min_area=4)


@pytest.fixture
def videos(tmp_path: Path) -> tuple[VideoSequence, ...]:
    return tuple(video(tmp_path / f"v{number}", frames=3) for number in range(12))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drawn(module: VOSDataModule, epoch: int = 0) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    return [
        (clip.names, clip.skipped)
        for clip in (
            module.on_before_batch_transfer(clip, 0) for clip in attached(module, 1, epoch=epoch).train_dataloader()
        )
    ]


def opened(videos: tuple[VideoSequence, ...], **options: Any) -> VOSDataModule:
    module = VOSDataModule(SETTINGS, videos, batch_size=3, **{"num_workers": 0, **options})
    module.setup("fit")
    return module


def damage(videos: tuple[VideoSequence, ...], kind: str) -> str:
    """Make video 5 unreadable; gives what the reason names."""
    image, mask = videos[5].images[1], videos[5].masks[0]
    assert isinstance(mask, Path)
    if kind == "image":
        truncate(image)
        return image.name
    if kind == "mask":
        truncate(mask)
        return mask.name
    if kind == "empty":
        for path in videos[5].masks:
            assert isinstance(path, Path)
            with Image.open(path) as opened:
                Image.new(opened.mode, opened.size).save(path)
        return "sequence v5: no object"
    image.unlink()
    return image.name


@pytest.mark.parametrize("kind", ["image", "mask", "empty", "missing"])
def test_another_clip_stands_in_and_the_reason_is_kept(
    videos: tuple[VideoSequence, ...], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    named = damage(videos, kind)
    with caplog.at_level(logging.WARNING):
        batches = drawn(opened(videos, skip_limit=0.1))
    [reason] = [reason for _, reasons in batches for reason in reasons]
    assert named in reason
    assert [record.message for record in caplog.records] == [f"skipped a clip: {reason}"]
    names = [name.split()[0] for names, _ in batches for name in names]
    assert len(names) == 12
    assert "v5" not in names


def test_workers_and_a_later_start_find_the_same_replacement(videos: tuple[VideoSequence, ...]) -> None:
    damage(videos, "image")
    damage(videos[1:], "mask")
    whole = drawn(opened(videos, skip_limit=0.5))
    assert whole == drawn(opened(videos, skip_limit=0.5, num_workers=2))
    module = attached(opened(videos, skip_limit=0.5), 1)
    loader = module.train_dataloader()
    loader.load_state_dict({"epoch": 0, "batches": 2, "plan": list(loader.addresses.plan)})
    assert [(clip.names, clip.skipped) for clip in loader] == whole[2:]


def test_too_many_end_the_training_with_the_list(videos: tuple[VideoSequence, ...]) -> None:
    named = damage(videos, "image")
    with pytest.raises(
        DataError, match=r"1 of the 12 clips of epoch 0 cannot be read, more than skip_limit=0\.01"
    ) as e:
        drawn(opened(videos))
    assert named in str(e.value)
    assert "\n" not in str(e.value)
    for one in videos:
        truncate(one.images[1])
    with pytest.raises(DataError, match="7 other clips could not be read in its place"):
        drawn(opened(videos, skip_limit=1))


def test_the_skip_limit_is_divided_between_processes(videos: tuple[VideoSequence, ...]) -> None:
    damage(videos, "image")
    assert len(drawn(opened(videos, skip_limit=1 / 12))) == 4
    shares = [attached(opened(videos, skip_limit=1 / 12), 3, rank) for rank in range(3)]
    [(share, batch)] = [(share, batch) for share in shares for batch in share.train_dataloader() if batch.skipped]
    with pytest.raises(DataError, match="1 of the 4 clips of epoch 0 cannot be read"):
        share.on_before_batch_transfer(batch, 0)


def test_the_count_is_of_an_epoch_and_goes_on_after_a_resume() -> None:
    count = BadSampleCounter(0.1)
    count.add(0, 20, ["a", "b"])
    count.add(1, 20, ["c"])
    again = BadSampleCounter(0.1)
    again.load_state_dict(count.state_dict())
    again.add(1, 20, ["d"])
    with pytest.raises(DataError, match=r"3 of the 20 clips of epoch 1 .* c; d; e$"):
        again.add(1, 20, ["e"])
    assert join_reasons([str(i) for i in range(25)]).endswith("19; and 5 more")


def test_short_videos_are_left_out(tmp_path: Path, videos: tuple[VideoSequence, ...]) -> None:
    short = video(tmp_path / "short", frames=2)
    with pytest.raises(DataError, match="sequence short: 2 frames, too short for clips of 3"):
        opened((short,))
    names = [name.split()[0] for names, _ in drawn(opened((*videos, short))) for name in names]
    assert sorted(names) == sorted(one.name for one in videos)
    with pytest.raises(ConfigError, match="skip_limit=2"):
        opened(videos, skip_limit=2)
