from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.data.tree import davis_tree, video
from voslab.core import ConfigError, DataError
from voslab.data import Augmentation, ClipDataset, ClipSettings, Curriculum, VideoSequence, build_transform
from voslab.data.clips.mixture import Mixture, WeightedSource, open_mixture
from voslab.data.sources.davis import davis

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


def with_davis(
    root: Path, videos: tuple[VideoSequence, ...], default: Path | None = None, weights: bool = False
) -> Mixture:
    """A mixture with an optional DAVIS 2017, for which 2016 is a substitute."""
    place = root if default is None else default
    share = {"weight": 1.0} if weights else {}
    sources = {
        "new": WeightedSource(lambda: davis(root, 2017), optional_at=place, **share),
        "old": WeightedSource(lambda: davis(root, 2016), optional_at=place, instead_of="new", **share),
        "own": WeightedSource(videos, **share),
    }
    return open_mixture(sources, SETTINGS, 12 if weights else None)


def test_an_absent_optional_source_leaves_its_share_to_the_others(
    videos: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    mixture = with_davis(tmp_path / "none", videos)
    assert (mixture.names, mixture.counts) == (("own",), (7,))
    assert mixture.absent == dict.fromkeys(("new", "old"), f"{tmp_path}/none: no such folder")
    assert with_davis(tmp_path / "none", videos, weights=True).counts == (12,)


@pytest.mark.parametrize(("year", "name", "missing"), [(2016, "old", ["new"]), (2017, "new", [])])
def test_a_substitute_is_used_only_in_place_of_an_absent_source(
    year: int, name: str, missing: list[str], videos: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    davis_tree(tmp_path, year=year)
    mixture = with_davis(tmp_path, videos, weights=True)
    assert (mixture.names, mixture.counts, list(mixture.absent)) == ((name, "own"), (6, 6), missing)


def test_the_line_about_absent_sources_names_the_consequences(
    videos: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    root = davis_tree(tmp_path, year=2016)
    [old] = [source for source in with_davis(root, videos).sources if len(source) == 2]
    alone = Mixture(("old",), (old,), (2,), {"new": "x.txt: no such list"})
    merged = davis(root, 2016)
    single = "every clip has one object, so nothing is learned about several"
    start = "data: new is missing (x.txt: no such list); this run trains on old alone"
    assert alone.describe_absence() == f"{start}; {single}"
    assert alone.describe_absence(merged) == f"{start}; {single}; the 2 validation videos have one object each"
    assert alone.describe_absence(videos) == f"{start}; {single}"
    both = with_davis(root, videos).describe_absence(videos)
    assert both.endswith("no such list of sequences); this run trains on old and own alone")


def test_a_missing_data_set_in_another_folder_than_the_default_is_an_error(
    videos: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"wrong: no such folder; DAVIS is expected there"):
        with_davis(tmp_path / "wrong", videos, default=tmp_path / "DAVIS")


def test_a_damaged_optional_data_set_is_an_error(videos: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    (root / "Annotations" / "480p" / "bear" / "00002.png").unlink()
    with pytest.raises(DataError, match=r"bear/00002\.png: missing"):
        with_davis(root, videos)


def test_a_training_without_any_source_is_refused(tmp_path: Path) -> None:
    sources = [WeightedSource(partial(davis, tmp_path / name), optional_at=str(tmp_path / name)) for name in ("a", "b")]
    with pytest.raises(
        DataError, match=r"^data: no training source is present: .*a: no such folder; .*b: no such folder$"
    ):
        open_mixture(sources, SETTINGS, None)


def test_a_substitute_for_no_source_before_it_is_refused(videos: tuple[VideoSequence, ...]) -> None:
    with pytest.raises(ConfigError, match=r"data\.train\.a: instead_of=b is no source before it"):
        open_mixture({"a": WeightedSource(videos, instead_of="b"), "b": WeightedSource(videos)}, SETTINGS, None)
