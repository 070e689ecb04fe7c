from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.video.clips import encode
from tests.video.test_codec_reader import PAN
from voslab.core import DataError, Frame, Masks, RawFrame, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.engine import Settings, Throughput, consume, run
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.crvos.network import CRVOS
from voslab.nn.aggregation import aggregate_min
from voslab.video.codec_reader import codec_frames


@state_dataclass
class SeenState(State):
    masks: Masks
    frames: int


class Bright(Segmenter[SeenState]):
    """Calls bright pixels the first object: where it says so shows where the engine put the pixels."""

    def __init__(self, stride: int = 16, padding: Padding = "zeros") -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.sizes: list[tuple[int, ...]] = []

    def begin(self, frame: Frame, masks: Masks) -> SeenState:
        return SeenState(masks, 1)

    def step(self, frame: Frame, state: SeenState) -> tuple[Tensor, SeenState]:
        self.sizes.append(tuple(frame.image.shape))
        bright = (frame.image.mean(1, keepdim=True) - 0.5) * 40
        others = torch.full_like(bright, -10).expand(-1, state.masks.slot_mask.shape[1] - 1, -1, -1)
        return aggregate_min(torch.cat([bright, others], 1), state.masks.slot_mask), SeenState(
            state.masks, state.frames + 1
        )

    def add(self, frame: Frame, masks: Masks, state: SeenState, known: Masks | None = None) -> SeenState:
        return SeenState((known or state.masks).append(masks), state.frames)


def video(count: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.choice(np.array([20, 230], np.uint8), (height, width, 1)).repeat(3, -1) for _ in range(count)]


def first_mask(height: int, width: int, *ids: int) -> np.ndarray:
    labels = np.zeros((height, width), np.int64)
    for column, i in enumerate(ids):
        labels[:, column] = i
    return labels


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (33, 480), (481, 853), (48, 64)])
@pytest.mark.parametrize("padding", ["zeros", "mean", "reflect"])
def test_pixels_keep_their_positions(size: tuple[int, int], padding: Padding) -> None:
    frames = video(3, *size)
    predictions = list(run(Bright(16, padding), frames, {0: first_mask(*size, 7)}, Settings(size=None)))
    assert [p.index for p in predictions] == [0, 1, 2]
    assert np.array_equal(predictions[0].ids, first_mask(*size, 7))
    for prediction, frame in zip(predictions[1:], frames[1:], strict=True):
        assert np.array_equal(prediction.ids, np.where(frame[..., 0] > 127, 7, 0))


def test_masks_at_working_size_return_to_source_size() -> None:
    frame = np.zeros((480, 854, 3), np.uint8)
    frame[100:300, 200:500] = 255
    network = Bright()
    second = list(run(network, [frame] * 2, {0: first_mask(480, 854, 1)}, Settings(size=240)))[1]
    assert network.sizes == [(1, 3, 240, 432)]
    truth = frame[..., 0] > 0
    assert second.ids.shape == (480, 854)
    assert (truth & (second.ids == 1)).sum() / (truth | (second.ids == 1)).sum() > 0.98


@pytest.mark.parametrize(
    ("source", "working"), [((480, 854), (240, 427)), ((854, 480), (427, 240)), ((96, 160), (96, 160))]
)
def test_working_size_is_the_shorter_side_and_never_enlarges(source: tuple[int, int], working: tuple[int, int]) -> None:
    assert Settings(size=240).working_size(source) == working
    assert Settings(size=None).working_size(source) == source


def test_user_ids_are_kept_and_objects_can_be_added_later() -> None:
    frames = video(4, 16, 16)
    late = np.zeros((16, 16), np.int64)
    late[8:, 8:] = 70000
    masks = {0: first_mask(16, 16, 300, 1), 2: late}
    predictions = list(run(CopyFirst(), frames, masks, Settings(), mask_scope="partial"))
    assert set(np.unique(predictions[1].ids)) == {0, 1, 300}
    assert (predictions[2].ids[8:, 8:] == 70000).all()
    assert (predictions[3].ids[8:, 8:] == 70000).all()
    assert (predictions[3].ids[:8, 0] == 300).all()
    assert (predictions[3].ids[:, 1] == 1).sum() == 16


