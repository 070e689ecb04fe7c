from __future__ import annotations

import json
import logging
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.tree import save_mask
from tests.data.youtube_tree import FILMS, Film, write_meta, youtube_tree
from voslab.core import ConfigError, DataError, MissingDataSetError
from voslab.data import VideoSequence
from voslab.data.sources.youtube_vos import youtube_vos
from voslab.video import write_mask

FISH, APE, DOG = sorted(FILMS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return youtube_tree(tmp_path / "You Tube")


def by_name(videos: tuple[VideoSequence, ...]) -> dict[str, VideoSequence]:
    return {video.name: video for video in videos}


def stems(video: VideoSequence, frames: tuple[int, ...] | None = None) -> list[str]:
    return [video.images[i].stem for i in (range(len(video)) if frames is None else frames)]


def test_training_videos_are_annotated_wherever_objects_are(root: Path) -> None:
    fish, dog = youtube_vos(root, min_frames=2)
    assert (fish.name, dog.name) == (FISH, DOG)
    assert stems(dog) == ["00036", "00041"]
    assert fish.truth
    assert fish.scores_last
    assert dict(fish.starts or {}) == {1: 0, 2: 1}
    for video in (fish, dog):
        for index, image in enumerate(video.images):
            np.testing.assert_array_equal(video.labels(index), FILMS[video.name].labels(int(image.stem)))


def test_training_at_30_fps_outputs_every_fifth_frame(root: Path) -> None:
    fish = youtube_vos(root, "train_all_frames", min_frames=2)[0]
    assert len(fish) == 16
    assert [i for i, mask in enumerate(fish.masks) if mask is not None] == [0, 5, 10, 15]
    assert fish.outputs == (0, 5, 10, 15)


def test_validation_starts_anywhere_and_asks_from_the_first_labelled_frame_on(root: Path) -> None:
    ape = by_name(youtube_vos(root, "valid_all_frames"))[APE]
    assert stems(ape) == [f"{number:05}" for number in range(20, 32)]
    assert dict(ape.starts or {}) == {2: 5, 5: 10}
    assert stems(ape, ape.outputs) == ["00025", "00030"]
    assert not ape.truth
    given = ape.given_masks()
    assert list(given) == [5, 10]
    np.testing.assert_array_equal(given[5], FILMS[APE].labels(25, new_only=True))
    np.testing.assert_array_equal(given[10], FILMS[APE].labels(30, new_only=True))


def test_validation_at_6_fps(root: Path) -> None:
    ape = by_name(youtube_vos(root, "valid"))[APE]
    assert stems(ape) == ["00020", "00025", "00030"]
    assert (dict(ape.starts or {}), ape.outputs) == ({2: 1, 5: 2}, (1, 2))


def test_without_the_6_fps_frames_every_fifth_frame_is_output(root: Path) -> None:
    expected = {video.name: stems(video, video.outputs) for video in youtube_vos(root, "valid_all_frames")}
    shutil.rmtree(root / "valid" / "JPEGImages")
    # Numbers have gaps: the grid is one of numbers, not of places.
    (root / "valid_all_frames/JPEGImages" / FISH / "00007.jpg").unlink()
    assert {video.name: stems(video, video.outputs) for video in youtube_vos(root, "valid_all_frames")} == expected
    (root / "valid/Annotations").rename(root / "valid_all_frames/Annotations")
    (root / "valid/meta.json").rename(root / "valid_all_frames/meta.json")
    assert len(youtube_vos(root, "valid_all_frames")) == 3


def test_unseen_are_the_categories_that_no_training_video_has(root: Path) -> None:
    unseen = {video.name: video.unseen for video in youtube_vos(root, "valid")}
    assert unseen == {FISH: frozenset(), APE: frozenset({2}), DOG: frozenset()}
    assert {video.unseen for video in youtube_vos(root)} == {frozenset()}
    edit(lambda objects: objects["1"].pop("category"))(root)
    assert youtube_vos(root, "valid")[0].unseen == frozenset()
    (root / "train/meta.json").unlink()
    assert {video.unseen for video in youtube_vos(root, "valid")} == {frozenset()}


def test_years(root: Path) -> None:
    data = root.parent
    root.rename(data / "2019")
    assert len(youtube_vos(data, "valid")) == 3
    assert len(youtube_vos(data, "valid", 2019)) == 3
    with pytest.raises(DataError, match=r"2018.valid.JPEGImages: no such folder"):
        youtube_vos(data, "valid", 2018)
    # The 2018 release is often kept without its training videos, which are those of 2019.
    shutil.copytree(data / "2019/valid", data / "2018/valid")
    with pytest.raises(ConfigError, match="split valid of several years; choose year=2018 or year=2019"):
        youtube_vos(data, "valid")
    assert by_name(youtube_vos(data, "valid", 2018))[APE].unseen == {2}
    assert len(youtube_vos(data, "train", min_frames=2)) == 2
    (data / "2019/train").rename(data / "train")
    assert by_name(youtube_vos(data, "valid", 2018))[APE].unseen == {2}


def test_an_object_starts_where_it_shows_even_if_it_is_listed_earlier(root: Path) -> None:
    blank = FILMS[FISH].labels(5)
    blank[blank == 2] = 0
    save_mask(root / f"train/Annotations/{FISH}/00005.png", blank)
    fish = youtube_vos(root)[0]
    assert dict(fish.starts or {}) == {1: 0, 2: 2}
    assert list(fish.given_masks()) == [0, 2]
    for number in (5, 10, 15):
        save_mask(root / f"train/Annotations/{FISH}/{number:05}.png", np.minimum(FILMS[FISH].labels(number), 1))
    with pytest.raises(DataError, match=rf"meta\.json: video {FISH}, object 2: is in no mask"):
        fish.given_masks()


def test_listing_decodes_no_image_and_sequences_can_be_pickled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", refuse)
        videos = youtube_vos(root, "valid_all_frames")
    assert pickle.loads(pickle.dumps(videos)) == videos


def test_short_training_videos_are_skipped_with_a_message(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert [video.name for video in youtube_vos(root)] == [FISH]
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith(f"left out, fewer than 3 frames: {DOG}")
    # A server wants them all.
    assert len(youtube_vos(root, "valid", min_frames=100)) == 3


def test_picked_repeated_and_held_out(root: Path) -> None:
    def names(**options: Any) -> list[str]:
        return [video.name for video in youtube_vos(root, "valid", **options)]

    assert names(only=[DOG, FISH]) == [FISH, DOG]
    assert names(without=[DOG]) == [FISH, APE]
    assert names(held_out=True) == [FISH]
    assert names(held_out=False) == [APE, DOG]
    with pytest.raises(ConfigError, match="YouTube-VOS valid has no video 'none'"):
        names(without=["none"])


def test_masks_can_be_declared_ground_truth(root: Path) -> None:
    ape = youtube_vos(root, "valid", only=[APE], truth=False)[0]
    assert not ape.truth
    with pytest.raises(DataError, match=rf"valid.Annotations.{FISH}.00010\.png: missing, the mask of"):
        youtube_vos(root, "valid", truth=True)
    for name, film in FILMS.items():
        for number in film.annotated:
            save_mask(root / f"valid/Annotations/{name}/{number:05}.png", film.labels(number))
    videos = youtube_vos(root, "valid_all_frames", truth=True)
    assert [(video.truth, len(video.unseen)) for video in videos] == [(True, 0), (True, 1), (True, 0)]


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the entry of the fish in `valid/meta.json`."""

    def damage(root: Path) -> None:
        path = root / "valid/meta.json"
        content = json.loads(path.read_text())
        change(content["videos"][FISH]["objects"])
        path.write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "valid/meta.json").unlink(), r"valid.meta\.json: cannot be read \(No such file"),
        (lambda root: (root / "valid/meta.json").write_text("{"), r"valid.meta\.json: damaged"),
        (lambda root: (root / "valid/meta.json").write_text("[" * 100_000), r"valid.meta\.json: damaged"),
        (lambda root: (root / "valid/meta.json").write_bytes(b"\xff\xfe"), r"valid.meta\.json: damaged"),
        (lambda root: (root / "valid/meta.json").write_text("[]"), r"valid.meta\.json: lists no videos"),
        (edit(lambda objects: objects.clear()), rf"meta\.json: video {FISH}: lists no objects"),
        (edit(lambda objects: objects.update({"300": objects["1"]})), rf"{FISH}, object '300': ids go from 1 to 254"),
        (edit(lambda objects: objects.update({"x": objects["1"]})), rf"{FISH}, object 'x': ids go from 1 to 254"),
        (edit(lambda objects: objects.update({"01": objects["1"]})), rf"{FISH}: has an object twice"),
        (edit(lambda objects: objects["1"].pop("frames")), rf"{FISH}, object 1: lists no frames"),
        (edit(lambda objects: objects["1"].update(frames=[5])), rf"{FISH}, object 1: lists no frames"),
        (edit(lambda objects: objects["1"].update(category=7)), rf"{FISH}, object 1: its category is no name"),
        (edit(lambda objects: objects["2"].update(frames=["00099"])), rf"{FISH}, object 2: frame 00099 is not in "),
        (edit(lambda objects: objects["2"].update(frames=["00015"])), rf"{FISH}, object 2: none of its frames has a "),
        (lambda root: shutil.rmtree(root / "valid/Annotations" / FISH), rf"{FISH}, object 1: none of its frames has a"),
        (lambda root: shutil.rmtree(root / "valid/JPEGImages" / FISH), rf"JPEGImages.{FISH}: cannot be listed"),
        (lambda root: shutil.rmtree(root / "valid/Annotations"), r"valid.Annotations: no such folder"),
        (lambda root: (root / "valid/JPEGImages/xyz").mkdir(), r"meta\.json: does not list video xyz"),
        (
            lambda root: write_mask(root / f"valid/Annotations/{FISH}/00007.png", np.ones((24, 40), np.uint8)),
            r"00007\.png: there is no frame of that name",
        ),
        (
            lambda root: (root / f"valid/Annotations/{FISH}/00000.png").write_bytes(b"\x89PNG"),
            rf"valid.Annotations.{FISH}.00000\.png: not an image",
        ),
    ],
)
def test_damaged_and_missing_files_are_reported(root: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        [video.given_masks() for video in youtube_vos(root, "valid")]
    assert "\n" not in str(error.value)


def test_missing_frames_at_30_fps_are_reported(root: Path) -> None:
    (root / f"valid_all_frames/JPEGImages/{APE}/00020.jpg").unlink()
    with pytest.raises(DataError, match=rf"valid_all_frames.JPEGImages.{APE}.00020\.jpg: missing"):
        youtube_vos(root, "valid_all_frames")
    with pytest.raises(DataError, match=r"test.JPEGImages: no such folder; .* holds train, train.Annotations"):
        youtube_vos(root, "test")


def test_a_missing_split_is_distinguished_from_a_wrong_year_and_a_damaged_split(root: Path) -> None:
    for place, split in ((root / "nowhere", "train"), (root, "test")):
        with pytest.raises(MissingDataSetError) as missing:
            youtube_vos(place, split)
        assert missing.value.root == place
    (root / "train").rename(root / "outer")
    (root / "2019").mkdir()
    (root / "outer").rename(root / "2019" / "train")
    with pytest.raises(DataError, match=r"2018.train.JPEGImages: no such folder") as wrong_year:
        youtube_vos(root, year=2018)
    shutil.rmtree(root / "2019/train/JPEGImages")
    with pytest.raises(DataError, match=r"train.JPEGImages: no such folder") as damaged:
        youtube_vos(root)
    assert not any(isinstance(error.value, MissingDataSetError) for error in (wrong_year, damaged))


def test_a_crowd_of_objects_with_gaps_in_their_ids(tmp_path: Path) -> None:
    film = Film(5, 6, tuple((identity, "ant", 5 + 5 * (identity > 200)) for identity in range(1, 254, 3)))
    place = tmp_path / "valid/JPEGImages/ants"
    place.mkdir(parents=True)
    first = np.zeros((24, 40), np.uint8)
    first.ravel()[: 254 * 3] = np.repeat(np.arange(254), 3)
    for number in film.annotated:
        Image.new("RGB", (40, 24)).save(place / f"{number:05}.jpg")
        now = np.isin(first, [obj for obj, _, start in film.objects if start == number])
        write_mask(tmp_path / f"valid/Annotations/ants/{number:05}.png", np.where(now, first, 0))
    write_meta(tmp_path / "valid/meta.json", {"ants": film})
    (ants,) = youtube_vos(tmp_path, "valid")
    given = ants.given_masks()
    assert [len(np.unique(labels)) - 1 for labels in given.values()] == [67, 18]
