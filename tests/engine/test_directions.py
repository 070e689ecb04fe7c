from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.engine.test_given_masks import SIZE, stripes
from tests.engine.test_runner import video
from tests.video.clips import moving_square
from voslab.core import ConfigError, DataError, RawFrame, Segmenter
from voslab.engine import MaskScope, Settings, run
from voslab.engine.directions import Direction, FrameSource, Part, propagate
from voslab.engine.sources import open_source
from voslab.methods.copy_first.network import CopyFirst
from voslab.predictor import Predictor

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
IMAGES = list(moving_square(9, (64, 96)))
Labels = np.ndarray


def square(frame: int, *ids: int) -> Labels:
    """Mask of the moving square, cut into rows for several objects."""
    labels = np.zeros((64, 96), np.int64)
    for row, i in enumerate(ids):
        labels[8 + 8 * row : 16 + 8 * row, 3 * frame : 3 * frame + 12] = i
    return labels


def ids(
    images: Any,
    masks: Mapping[int, Labels],
    part: Part,
    network: Segmenter[Any] | None = None,
    scope: MaskScope | None = None,
) -> dict[int, Labels]:
    source = open_source(images, None, "").frames
    found = list(propagate(network or CopyFirst(), source, masks, part, Settings(), mask_scope=scope))
    assert len({one.index for one in found}) == len(found)
    assert all(np.array_equal(one.image, images[one.index]) for one in found)
    return {one.index: one.ids for one in found}


@pytest.mark.parametrize("name", ["lite_stcn", "equal_gam", "equal_crvos", "scratch_swiftnet"])
def test_backward_is_forward_on_the_reversed_video(name: str) -> None:
    network = Predictor.load(WEIGHTS / f"{name}.safetensors", device="cpu").model.segmenter
    masks = {8: square(8, 5, 7), 4: square(4, 7)}
    source = open_source(IMAGES, None, "").frames
    backward = {
        found.index: found
        for found in propagate(network, source, masks, Part("backward"), Settings(), True, mask_scope="full")
    }
    assert list(backward) == list(range(8, -1, -1))
    reverse = {8 - index: labels for index, labels in masks.items()}
    for one in run(network, IMAGES[::-1], reverse, Settings(), True, mask_scope="full"):
        same = backward[8 - one.index]
        assert np.array_equal(one.ids, same.ids), one.index
        assert one.object_ids == same.object_ids
        assert one.probabilities is not None
        assert np.array_equal(one.probabilities, same.probabilities), one.index
        assert one.index in (0, 4) or len(np.unique(one.probabilities)) > 2, "there is something to compare"


@settings(max_examples=40)
@for_all(st.sets(st.integers(0, 8), min_size=1), st.sampled_from(get_args(Direction)), st.data())
def test_each_frame_of_a_part_is_taken_from_the_mask_that_the_direction_says(
    given: set[int], direction: Direction, data: st.DataObject
) -> None:
    masks = {index: stripes(*([5] * (index % 3)), 7 + index) for index in given}
    inside = data.draw(st.sampled_from(sorted(given)))
    start, end = data.draw(st.integers(0, inside)), data.draw(st.integers(inside, 8))
    part = ids(video(9, *SIZE), masks, Part(direction, start, end), scope="full")
    assert sorted(part) == list(range(start, end + 1))
    for index, found in part.items():
        reachable = {
            "forward": [one for one in given if start <= one <= index],
            "backward": [one for one in given if index <= one <= end],
            "both": [one for one in given if start <= one <= end],
        }[direction]
        nearest = min(reachable, key=lambda one: (abs(one - index), one), default=None)
        assert np.array_equal(found, stripes() if nearest is None else masks[nearest]), index


def test_both_equals_the_runs_in_either_direction() -> None:
    network = Predictor.load(WEIGHTS / "gpu_stcn.safetensors", device="cpu").model.segmenter
    masks = {0: square(0, 5), 8: square(8, 5)}
    runs = {each: ids(IMAGES, masks, Part(each), network) for each in ("both", "forward", "backward")}
    for index in range(9):
        assert np.array_equal(runs["both"][index], runs["forward" if index <= 4 else "backward"][index]), index
    assert not np.array_equal(runs["both"][6], runs["forward"][6])


def test_both_keeps_objects_that_are_absent_from_a_partial_mask() -> None:
    masks = {0: stripes(5, 0), 6: stripes(0, 7)}
    both = ids(video(9, *SIZE), masks, Part("both"), scope="partial")
    assert [set(np.unique(both[index])) - {0} for index in range(9)] == [{5}] * 4 + [{5, 7}] * 5


def test_frames_that_no_mask_reaches_are_empty_and_named(caplog: pytest.LogCaptureFixture) -> None:
    masks = {3: stripes(5)}
    forward = ids(video(6, *SIZE), masks, Part("forward"))
    assert [bool(forward[index].any()) for index in range(6)] == [False] * 3 + [True] * 3
    backward = ids(video(6, *SIZE), masks, Part("backward", end=4))
    assert [bool(backward[index].any()) for index in range(5)] == [True] * 4 + [False]
    ids(video(6, *SIZE), masks, Part("both"))
    assert caplog.messages == [
        "frames 0 to 2 are before the first mask (frame 3) and stay empty; direction=both segments them too",
        "frame 4 is after the last mask (frame 3) and stay empty; direction=both segments them too",
    ]


