from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.tree import image, labels, save_image, save_mask, video
from voslab.core import VOID, ConfigError, DataError
from voslab.data import (
    Augmentation,
    ClipDataset,
    ClipSettings,
    Curriculum,
    VideoClips,
    VideoSequence,
    build_transform,
    collate,
)

SIZE = (24, 40)
PLAIN = ClipSettings(Augmentation(SIZE, flip=0), frames=3, max_objects=2, min_area=4)


def dataset(*sources: tuple[VideoSequence, ...], settings: ClipSettings = PLAIN, seed: int = 0) -> ClipDataset:
    clips = tuple(VideoClips(source, settings) for source in sources)
    return ClipDataset(clips, build_transform(settings.augmentation), seed)


def frames_of(name: str) -> list[int]:
    return [int(index) for index in name.split()[1].split(",")]


def test_pixels_and_labels_are_those_of_the_named_frames(tmp_path: Path) -> None:
    loaded = collate([dataset((video(tmp_path / "cow"),))[0, 0]])
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.uint8, torch.uint8)
    clip = loaded.unpacked()
    taken = frames_of(clip.names[0])
    assert (clip.images.shape, clip.labels.shape, clip.slot_mask.shape) == ((1, 3, 3, *SIZE), (1, 3, *SIZE), (1, 2))
    assert (clip.images.dtype, clip.labels.dtype, clip.slot_mask.dtype) == (torch.float32, torch.int64, torch.bool)
    for place, index in enumerate(taken):
        expected = torch.from_numpy(image(index)).permute(2, 0, 1) / 255
        torch.testing.assert_close(clip.images[0, place], expected, rtol=0, atol=1e-7)
        assert torch.equal(clip.labels[0, place] > 0, torch.from_numpy(labels(index)) > 0)


def test_slots_are_dealt_at_random_and_consistently(tmp_path: Path) -> None:
    data = dataset((video(tmp_path / "cow", ids=(4, 9)),))
    orders = set()
    for epoch in range(12):
        item = data[epoch, 0]
        first = frames_of(item.name)[0]
        slots = tuple(int(item.labels[0, 5, 3 + 12 * place + first]) for place in range(2))
        orders.add(slots)
        assert item.slot_mask.tolist() == [True, True]
        for place, index in enumerate(frames_of(item.name)):
            expected = np.select([labels(index) == 1, labels(index) == 2], slots)
            np.testing.assert_array_equal(item.labels[place], expected)
    assert orders == {(1, 2), (2, 1)}


def test_one_target_of_many_leaves_the_others_background(tmp_path: Path) -> None:
    settings = replace(PLAIN, max_objects=1)
    data = dataset((video(tmp_path / "cow", ids=(4, 9)),), settings=settings)
    columns = set()
    for epoch in range(12):
        item = data[epoch, 0]
        assert item.slot_mask.tolist() == [True]
        assert np.unique(item.labels).tolist() == [0, 1]
        columns.add(int(item.labels[0].numpy().any(0).argmax()) - frames_of(item.name)[0])
    assert columns == {2, 14}


def test_slots_are_as_many_for_every_clip(tmp_path: Path) -> None:
    settings = replace(PLAIN, max_objects=5)
    data = dataset((video(tmp_path / "a", ids=(1,)), video(tmp_path / "b", ids=(3, 7))), settings=settings)
    clip = collate([data[0, 0], data[0, 1]])
    assert clip.slot_mask.tolist() == [[True] + [False] * 4, [True] * 2 + [False] * 3]
    assert len(clip.names) == 2


def test_address_alone_decides(tmp_path: Path) -> None:
    settings = replace(PLAIN, augmentation=Augmentation(SIZE, fit="crop", rotate=30, jitter=0.2), reverse=0.5)
    source = (video(tmp_path / "cow", frames=12),) * 3
    a, b = dataset(source, settings=settings), dataset(source, settings=settings)
    b[3, 1], b[0, 2]
    assert torch.equal(a[2, 1].images, b[2, 1].images)
    assert torch.equal(a[2, 1].labels, b[2, 1].labels)
    drawn = {data[address].images.numpy().tobytes() for data in (a, b) for address in ((0, 0), (0, 1), (1, 0))}
    drawn.add(dataset(source, settings=settings, seed=1)[0, 0].images.numpy().tobytes())
    assert len(drawn) == 4


def test_sources_follow_each_other(tmp_path: Path) -> None:
    a, b, c = (video(tmp_path / name) for name in "abc")
    data = dataset((a, b), (c,) * 2)
    assert [data[0, index].name.split()[0] for index in range(len(data))] == ["a", "b", "c", "c"]
    with pytest.raises(IndexError):
        data[0, 4]


def test_gaps_follow_the_curriculum(tmp_path: Path) -> None:
    settings = replace(PLAIN, frames=2, curriculum=Curriculum(1, 4, 10, 9))
    data = dataset((video(tmp_path / "cow", frames=12),), settings=settings)

    def largest(epochs: range) -> int:
        return max(int(np.diff(frames_of(data[epoch, 0].name))[0]) for epoch in epochs)

    assert largest(range(10)) == 1
    assert 1 < largest(range(10, 20)) <= 5
    assert settings.gap_at(1000) == (1, 9)


