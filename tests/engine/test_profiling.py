from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from voslab.core import ConfigError, Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.engine import Settings, profiling, timing
from voslab.engine.profiling import Grid, Measurement, sweep
from voslab.engine.timing import timed
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.stm.network import STM
from voslab.nn.aggregation import aggregate_min


@state_dataclass
class FramesState(State):
    masks: Masks


class Clocked(Segmenter[FramesState]):
    """Each part takes as long as it says, on a clock of its own."""

    stride = 16
    padding: Padding = "zeros"
    stages: ClassVar[tuple[str, ...]] = ("encode", "read", "decode")

    def __init__(self, fail: Callable[[int], None] = lambda objects: None) -> None:
        super().__init__()
        self.clock = 0.0
        self.fail = fail
        self.images: list[Tensor] = []
        self.seen: list[tuple[int, bool, torch.dtype]] = []

    def begin(self, frame: Frame, masks: Masks) -> FramesState:
        self.clock += 1000
        return FramesState(masks)

    def step(self, frame: Frame, state: FramesState) -> tuple[Tensor, FramesState]:
        self.fail(state.masks.slot_mask.shape[1])
        self.images.append(frame.image)
        self.seen.append((frame.index, torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        # The first two frames, which are not timed, take longer.
        self.clock += 1 if frame.index > 2 else 100
        self.encode()
        self.decode()
        return aggregate_min(state.masks.probs, state.masks.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: FramesState, known: Masks | None = None) -> FramesState:
        raise NotImplementedError

    def encode(self) -> None:
        self.clock += 2

    def read(self) -> None:
        self.clock += 4

    def decode(self) -> None:
        self.clock += 8
        self.read()
        self.read()


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clocked:
    made = Clocked()
    for module in (profiling, timing):
        monkeypatch.setattr(module, "now", lambda device: made.clock)
    return made


def points(segmenter: Any, grid: Grid, settings: Settings | None = None) -> list[Measurement]:
    return list(sweep(segmenter, grid, settings))


def grid(
    *sizes: tuple[int, int], objects: Sequence[int] = (1,), memory: Sequence[int] = (1,), repeats: int = 1
) -> Grid:
    return Grid(sizes, objects, memory, repeats)


def test_step_time_is_the_sum_of_stages_and_rest(clocked: Clocked) -> None:
    [point] = points(clocked, grid((32, 48), repeats=3))
    assert point.seconds == 19
    assert point.stages == {"encode": 2, "read": 8, "decode": 8}
    assert point.rest == 1


def test_frames_are_consecutive_padded_and_deterministic(clocked: Clocked) -> None:
    points(clocked, grid((33, 40), repeats=3))
    again = Clocked()
    points(again, grid((33, 40), repeats=3))
    assert [index for index, *_ in clocked.seen[1:]] == [1, 2, 3, 4, 5]
    assert {tuple(image.shape) for image in clocked.images[1:]} == {(1, 3, 48, 48)}
    assert torch.equal(clocked.images[-1], again.images[-1])
    assert clocked.images[-1].std() > 0.1


def test_requested_precision_is_used(clocked: Clocked) -> None:
    points(clocked, grid((32, 32)), Settings(precision="bf16"))
    assert {autocast[1:] for autocast in clocked.seen} == {(True, torch.bfloat16)}
    clocked.seen.clear()
    points(clocked, grid((32, 32)))
    assert not any(enabled for _, enabled, _ in clocked.seen)


def test_methods_are_restored_after_an_error(clocked: Clocked) -> None:
    shadow = clocked.read
    clocked.read = shadow  # type: ignore[method-assign]
    with suppress(KeyError), timed(clocked, ("encode", "read")) as seconds:
        clocked.decode()
        assert vars(clocked)["read"] is not shadow
        raise KeyError
    assert seconds == {"encode": 0, "read": 8}
    assert "encode" not in vars(clocked)
    assert vars(clocked)["read"] is shadow


def test_memory_size_equals_that_after_as_many_frames() -> None:
    torch.manual_seed(0)
    small = {"backbone": "resnet18", "norm": "group", "width": 4, "decoder_width": 4}
    network = STM(**small, key_channels=4, value_channels=8).eval()  # type: ignore[arg-type]
    found = points(network, grid((30, 48), objects=(1, 3), memory=(1, 20)))
    cells, floats = 2 * 3, 4 + 8
    assert [(point.objects, point.frames) for point in found] == [(1, 1), (1, 20), (3, 1), (3, 20)]
    for point in found:
        assert point.memory_bytes == point.objects * point.frames * cells * floats * 4
        assert point.state_bytes == 32 * 48 * 4 * 3 + (point.objects + 1) * 32 * 48 * 4 + point.objects
        assert set(point.stages) == {"encode", "memorise", "read", "decode"}
        assert min(point.stages.values()) > 0
        assert point.rest > 0
        assert point.peak_bytes is None


def test_lengths_are_measured_in_one_video(clocked: Clocked) -> None:
    found = list(sweep(clocked, Grid([(32, 32)], [1, 2], [1], repeats=4, lengths=[12, 5, 6])))
    assert [(point.objects, point.length) for point in found] == [(n, length) for n in (1, 2) for length in (5, 6, 12)]
    assert [index for index, *_ in clocked.seen] == 2 * list(range(1, 12))
    assert [point.seconds for point in found[:3]] == [(3 * 19 + 99) / 3, 19, 19], "of frames 2 to 4, 5, and 8 to 11"
    assert found[1].stages == {"encode": 2, "read": 8, "decode": 8}
    assert all(point.frames is None for point in found)


def test_state_grows_with_the_video_unless_the_memory_is_bounded() -> None:
    torch.manual_seed(0)
    small = {"backbone": "resnet18", "norm": "group", "width": 4, "decoder_width": 4}
    for bound in (None, 3):
        network = STM(**small, key_channels=4, value_channels=8, memory_bound=bound).eval()  # type: ignore[arg-type]
        first, *_, last = sweep(network, Grid([(32, 48)], [1], [1], lengths=[21, 41, 81]))
        assert first.total_bytes == first.memory_bytes + first.state_bytes
        assert first.state_bytes == last.state_bytes
        frame = 2 * 3 * (4 + 8) * 4
        if bound is None:
            assert first.memory_bytes >= 5 * frame
            assert last.memory_bytes >= 17 * frame
        else:
            assert first.memory_bytes == last.memory_bytes >= 3 * frame


def test_lengths_after_the_memory_is_full_are_recorded() -> None:
    segmenter = Clocked()

    def fail(objects: int) -> None:
        if segmenter.seen and segmenter.seen[-1][0] == 6:
            torch.empty(2**60)

    segmenter.fail = fail
    found = list(sweep(segmenter, Grid([(16, 16)], [1], [1], lengths=[5, 8, 9])))
    assert [(point.length, point.error) for point in found] == [(5, None), (8, "out of memory"), (9, "out of memory")]


def test_a_method_without_memory_is_measured_once_per_size_and_objects() -> None:
    found = points(CopyFirst(), grid((8, 9), (10, 11), objects=(0, 2), memory=(1, 5, 20)))
    assert [(point.size, point.objects) for point in found] == [((8, 9), 0), ((8, 9), 2), ((10, 11), 0), ((10, 11), 2)]
    assert all(point.frames is None and point.memory_bytes is None and point.stages == {} for point in found)
    assert found[-1].state_bytes == 10 * 11 * 2 * 4 + 2
    assert found[-1].seconds > 0


def test_out_of_memory_is_recorded_and_the_sweep_continues() -> None:
    def fail(objects: int) -> None:
        if objects == 2:
            torch.empty(2**60)

    found = points(Clocked(fail), grid((16, 16), objects=(1, 2, 3)))
    assert [point.error for point in found] == [None, "out of memory", None]
    assert found[1] == Measurement((16, 16), 2, None, error="out of memory")


def test_other_errors_propagate() -> None:
    def fail(objects: int) -> None:
        if objects == 2:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        points(Clocked(fail), grid((16, 16), objects=(1, 2)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"sizes": [[0, 5]]}, "sizes: 0"),
        ({"sizes": [[5]]}, "a height and a width"),
        ({"sizes": [5]}, "a height and a width"),
        ({"objects": [-1]}, "objects: -1"),
        ({"memory": [0]}, "memory: 0"),
        ({"memory": ["a"]}, "memory: 'a'"),
        ({"repeats": 0}, "repeats: 0"),
        ({"lengths": [10, 2]}, "lengths: 2"),
        ({"lengths": 10}, "lengths=10: must be a list"),
    ],
)
def test_invalid_grid_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Grid(**{"sizes": [[5, 5]], "objects": [1], "memory": [1], **wrong})