def test_a_mask_may_be_given_for_the_last_frame() -> None:
    masks = {0: first_mask(16, 16, 300), 2: first_mask(16, 16, 1)}
    *_, last = run(CopyFirst(), video(3, 16, 16), masks, Settings(), mask_scope="full")
    assert np.array_equal(last.ids, masks[2])


def test_given_mask_of_a_new_object_overrides_the_network() -> None:
    white = np.full((16, 16, 3), 255, np.uint8)
    late = np.zeros((16, 16), np.int64)
    late[:4] = 9
    predictions = list(run(Bright(), [white] * 3, {0: first_mask(16, 16, 5), 1: late}, Settings()))
    assert (predictions[1].ids[:4] == 9).all()
    assert (predictions[1].ids[4:] == 5).all()


def test_before_the_first_mask_everything_is_background() -> None:
    predictions = list(run(Bright(), video(3, 16, 16), {1: first_mask(16, 16, 4)}, Settings()))
    assert (predictions[0].ids == 0).all()
    assert np.array_equal(predictions[1].ids, first_mask(16, 16, 4))
    assert set(np.unique(predictions[2].ids)) == {0, 4}


def test_objects_are_absent_before_their_first_frame_in_presentation_order(tmp_path: Path) -> None:
    options = "ref=1:b-pyramid=none:weightp=0:b-adapt=0:bframes=3:scenecut=0"
    path = encode(tmp_path / "a.mp4", PAN[:13], **{"x264-params": options})
    frames = list(codec_frames(path))
    assert [p.index for p in frames][:5] == [0, 4, 1, 2, 3], "frames 1 to 3 are decoded behind frame 4"
    masks = {4: first_mask(64, 96, 5), 8: first_mask(64, 96, 5, 9)}
    found = {prediction.index: set(np.unique(prediction.ids)) for prediction in run(CopyFirst(), frames, masks)}
    assert [found[index] for index in range(4)] == [{0}] * 4
    assert [found[index] for index in range(4, 8)] == [{0, 5}] * 4
    assert [found[index] for index in range(8, 13)] == [{0, 5, 9}] * 5