def test_frames_without_annotation_are_void(tmp_path: Path) -> None:
    sequence = video(tmp_path / "cow", frames=3)
    sequence = replace(sequence, masks=(sequence.masks[0], None, sequence.masks[2]))
    item = dataset((sequence,))[0, 0]
    assert (item.labels[1] == VOID).all()
    assert not (item.labels[0] == VOID).any()
    assert (item.labels[2] > 0).any()


def test_void_is_void_only_where_declared(tmp_path: Path) -> None:
    settings = replace(PLAIN, max_objects=3)
    declared = dataset((video(tmp_path / "a", ids=(5, 255), void=255),), settings=settings)[0, 0]
    assert np.unique(declared.labels).tolist() == [0, 1, VOID]
    plain = dataset((video(tmp_path / "b", ids=(5, 255)),), settings=settings)[0, 0]
    assert np.unique(plain.labels).tolist() == [0, 1, 2]


def corner(folder: Path, empty: tuple[int, ...], area: int = 2) -> VideoSequence:
    """A large image with one small object, which some frames lack."""
    for t in range(6):
        mask = np.zeros((48, 80), np.uint8)
        if t not in empty:
            mask[:area, :area] = 1
        save_image(folder / f"{t}.png", image(t, (48, 80)))
        save_mask(folder / "masks" / f"{t}.png", mask)
    names = [f"{t}.png" for t in range(6)]
    return VideoSequence("corner", tuple(folder / n for n in names), tuple(folder / "masks" / n for n in names))


def test_draws_without_a_target_are_repeated(tmp_path: Path) -> None:
    settings = replace(PLAIN, frames=1, min_area=4)
    data = dataset((corner(tmp_path, empty=(0, 1, 2)),), settings=settings)
    assert all(data[epoch, 0].slot_mask.any() and frames_of(data[epoch, 0].name)[0] > 2 for epoch in range(20))


def test_the_best_draw_is_taken_when_none_shows_enough(tmp_path: Path) -> None:
    settings = replace(PLAIN, frames=2, min_area=50, augmentation=Augmentation((48, 80), fit="crop", flip=0))
    item = dataset((corner(tmp_path, empty=()),), settings=settings)[0, 0]
    assert item.slot_mask.tolist() == [True, False]
    assert (item.labels[0] == 1).sum() == 4


def test_objects_that_the_crop_hides_become_background(tmp_path: Path) -> None:
    settings = replace(PLAIN, augmentation=Augmentation((12, 12), fit="crop", flip=0), min_area=30, max_objects=3)
    data = dataset((video(tmp_path / "cow", ids=(1, 2, 3)),), settings=settings)
    for epoch in range(15):
        item = data[epoch, 0]
        count = int(item.slot_mask.sum())
        areas = np.bincount(item.labels[0].numpy().ravel(), minlength=4)[1:]
        assert (areas[:count] >= 30).all()
        assert not areas[count:].any()
        assert set(np.unique(item.labels)) <= set(range(count + 1))


def test_a_video_without_any_object_is_an_error(tmp_path: Path) -> None:
    data = dataset((corner(tmp_path, empty=tuple(range(6))),))
    with pytest.raises(DataError, match="sequence corner: no object in any of its 6 masks"):
        data[0, 0]


def test_rare_objects_may_be_missed_but_are_no_error(tmp_path: Path) -> None:
    data = dataset((corner(tmp_path, empty=(0, 1, 2, 3, 4)),))  # clips of 3 frames start at 3 at the latest
    assert not data[0, 0].slot_mask.any()


def test_invalid_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sequence cow: 2 frames, too short for clips of 3"):
        dataset((video(tmp_path / "cow", frames=2),))
    sequence = video(tmp_path / "ox", frames=3)
    save_image(sequence.images[1], image(0, (24, 44)))
    save_mask(tmp_path / "ox/masks/00001.png", labels(1, (24, 44)))
    with pytest.raises(DataError, match=r"sequence ox: frames \(0, 1, 2\) have different sizes: 40 x 24, 44 x 24"):
        dataset((sequence,))[0, 0]
    sequence.images[1].write_bytes(sequence.images[1].read_bytes()[:50])
    with pytest.raises(DataError, match=r"ox/00001\.png"):
        dataset((sequence,))[0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames=0"),
        ({"gap": (0, 2)}, "gap"),
        ({"gap": (3, 2)}, "gap"),
        ({"reverse": 2.0}, "reverse"),
        ({"max_objects": 255}, "max_objects=255"),
        ({"min_area": 0}, "min_area"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"clip: {message}"):
        ClipSettings(Augmentation(SIZE), **options)


@pytest.mark.parametrize(
    ("gap", "expected"), [((1, 1), (1, 1)), ((1, 6), (1, 2)), ((1, 26), (1, 6)), ((6, 10), (2, 2))]
)
def test_a_source_at_a_stride_skips_fewer_frames(gap: tuple[int, int], expected: tuple[int, int]) -> None:
    assert ClipSettings(Augmentation((24, 40)), gap=gap, every=5).gap_at(0) == expected
    assert ClipSettings(Augmentation((24, 40)), gap=gap).gap_at(0) == gap
