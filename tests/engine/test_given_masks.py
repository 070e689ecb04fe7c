from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.test_runner import Bright, first_mask, video
from tests.video.clips import encode
from tests.video.test_codec_reader import PAN
from voslab.engine import MaskScope, Settings, find_mask_scope, run
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.vectors.network import Vectors
from voslab.video.codec_reader import codec_frames

SIZE = (16, 16)


def stripes(*ids: int) -> np.ndarray:
    """Label map in which each object is four rows high."""
    labels = np.zeros(SIZE, np.int64)
    for place, i in enumerate(ids):
        labels[4 * place : 4 * place + 4] = i
    return labels


@pytest.mark.parametrize(
    ("masks", "scope"),
    [
        ([[1]], "full"),
        ([[1], [2], [3]], "partial"),
        ([[1], [2], [1, 3]], "full"),
        ([[1], []], "full"),
        ([[], [1], [2]], "partial"),
    ],
)
def test_masks_that_hold_new_objects_only_are_partial(masks: list[list[int]], scope: MaskScope) -> None:
    assert find_mask_scope({3 * index: stripes(*ids) for index, ids in enumerate(masks)}) == scope


@pytest.mark.parametrize("scope", ["full", "partial"])
def test_a_corrected_frame_comes_out_as_given_and_the_video_continues_from_it(scope: MaskScope) -> None:
    given = {0: stripes(5, 7), 2: stripes(7, 5)}
    predictions = list(run(CopyFirst(), video(5, *SIZE), given, mask_scope=scope))
    expected = [given[0], given[0], given[2], given[2], given[2]]
    assert all(np.array_equal(one.ids, ids) for one, ids in zip(predictions, expected, strict=True))


def test_a_full_mask_removes_absent_objects_until_they_are_given_again(caplog: pytest.LogCaptureFixture) -> None:
    given = {0: stripes(5, 7), 2: stripes(7), 3: stripes(7), 4: stripes(5)}
    predictions = list(run(CopyFirst(), video(6, *SIZE), given, mask_scope="full"))
    assert [set(np.unique(one.ids)) - {0} for one in predictions] == [{5, 7}, {5, 7}, {7}, {7}, {5}, {5}]
    assert [record.getMessage() for record in caplog.records] == [
        "frame 2: object 5 is not in the given mask and is removed",
        "frame 4: object 7 is not in the given mask and is removed",
    ]


def test_an_empty_mask_removes_all_objects() -> None:
    given = {0: stripes(5, 7), 1: stripes(), 3: stripes(5)}
    predictions = list(run(Bright(), [np.full((*SIZE, 3), 255, np.uint8)] * 5, given))
    assert [set(np.unique(one.ids)) for one in predictions] == [{0, 5, 7}, {0}, {0}, {0, 5}, {5}]


def test_a_partial_mask_changes_its_objects_only() -> None:
    late = np.zeros(SIZE, np.int64)
    late[2:6] = 7
    predictions = list(run(CopyFirst(), video(4, *SIZE), {0: stripes(5, 7), 2: late}, mask_scope="partial"))
    expected = np.where(late > 0, late, np.where(stripes(5) > 0, 5, 0))
    for one in predictions[2:]:
        assert np.array_equal(one.ids, expected), one.index


def test_probabilities_of_a_corrected_frame_are_the_given_masks() -> None:
    given = {0: stripes(5, 7), 2: stripes(9, 5)}
    predictions = list(run(CopyFirst(), video(4, *SIZE), given, probabilities=True, mask_scope="full"))
    corrected = predictions[2]
    assert corrected.object_ids == (5, 7, 9)
    assert corrected.probabilities is not None
    for place, i in enumerate(corrected.object_ids):
        assert np.array_equal(corrected.probabilities[place], given[2] == i)


def test_corrections_keep_their_objects_at_a_smaller_working_size() -> None:
    tiny = stripes(5)
    tiny[9, 9] = 7
    given = {0: stripes(5, 7), 1: tiny}
    predictions = list(run(CopyFirst(), video(3, *SIZE), given, Settings(size=5)))
    assert np.array_equal(predictions[1].ids, tiny)
    assert 7 in predictions[2].ids


def test_a_mask_with_nothing_in_it_before_the_first_object_changes_nothing() -> None:
    given = {0: stripes(), 1: first_mask(*SIZE, 4)}
    predictions = list(run(CopyFirst(), video(3, *SIZE), given))
    assert [set(np.unique(one.ids)) for one in predictions] == [{0}, {0, 4}, {0, 4}]


def test_a_correction_does_not_change_the_frames_before_it_however_late_they_are_decoded(tmp_path: Path) -> None:
    options = "ref=1:b-pyramid=none:weightp=0:b-adapt=0:bframes=3:scenecut=0"
    path = encode(tmp_path / "a.mp4", PAN[:13], **{"x264-params": options})
    frames = list(codec_frames(path))
    assert [frame.index for frame in frames][5:9] == [8, 5, 6, 7]
    first = np.zeros((64, 96), np.int64)
    first[16:48, 16:80] = 5
    network = Vectors()
    plain = {one.index: one.ids for one in run(network, frames, {0: first})}
    for given in (first * 0, np.roll(first, 20, 1)):
        corrected = {one.index: one.ids for one in run(network, frames, {0: first, 8: given}, mask_scope="full")}
        assert np.array_equal(corrected[8], given)
        assert all(np.array_equal(corrected[index], plain[index]) for index in range(8))
        assert not np.array_equal(corrected[9], plain[9])
