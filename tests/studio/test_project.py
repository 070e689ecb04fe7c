from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.engine import Prediction
from voslab.studio.frames import FrameCache
from voslab.studio.project import AnnotatedObject, Project, uncertainty

SIZE = (6, 8)
VIDEO = Path("clip.mp4")


def prediction(frame: int, sure: float = 0.9) -> Prediction:
    ids = np.zeros(SIZE, np.int64)
    ids[:, :3], ids[:, 3:5] = 7, 9
    maps = np.stack([np.where(ids == one, sure, 0.0) for one in (7, 9)]).astype(np.float32)
    return Prediction(frame, np.zeros((*SIZE, 3), np.uint8), ids, 0.0, True, maps, (7, 9))


def opened(folder: Path) -> Project:
    project = Project(folder, VIDEO, SIZE)
    project.set_objects([AnnotatedObject(7, "a"), AnnotatedObject(9, 'b "<x>"')])
    return project


def test_everything_is_found_again(tmp_path: Path) -> None:
    project = opened(tmp_path)
    given = np.full(SIZE, 9, np.uint8)
    project.give(2, given)
    value = project.predict(prediction(3))
    again = Project(tmp_path, VIDEO, SIZE)
    assert again.objects == project.objects
    assert (again.given(), again.predicted()) == ([2], [3])
    assert again.uncertainty == {3: pytest.approx(value, abs=1e-4)}
    np.testing.assert_array_equal(again.mask(2), given)
    np.testing.assert_array_equal(again.mask(3), prediction(3).ids)
    assert again.mask(4) is None


def test_stored_predictions_keep_their_probabilities(tmp_path: Path) -> None:
    project = opened(tmp_path)
    project.predict(prediction(3, 0.7))
    image = np.ones((*SIZE, 3), np.uint8)
    stored = project.stored(3, image)
    maps = prediction(3, 0.7).probabilities
    assert maps is not None
    np.testing.assert_allclose(stored.probabilities, maps, atol=0.5 / 255 + 1e-6)
    assert stored.object_ids == (7, 9)
    assert stored.image is image
    given = np.full(SIZE, 9, np.uint8)
    project.give(3, given)
    stored = project.stored(3, image)
    assert stored.probabilities is not None
    assert stored.probabilities[stored.object_ids.index(9)].min() == 1
    assert stored.probabilities[stored.object_ids.index(7)].max() == 0
    with pytest.raises(DataError, match="frame 5 has no mask"):
        project.stored(5, image)


def test_given_masks_are_read_when_they_are_needed(tmp_path: Path) -> None:
    project = opened(tmp_path)
    project.give(2, np.full(SIZE, 9, np.uint8))
    masks = project.given_masks()
    project.give(2, np.full(SIZE, 7, np.uint8))
    assert list(masks) == [2]
    assert masks[2].min() == 7
    assert masks.get(3) is None
    project.forget(2)
    with pytest.raises(DataError, match="frame 2: its mask was discarded while masks were propagated"):
        masks[2]


def test_a_line_that_was_not_finished_is_ignored(tmp_path: Path) -> None:
    opened(tmp_path).predict(prediction(3))
    with (tmp_path / "uncertainty.csv").open("a") as file:
        file.write("4,")
    assert list(Project(tmp_path, VIDEO, SIZE).uncertainty) == [3]


def test_the_folder_of_a_video_of_another_size_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    with pytest.raises(DataError, match="give another output folder"):
        Project(tmp_path, VIDEO, (8, 6))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"video": 1, "size": 2, "objects": []}', "[" * 10000])
def test_a_damaged_session_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "session.json").write_text(content)
    with pytest.raises(DataError, match=r"session\.json: not the session of an annotation"):
        Project(tmp_path, VIDEO, SIZE)


@pytest.mark.parametrize("damage", [b"", b"\x89PNG", None])
def test_damaged_probabilities_are_one_line(tmp_path: Path, damage: bytes | None) -> None:
    project = opened(tmp_path)
    project.predict(prediction(3))
    path = tmp_path / "soft" / "00003.png"
    path.write_bytes((tmp_path / "predicted" / "00003.png").read_bytes() if damage is None else damage)
    with pytest.raises(DataError, match="damaged probabilities"):
        project.stored(3, np.zeros((*SIZE, 3), np.uint8))


def test_uncertainty_is_the_expected_share_of_wrong_pixels() -> None:
    certain = prediction(0, 1.0)
    assert uncertainty(certain) == 0
    # 30 object pixels, each wrong with probability 0.2.
    assert uncertainty(prediction(0, 0.8)) == pytest.approx(30 * 0.2 / (30 * 0.8))
    assert uncertainty(Prediction(0, certain.image, certain.ids, 0.0)) == 0
    lost = np.full((1, *SIZE), 0.01, np.float32)
    assert uncertainty(Prediction(0, certain.image, certain.ids * 0, 0.0, True, lost, (7,))) == 1


def test_frames_are_kept_up_to_a_capacity_and_read_once() -> None:
    read: list[int] = []

    def image(frame: int) -> NDArray[np.uint8]:
        read.append(frame)
        return np.random.default_rng(frame).integers(0, 256, (60, 80, 3), dtype=np.uint8)

    cache = FrameCache(image, longest=40, capacity=4000)
    first = cache.jpeg(0)
    assert cache.jpeg(0) == first
    assert read == [0]
    for frame in range(1, 20):
        cache.jpeg(frame)
        assert cache.size <= 4000
    cache.jpeg(0)
    assert read.count(0) == 2
