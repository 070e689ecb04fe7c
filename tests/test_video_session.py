"""Interactive sessions: masks are set, propagated, corrected and propagated again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.test_predictor import FRAMES, clip, first_mask, images  # noqa: F401  (fixtures)
from voslab.core import ConfigError, DataError, VOSError
from voslab.engine import Prediction
from voslab.predictor import Predictor
from voslab.video import write_mask


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(device="cpu")


def ids(predictions: Iterable[Prediction]) -> dict[int, NDArray[np.int64]]:
    return {one.index: one.ids for one in predictions}


def equal(one: dict[int, NDArray[Any]], other: dict[int, NDArray[Any]]) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[index], other[index]) for index in one)


def corrected() -> NDArray[np.uint8]:
    return np.roll(first_mask(), 8, 1)


def test_a_session_gives_what_segment_gives_for_the_same_masks(predictor: Predictor, clip: Path) -> None:  # noqa: F811
    session = predictor.session(clip)
    session.set_mask(0, first_mask())
    assert equal(ids(session.propagate("forward")), ids(predictor.segment(clip, {0: first_mask()})))
    session.set_mask(3, corrected())
    masks = {0: first_mask(), 3: corrected()}
    for direction in ("forward", "backward", "both"):
        expected = ids(predictor.segment(clip, masks, direction=direction))
        assert equal(ids(session.propagate(direction)), expected)
    part = ids(session.propagate("forward", start=3))
    assert list(part) == [3, 4]
    assert equal(part, ids(predictor.segment(clip, masks, start=3)))
    assert np.array_equal(part[3], corrected())


def test_propagation_can_be_stopped_and_masks_changed_meanwhile(clip: Path) -> None:  # noqa: F811
    session = Predictor.load(model="copy_first", device="cpu").session(clip)
    session.set_mask(0, first_mask())
    running = session.propagate("forward")
    next(running)
    session.set_mask(2, corrected())
    assert np.array_equal(next(running).ids, first_mask())
    assert np.array_equal(next(running).ids, first_mask()), "masks set later take effect in the next call"
    running.close()  # type: ignore[attr-defined]
    assert list(running) == []
    assert np.array_equal(ids(session.propagate("forward"))[4], corrected())
    session.set_mask(2, first_mask())
    session.remove_mask(0)
    assert list(session.masks) == [2]
    assert sorted(ids(session.propagate())) == list(range(FRAMES))


def test_images_are_read_in_any_order(
    predictor: Predictor,
    clip: Path,  # noqa: F811
    images: list[NDArray[np.uint8]],  # noqa: F811
) -> None:
    for source in (clip, images, np.stack(images)):
        session = predictor.session(source)
        assert session.count == FRAMES
        assert all(np.array_equal(session.image(index), images[index]) for index in (4, 0, 2))


def test_masks_are_read_like_those_of_segment(clip: Path, tmp_path: Path) -> None:  # noqa: F811
    session = Predictor.load(model="copy_first", device="cpu").session(clip, mask_resize=True, mask_void=255)
    half = first_mask()[::2, ::2].copy()
    half[0, 0] = 255
    write_mask(tmp_path / "half.png", half)
    session.set_mask(1, tmp_path / "half.png")
    assert session.masks[1].shape == (64, 96)
    assert set(np.unique(session.masks[1])) == {0, 3, 7}
    labels = first_mask()
    session.set_mask(1, labels)
    labels[:] = 0
    assert session.masks[1].any(), "the session has a copy"


def test_a_session_keeps_no_frames(tmp_path: Path) -> None:
    made: list[int] = []

    class Long(list[Any]):
        """Ten thousand images that are made when they are read."""

        def __len__(self) -> int:
            return 10_000

        def __bool__(self) -> bool:
            return True

        def __iter__(self) -> Any:
            return iter([0])

        def __getitem__(self, index: Any) -> Any:
            made.append(index)
            return np.full((16, 16, 3), index % 256, np.uint8)

    session = Predictor.load(model="copy_first", device="cpu").session(Long())
    session.set_mask(5_000, np.eye(16, dtype=np.uint8))
    found = [one.index for one in session.propagate("both", 4_990, 5_010)]
    assert sorted(found) == list(range(4_990, 5_011))
    assert len(made) < 40


def test_mistakes_are_one_line(predictor: Predictor, clip: Path, images: list[Any]) -> None:  # noqa: F811
    session = predictor.session(clip)
    with pytest.raises(DataError, match="no mask is set: call set_mask first"):
        session.propagate()
    with pytest.raises(DataError, match="frame 5: the frames of the video are 0 to 4"):
        session.set_mask(5, first_mask())
    with pytest.raises(DataError, match="frame -1: frames are counted from 0"):
        session.set_mask(-1, first_mask())
    with pytest.raises(DataError, match="the mask of frame 0: the mask is 96 x 32, the video 96 x 64"):
        session.set_mask(0, first_mask()[:32])
    with pytest.raises(DataError, match="no mask is set for frame 2"):
        session.remove_mask(2)
    assert session.masks == {}
    session.set_mask(0, first_mask())
    for part, message in (((3, 1), "start=3 comes after end=1"), ((2, None), "no mask is given for a frame from 2 to")):
        with pytest.raises(VOSError, match=message):
            session.propagate("forward", *part)
    with pytest.raises(ConfigError, match="direction=up"):
        session.propagate("up")  # type: ignore[arg-type]
    stream = predictor.session(iter(images))
    assert stream.count is None
    with pytest.raises(ConfigError, match="the images of a stream can be read in order only"):
        stream.image(0)
