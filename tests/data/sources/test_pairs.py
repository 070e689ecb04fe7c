from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.tree import davis_tree, save_image, save_mask
from voslab.core import ConfigError, DataError
from voslab.data import VideoSequence
from voslab.data.sources.pairs import Pair, davis_pairs, place

SIZE = (24, 64)


def square(folder: Path, columns: range, colour: int, step: int = 0, frames: int = 9) -> VideoSequence:
    """A lossless sequence of a grey square that moves by `step` columns a frame, over a black background."""
    images, masks = [], []
    for t in range(frames):
        mask = np.zeros(SIZE, np.uint8)
        mask[8:16, columns.start + step * t : columns.stop + step * t] = 1
        images.append(folder / f"{t:05}.png")
        masks.append(folder / "masks" / f"{t:05}.png")
        save_image(images[-1], np.repeat(colour * mask[..., None], 3, 2))
        save_mask(masks[-1], mask)
    return VideoSequence(folder.name, tuple(images), tuple(masks))


@pytest.mark.parametrize("in_front", [True, False])
def test_object_in_front_keeps_its_pixels_where_both_are(tmp_path: Path, in_front: bool) -> None:
    scene, pasted = square(tmp_path / "scene", range(8, 24), 100), square(tmp_path / "pasted", range(16, 32), 200)
    image, labels = Pair(scene, pasted, in_front, mirror=False, shift=0).frame(0)
    front, behind = (2, 1) if in_front else (1, 2)
    assert (labels[8:16, 16:24] == front).all()
    assert np.count_nonzero(labels == front) == 8 * 16
    assert np.count_nonzero(labels == behind) == 8 * 8
    for columns, colour in (((18, 22), 200 if in_front else 100), ((26, 30), 200), ((10, 14), 100)):
        assert np.abs(image[10:14, slice(*columns)].astype(int) - colour).max() <= 2  # the seam is blurred
    assert not image[labels == 0].any()


def test_pasted_object_is_mirrored_and_shifted(tmp_path: Path) -> None:
    scene, pasted = square(tmp_path / "scene", range(2, 4), 100), square(tmp_path / "pasted", range(8), 200)
    for shift, columns in ((0, range(56, 64)), (-16, range(40, 48)), (4, range(60, 64))):
        _, labels = Pair(scene, pasted, True, mirror=True, shift=shift).frame(0)
        assert np.flatnonzero((labels == 2).any(0)).tolist() == list(columns)


def test_objects_are_apart_at_first_and_meet_later(tmp_path: Path) -> None:
    scene, pasted = square(tmp_path / "scene", range(24, 32), 100), square(tmp_path / "pasted", range(24, 32), 200, 3)
    pair = place(scene, pasted, in_front=True)
    met = [bool(np.logical_and(*pair.masks(index)).any()) for index in range(len(pair))]
    assert not met[0]
    assert any(met)


def test_least_overlap_is_used_where_objects_cannot_be_apart(tmp_path: Path) -> None:
    scene, pasted = square(tmp_path / "scene", range(64), 100), square(tmp_path / "pasted", range(24, 32), 200)
    own, other = place(scene, pasted, in_front=True).masks(0)
    assert other.any()
    assert np.count_nonzero(own & other) == 64


def test_data_set_has_both_orders_of_occlusion_and_is_generated_once(tmp_path: Path) -> None:
    root = davis_tree(tmp_path / "davis", ("a", "b", "c", "d", "e"), year=2016)
    videos = davis_pairs(tmp_path / "pairs", root, "train", clips=2)
    names = {name for video in videos for name in video.name.split("_over_")}
    assert len(videos) == 2
    assert len(names) == 4
    assert names < {"a", "b", "c", "d", "e"}
    for video in videos:
        first = video.labels(0)
        assert first is not None
        assert np.unique(first).tolist() == [0, 1, 2]
    before = videos[0].images[0].stat().st_mtime_ns
    assert davis_pairs(tmp_path / "pairs", root, "train", clips=2) == videos
    assert videos[0].images[0].stat().st_mtime_ns == before
    with pytest.raises(DataError, match="generated with other parameters"):
        davis_pairs(tmp_path / "pairs", root, "train", clips=1)
    with pytest.raises(ConfigError, match="clips=3: train has 5 sequences, enough for 2 pairs"):
        davis_pairs(tmp_path / "more", root, "train", clips=3)
