from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from voslab.core import CodecData, ConfigError, Frame, Masks, RawFrame, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.engine import Settings, consume, run
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.covos.inspection import MotionRecorder, MotionSink, Watcher
from voslab.methods.covos.panels import FUTURE, LARGE, PANELS, PAST
from voslab.nn.aggregation import aggregate_min
from voslab.video import open_video
from voslab.video.palette import colour

SIZE = (90, 160)


@state_dataclass
class CarriesState(State):
    masks: Masks


class Carries(Segmenter[CarriesState]):
    """Carries the given masks to B-frames as they are; the left half is what it calls corrected."""

    stride = 16
    padding: Padding = "zeros"
    threshold = 0.1

    def begin(self, frame: Frame, masks: Masks) -> CarriesState:
        return CarriesState(masks)

    def step(self, frame: Frame, state: CarriesState) -> tuple[Tensor, CarriesState]:
        if not frame.key:
            self.propagate(frame, state)
        return aggregate_min(state.masks.probs, state.masks.slot_mask), state

    def propagate(self, frame: Frame, state: CarriesState) -> tuple[Any, CarriesState]:
        probs = state.masks.probs[..., 2::4, 2::4]
        selected = torch.zeros_like(probs[:, :1], dtype=torch.bool)
        return SimpleNamespace(probs=probs, corrected=probs.flip(-1), selected=selected), state

    def add(self, frame: Frame, masks: Masks, state: CarriesState, known: Masks | None = None) -> CarriesState:
        return CarriesState((known or state.masks).append(masks))


def raw_frame(index: int, kind: str, past: int = -1, future: int = -1) -> RawFrame:
    """Vectors (40, 0) in the lower half, none in the upper one; a large residual at the right."""
    cells = (1, -(-SIZE[0] // 4), -(-SIZE[1] // 4))
    motion, references = torch.zeros(1, 4, *cells[1:]), torch.full((1, 2, *cells[1:]), -1, dtype=torch.int32)
    for place, other in enumerate((past, future)):
        references[:, place, cells[1] // 2 :] = other
        motion[:, 2 * place, cells[1] // 2 :] = 40 * (other >= 0)
    residual = torch.zeros(1, 1, *cells[1:])
    residual[..., -10:] = 0.3
    image = np.full((*SIZE, 3), 100, np.uint8)
    return RawFrame(index, image, CodecData(kind, motion, references, residual))


def labels() -> NDArray[np.int64]:
    found = np.zeros(SIZE, np.int64)
    found[30:70, 20:60] = 9
    return found


FRAMES = [raw_frame(0, "I"), raw_frame(3, "P", 0), raw_frame(1, "B", 0, 3), raw_frame(2, "B", 0)]


def near(image: NDArray[np.uint8], colour: tuple[int, int, int], margin: int = 60) -> NDArray[np.bool_]:
    return np.asarray((np.abs(image.astype(int) - colour) < margin).all(-1))


def video(path: Path, size: int | None) -> list[NDArray[np.uint8]]:
    network, settings, masks = Carries(), Settings(size=size), {0: labels()}
    sink = MotionSink(path, Fraction(25), SIZE, network, settings, masks)
    throughput = consume(run(network, FRAMES, masks, settings), [sink])
    assert throughput.frames == 4
    assert not {"begin", "step", "propagate"} & vars(network).keys()
    return [shown.image for shown in open_video(path)]


@pytest.mark.parametrize("size", [None, 45])
def test_panels_show_codec_data_and_masks(tmp_path: Path, size: int | None) -> None:
    frames = video(tmp_path / "a b.mp4", size)
    assert [frame.shape for frame in frames] == [(180, 480, 3)] * 4
    split = [[np.hsplit(row, 3) for row in np.vsplit(frame, 2)] for frame in frames]
    motion, residual = split[1][0][1:]
    past, future = (near(motion[50:], colour) for colour in (PAST, FUTURE))
    # Both begin at the same places and lead to the same ones: the later hides the earlier.
    assert future.sum() > 200 > past.sum()
    assert near(split[2][0][1][50:], PAST).sum() > 200
    assert not near(split[2][0][1][50:], FUTURE).any()
    assert near(motion[20:40], (102, 58, 58), 40).mean() > 0.9, "nothing predicts the upper half"
    assert near(motion[60:85], (102, 58, 58), 20).mean() < 0.1
    rows, columns = near(residual[20:], LARGE, 90).nonzero()
    assert columns.min() >= 115
    assert len(rows) > 1000
    red, green, blue = ((100 + value) // 2 for value in colour(np.array(9)).tolist())
    shade = (red, green, blue)
    propagated, corrected, final = (near(part, shade, 25)[40:65] for part in split[1][1])
    assert propagated[:, 26:54].all()
    assert final[:, 26:54].all()
    assert corrected[:, -54:-26].all()
    assert not corrected[:, :60].any()


def test_panels_are_drawn_one_by_one_while_frames_are_segmented() -> None:
    network, settings, masks = Carries(), Settings(), {0: labels()}
    with MotionRecorder(SIZE, network, settings, masks) as recorder:
        drawn = {each.index: recorder.draw(each) for each in run(network, FRAMES, masks, settings)}
    assert not {"begin", "step", "propagate"} & vars(network).keys()
    assert sorted(drawn) == [0, 1, 2, 3]
    assert all(tuple(images) == PANELS for images in drawn.values())
    assert near(drawn[2]["motion"][50:], PAST).sum() > 200
    assert not near(drawn[0]["motion"][50:], PAST).any()
    assert near(drawn[1]["residual"][20:], LARGE, 90).sum() > 1000


def test_key_frames_show_no_propagated_masks(tmp_path: Path) -> None:
    for index, frame in enumerate(video(tmp_path / "a.mp4", None)):
        propagated = np.hsplit(np.vsplit(frame, 2)[1], 3)[0]
        assert (propagated[20:].max() < 110) == (index in (0, 3))


def test_frames_before_the_first_mask_are_drawn(tmp_path: Path) -> None:
    network, masks = Carries(), {2: labels()}
    sink = MotionSink(tmp_path / "a.mp4", Fraction(25), SIZE, network, Settings(), masks)
    images = [np.full((*SIZE, 3), 100, np.uint8)] * 4
    assert consume(run(network, images, masks), [sink]).frames == 4
    assert sum(1 for _ in open_video(tmp_path / "a.mp4")) == 4


def test_taken_results_are_released_and_methods_restored() -> None:
    network = Carries()
    with suppress(KeyError), Watcher(network) as watcher:
        for prediction in run(network, FRAMES, {0: labels()}):
            seen = watcher.take(prediction.index)
            assert seen is not None
            assert (seen.probs is None) == (seen.type != "B")
            assert watcher.take(prediction.index) is None
        raise KeyError
    assert not {"begin", "step", "propagate"} & vars(network).keys()


def test_method_without_propagation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CopyFirst has no propagated and corrected masks"):
        MotionSink(tmp_path / "a.mp4", Fraction(25), SIZE, CopyFirst(), Settings(), {})