@pytest.mark.parametrize("spare", [False, True])
def test_frames_come_from_any_iterable_lazily(spare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voslab.engine.runner._has_free_core", lambda _: spare)
    pulled = []

    def camera() -> Iterator[RawFrame]:
        for index, image in enumerate(video(5, 16, 16)):
            pulled.append(index)
            yield RawFrame(index, image)

    predictions = run(Bright(), camera(), {0: first_mask(16, 16, 1)}, Settings())
    assert [next(predictions).index for _ in range(2)] == [0, 1]
    assert pulled in ([[0, 1], [0, 1, 2]] if spare else [[0, 1]])
    assert [prediction.index for prediction in predictions] == [2, 3, 4]


@pytest.mark.parametrize("spare", [False, True])
def test_source_may_reuse_one_array(spare: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voslab.engine.runner._has_free_core", lambda _: spare)

    def camera() -> Iterator[np.ndarray]:
        buffer = np.zeros((16, 16, 3), np.uint8)
        for index in range(8):
            buffer[:] = index
            yield buffer

    predictions = list(run(Bright(), camera(), {0: first_mask(16, 16, 1)}, Settings()))
    assert [int(prediction.image[0, 0, 0]) for prediction in predictions] == list(range(8))


def test_tiny_object_keeps_a_pixel_at_working_size(tmp_path: Path) -> None:
    labels = np.zeros((64, 96), np.int64)
    labels[20:22, 41:43], labels[40:60, 50:80] = 3, 5
    given = run(CopyFirst(), video(2, 64, 96), {0: labels}, Settings(size=16))
    second = list(given)[1].ids
    assert set(np.unique(second)) == {0, 3, 5}
    assert 0 < (second == 3).sum() <= 36
    assert (second[16:28, 36:48] == 3).any(), "it is where it was"


@pytest.mark.parametrize(
    ("frames", "masks", "reason"),
    [
        ([np.zeros((16, 16, 3), np.float32)], {0: first_mask(16, 16, 1)}, "frame 0 is float32 of shape"),
        (
            [np.zeros((16, 16), np.uint8)],
            {0: first_mask(16, 16, 1)},
            r"frame 0 is uint8 of shape \(16, 16\), a frame is",
        ),
        (video(2, 16, 16), {0: first_mask(16, 17, 1)}, "mask of frame 0 is 16x17, the frame is 16x16"),
        ([*video(1, 16, 16), *video(1, 16, 20)], {0: first_mask(16, 16, 1)}, "frame 1 is 16x20"),
        (video(2, 16, 16), {0: first_mask(16, 16, 1), 9: first_mask(16, 16, 2)}, "frame 9, but .* ends with frame 1"),
    ],
)
def test_inconsistent_input_is_a_data_error(frames: list, masks: dict, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        list(run(Bright(), frames, masks, Settings()))


def test_videos_are_independent() -> None:
    torch.manual_seed(0)
    network = CRVOS("resnet18", norm="group", width=8).eval()
    clips = [(video(3, 40, 56, seed), {0: first_mask(40, 56, *range(1, seed + 2))}) for seed in range(3)]
    together = [[p.ids for p in run(network, *clip)] for clip in clips]
    alone = [p.ids for p in run(network, *clips[2])]
    assert all(np.array_equal(a, b) for a, b in zip(together[2], alone, strict=True))


def test_the_engine_leaves_no_inference_tensors_behind() -> None:
    class Learns(Bright):
        def begin(self, frame: Frame, masks: Masks) -> SeenState:
            with torch.enable_grad():
                weight = torch.ones(1, requires_grad=True)
                (frame.image * weight).sum().backward()
                assert weight.grad is not None
            return super().begin(frame, masks)

    assert len(list(run(Learns(), video(2, 16, 16), {0: first_mask(16, 16, 1)}))) == 2


def test_temperature_changes_probabilities_and_no_mask() -> None:
    frames, mask = video(3, 20, 24), {0: first_mask(20, 24, 1)}
    plain = list(run(Bright(), frames, mask))
    sharp, soft = (list(run(Bright(), frames, mask, Settings(temperature=t), probabilities=True)) for t in (4, 8))
    for without, one, other in zip(plain[1:], sharp[1:], soft[1:], strict=True):
        assert np.array_equal(one.ids, without.ids)
        assert np.array_equal(one.ids, other.ids)
        maps = [prediction.probabilities for prediction in (one, other)]
        logits = [np.log(each / (1 - each)) for each in maps if each is not None]
        assert np.allclose(logits[0], 2 * logits[1], atol=0.05)
        assert abs(logits[0]).max() > 1


@pytest.mark.slow
def test_memory_does_not_grow_over_ten_thousand_frames() -> None:
    frames = video(8, 16, 24)
    marks: dict[int, int] = {}

    def endless() -> Iterator[np.ndarray]:
        for index in range(10_000):
            if index in (1_000, 9_990):
                gc.collect()
                marks[index] = tracemalloc.get_traced_memory()[0]
            yield frames[index % 8]

    tracemalloc.start()
    try:
        throughput = consume(run(CopyFirst(), endless(), {0: first_mask(16, 24, 1, 2)}))
    finally:
        tracemalloc.stop()
    assert throughput.frames == 10_000
    assert marks[9_990] <= marks[1_000] * 1.05 + 10_000
    assert threading.active_count() < 20


@pytest.mark.slow
def test_memory_of_a_network_does_not_grow_over_ten_thousand_frames() -> None:
    import resource

    network = CRVOS("resnet18", norm="group", width=4).eval()
    frames = video(8, 32, 48)
    marks: dict[int, int] = {}

    def each(prediction: object, throughput: Throughput) -> None:
        if throughput.frames in (1_000, 10_000):
            marks[throughput.frames] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    consume(run(network, (frames[i % 8] for i in range(10_000)), {0: first_mask(32, 48, 1, 2)}), each=each)
    assert marks[10_000] <= 1.05 * marks[1_000]
