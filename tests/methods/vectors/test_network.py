"""Masks follow vectors: against a loop over pixels, and through a real encoder's pan."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from voslab.core import CodecData, Frame, Masks
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.vectors.network import BufferedMasks, Vectors, VectorsState, follow
from voslab.video.encode import Encoding

HEIGHT, WIDTH = 5, 8


def slow(sources: dict[int, Tensor], motion: Tensor, references: Tensor, unmoved: Tensor) -> Tensor:
    out = unmoved.clone()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            for which in (0, 1):
                index = int(references[0, which, y, x])
                if index in sources:
                    dx, dy = motion[0, 2 * which : 2 * which + 2, y, x].tolist()
                    row, column = min(max(round(y + dy), 0), HEIGHT - 1), min(max(round(x + dx), 0), WIDTH - 1)
                    out[0, :, y, x] = sources[index][0, :, row, column]
                    break
    return out


@pytest.mark.parametrize("seed", range(5))
def test_propagation_equals_a_loop_over_pixels(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    motion = torch.randint(-40, 41, (1, 4, HEIGHT, WIDTH), generator=rng) / 8
    references = torch.tensor([-1, 0, 4, 7])[torch.randint(0, 4, (1, 2, HEIGHT, WIDTH), generator=rng)].short()
    unmoved, *probs = (torch.randint(0, 2, (1, 3, HEIGHT, WIDTH), generator=rng).float() for _ in range(3))
    moved = follow(
        [BufferedMasks(0, probs[0]), BufferedMasks(4, probs[1])], CodecData("B", motion, references), unmoved
    )
    assert torch.equal(moved, slow({0: probs[0], 4: probs[1]}, motion, references, unmoved))


def labels(network: Vectors, frame: Frame, state: VectorsState) -> tuple[list[list[int]], VectorsState]:
    logits, state = network.step(frame, state)
    return logits.argmax(1)[0].tolist(), state


def test_pixels_without_vectors_keep_their_labels() -> None:
    network, image = Vectors(), torch.zeros(1, 3, 1, 4)
    used = torch.ones(1, 1, dtype=torch.bool)
    state = network.begin(Frame(0, image), Masks(torch.tensor([[[[1.0, 0, 0, 0]]]]), used))
    left = torch.tensor([-1.0, 0, 0, 0]).view(1, 4, 1, 1).expand(1, 4, 1, 4)
    references = torch.tensor([[[[0, 0, -1, -1]], [[-1, -1, -1, 9]]]]).short()
    found, state = labels(network, Frame(2, image, CodecData("P", left, references)), state)
    assert found == [[1, 1, 0, 0]]
    state = network.add(Frame(2, image), Masks(torch.tensor([[[[0, 0, 0, 1.0]]]]), used), state)
    found, state = labels(network, Frame(4, image, CodecData("I")), state)
    assert found == [[1, 1, 0, 2]]
    both = torch.tensor([[[[0, 0, 0, 2]], [[4, 4, 4, 4]]]]).short()
    found, _ = labels(network, Frame(3, image, CodecData("B", left, both)), state)
    assert found == [[1, 1, 0, 0]], "the past goes before the future; frame 0 has no second object"
    assert len(Vectors(buffer=2).step(Frame(5, image), state)[1].buffered) == 2
    with pytest.raises(ValueError, match="buffer=0"):
        Vectors(buffer=0)


def test_the_previous_frame_stays_buffered_though_nothing_refers_to_it() -> None:
    network, image = Vectors(), torch.zeros(1, 3, 1, 4)
    state = network.begin(
        Frame(0, image), Masks(torch.tensor([[[[1.0, 0, 0, 0]]]]), torch.ones(1, 1, dtype=torch.bool))
    )
    _, state = network.step(Frame(4, image, CodecData("I")), state)
    left = torch.tensor([-1.0, 0, 0, 0]).view(1, 4, 1, 1).expand(1, 4, 1, 4)
    references = torch.tensor([0, -1]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    moved, state = labels(network, Frame(2, image, CodecData("B", left, references)), state)
    assert moved == [[1, 1, 0, 0]]
    found, _ = labels(network, Frame(3, image, CodecData("B")), network.retain(state, {4}))
    assert found == moved


def test_masks_are_propagated_along_a_pan(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (24, 60, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    truth = np.zeros(scene.shape[:2], np.int64)
    truth[20:70, 80:140] = 1
    views = [slice(4 * i, 4 * i + 160) for i in range(12)]
    files = [tmp_path / f"{i:05d}.png" for i in range(12)]
    for file, view in zip(files, views, strict=True):
        Image.fromarray(scene[:, view]).save(file)
    codec_source = CodecSource(tmp_path / "coded", Encoding(refs=1, b_pyramid="none", weightp=0))

    def score(network: Vectors | CopyFirst) -> float:
        found = list(run(network, codec_source.frames(tuple(files)), {0: truth[:, views[0]]}, Settings()))[-1].ids == 1
        last = truth[:, views[-1]] == 1
        return float((found & last).sum() / (found | last).sum())

    assert score(CopyFirst()) < 0.4
    assert score(Vectors()) > 0.9


class Hoarding(Vectors):
    """Forgets nothing."""

    def retain(self, state: VectorsState, indices: Collection[int]) -> VectorsState:
        return state


class Watched(Vectors):
    """Counts what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[int] = []

    def step(self, frame: Frame, state: VectorsState) -> tuple[Tensor, VectorsState]:
        self.held.append(len(state.buffered))
        return super().step(frame, state)


def test_unreferenced_frames_are_released(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (16, 60, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    files = [tmp_path / f"{i:05d}.png" for i in range(40)]
    for i, file in enumerate(files):
        Image.fromarray(scene[:, 2 * i : 2 * i + 96] if i % 11 else scene[::-1, 2 * i : 2 * i + 96]).save(file)
    first = np.zeros((64, 96), np.int64)
    first[20:50, 30:70] = 1
    codec_source = CodecSource(
        tmp_path / "coded", Encoding(bframes=5, b_adapt=0, refs=4, b_pyramid="normal", preset="fast")
    )
    watched = Watched()
    for one, other in zip(
        *(
            run(network, codec_source.frames(tuple(files)), {0: first}, Settings())
            for network in (watched, Hoarding(40))
        ),
        strict=True,
    ):
        assert one.index == other.index
        np.testing.assert_array_equal(one.ids, other.ids)
    assert max(watched.held) <= 6