def test_messages_of_a_backward_run_name_the_frames_of_the_video(caplog: pytest.LogCaptureFixture) -> None:
    masks = {5: stripes(5, 7), 3: stripes(7)}
    ids(video(6, *SIZE), masks, Part("backward"), scope="full")
    assert caplog.messages == ["frame 3: object 5 is not in the given mask and is removed"]
    with pytest.raises(DataError, match="mask of frame 1 is 16x17, the frame is 16x16"):
        ids(video(6, *SIZE), {5: stripes(5), 1: np.ones((16, 17), np.int64)}, Part("backward"))
    with pytest.raises(DataError, match="frame 2 is 16x20, the video began with 16x16"):
        ids([*video(2, *SIZE), *video(1, 16, 20), *video(3, *SIZE)], {5: stripes(5)}, Part("backward"))


@pytest.mark.parametrize(
    ("direction", "expected"),
    [("forward", [3, 4, 5, 6]), ("backward", [6, 5, 4, 3]), ("both", [4, 5, 6, 3])],
)
def test_a_part_is_what_start_and_end_say_in_every_direction(direction: Direction, expected: list[int]) -> None:
    assert list(ids(video(9, *SIZE), {4: stripes(5)}, Part(direction, 3, 6))) == expected


def test_masks_before_a_part_are_memorised() -> None:
    network = Predictor.load(WEIGHTS / "gpu_stcn.safetensors", device="cpu").model.segmenter
    masks = {0: square(0, 5, 7), 1: square(1, 7, 5), 5: square(5, 7)}
    part = ids(IMAGES, masks, Part("forward", 4), network, "partial")
    assert not part[4].any()
    sequence = [0, 1, 5, 6, 7, 8]
    reference = run(
        network,
        [IMAGES[index] for index in sequence],
        {sequence.index(index): labels for index, labels in masks.items()},
        Settings(),
        mask_scope="partial",
    )
    for one in list(reference)[2:]:
        assert np.array_equal(one.ids, part[sequence[one.index]]), one.index
    assert 5 in part[5], "the object of the earlier masks is there"


def test_masks_after_a_part_are_memorised_backward() -> None:
    masks = {8: stripes(5, 9), 5: stripes(0, 0, 7)}
    part = ids(video(9, *SIZE), masks, Part("backward", end=6), scope="partial")
    assert [set(np.unique(part[index])) - {0} for index in (6, 5, 4, 0)] == [set(), {5, 7, 9}, {5, 7, 9}, {5, 7, 9}]


def test_a_generator_stops_when_it_is_closed() -> None:
    read: list[int] = []

    def backward(last: int) -> Iterator[RawFrame]:
        for index in range(last, -1, -1):
            read.append(index)
            yield RawFrame(index, np.zeros((*SIZE, 3), np.uint8))

    source = FrameSource(lambda _: [], backward, None, lambda: 1000)
    predictions = propagate(CopyFirst(), source, {999: stripes(5)}, Part("backward"), Settings())
    assert [next(predictions).index for _ in range(3)] == [999, 998, 997]
    predictions.close()  # type: ignore[attr-defined]
    assert len(read) < 10
    assert list(predictions) == []


@pytest.mark.parametrize(
    ("part", "masks", "message"),
    [
        (Part("forward", 5, 3), {4: stripes(5)}, "start=5 comes after end=3"),
        (Part("forward", 9), {9: stripes(5)}, "start=9: the video ends with frame 8"),
        (Part("backward"), {9: stripes(5)}, "mask given for frame 9, but the video ends with frame 8"),
        (Part("forward", 2), {0: stripes(5), 1: stripes(5)}, "no mask is given for a frame from 2 to 8, only for 0, 1"),
        (Part("both", 2, 4), {7: stripes(5)}, "no mask is given for a frame from 2 to 4, only for 7"),
    ],
)
def test_a_part_must_lie_in_the_video_and_hold_a_mask(part: Part, masks: dict[int, Labels], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as error:
        propagate(CopyFirst(), open_source(video(9, *SIZE), None, "").frames, masks, part, Settings())
    assert "\n" not in str(error.value)


def test_streams_are_propagated_forward_only() -> None:
    with pytest.raises(ConfigError, match="direction=both: a stream of frames cannot be read backward"):
        propagate(
            CopyFirst(), open_source(iter(video(3, *SIZE)), None, "").frames, {0: stripes(5)}, Part("both"), Settings()
        )
    source = open_source(iter(video(6, *SIZE)), None, "").frames
    found = list(propagate(CopyFirst(), source, {3: stripes(5)}, Part("forward", 2, 4), Settings()))
    assert [one.index for one in found] == [2, 3, 4]
