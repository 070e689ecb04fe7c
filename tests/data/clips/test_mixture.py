from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.tree import video
from voslab.core import ConfigError, DataError
from voslab.data import Augmentation, ClipDataset, ClipSettings, Curriculum, VideoSequence, build_transform
from voslab.data.clips.mixture import WeightedSource, open_mixture

SETTINGS = ClipSettings(
    Augmentation((24, 40), flip=0), frames=2, max_objects=2, min_area=4, curriculum=Curriculum(1, 1, 1, 3)
)


def clips(*parts: WeightedSource | tuple[VideoSequence, ...], epoch: int | None = None) -> ClipDataset:
    mixture = open_mixture(list(parts), SETTINGS, epoch)
    return ClipDataset(mixture.sources, build_transform(SETTINGS.augmentation), 0, mixture.counts)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoSequence, ...]:
    root = tmp_path_factory.mktemp("videos")
    return tuple(video(root / name, frames=8) for name in "abcdefg")


def drawn(data: ClipDataset, epochs: int = 1) -> Counter[str]:
    return Counter(data[epoch, i].name.split()[0] for epoch in range(epochs) for i in range(len(data)))


def test_a_source_alone_and_a_list_of_sources_come_once(videos: tuple[VideoSequence, ...]) -> None:
    assert open_mixture(videos, SETTINGS, None).counts == (7,)
    assert open_mixture(lambda: videos, SETTINGS, None).counts == (7,)
    assert drawn(clips(videos[:2], videos[2:])) == Counter("abcdefg")


def test_repeats_and_weights_share_an_epoch(videos: tuple[VideoSequence, ...]) -> None:
    parts = (WeightedSource(videos[:2], repeats=5), WeightedSource(videos[2:5]))
    assert drawn(clips(*parts)) == Counter("ab" * 5 + "cde")
    assert clips(*parts, epoch=26).counts == (20, 6)
    assert clips(WeightedSource(videos[:1], weight=0.6), WeightedSource(videos[1:], weight=0.4), epoch=11).counts == (
        7,
        4,
    )
    assert drawn(clips(WeightedSource((), weight=0), WeightedSource(videos[:2], weight=0.4), epoch=4)) == Counter(
        "aabb"
    )


def test_a_part_of_an_epoch_goes_on_with_the_next(videos: tuple[VideoSequence, ...]) -> None:
    data = clips(videos, epoch=3)
    assert len(data) == 3
    assert drawn(data, epochs=7) == Counter("abcdefg" * 3)
    assert set(drawn(data)) != set(drawn(clips(videos, epoch=3), epochs=2))


def test_every_source_has_its_own_say(videos: tuple[VideoSequence, ...]) -> None:
    own = WeightedSource(videos[1:], gap=(2, 2), reverse=1.0, max_objects=1, min_area=9)
    first, second = open_mixture([videos[:1], own], SETTINGS, None).sources
    assert first.settings == SETTINGS
    assert second.settings == replace(SETTINGS, gap=(2, 2), curriculum=None, reverse=1.0, max_objects=1, min_area=9)
    assert second.settings.gap_at(9) == (2, 2)
    data = clips(videos[:1], own)
    assert [data[0, i].slot_mask.tolist() for i in (0, 1)] == [[True, True], [True, False]]


def test_clips_depend_on_their_address_only(videos: tuple[VideoSequence, ...]) -> None:
    one, two = (
        clips(WeightedSource(videos, weight=1), WeightedSource(videos[:3], weight=2), epoch=8) for _ in range(2)
    )
    forth = [one[1, i].name for i in range(8)]
    back = [two[1, i].name for i in reversed(range(8))]
    assert forth == back[::-1]


def test_invalid_mixtures_are_refused(videos: tuple[VideoSequence, ...]) -> None:
    with pytest.raises(ConfigError, match="weights need clips_per_epoch"):
        clips(WeightedSource(videos, weight=1))
    with pytest.raises(ConfigError, match="one for every source"):
        clips(WeightedSource(videos, weight=1), videos, epoch=9)
    with pytest.raises(ConfigError, match="fewer than the 2 sources"):
        clips(videos, videos, epoch=1)
    with pytest.raises(ConfigError, match="weights of all sources are 0"):
        clips(WeightedSource(videos, weight=0), epoch=9)
    with pytest.raises(ConfigError, match="repeats=0"):
        WeightedSource(videos, repeats=0)
    with pytest.raises(ConfigError, match=r"weight=-0\.1 not negative"):
        WeightedSource(videos, weight=-0.1)
    with pytest.raises(DataError, match="no videos"):
        clips(videos, ())


def test_a_short_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sequence cow: 1 frames, too short"):
        clips((video(tmp_path / "cow", frames=1),))
