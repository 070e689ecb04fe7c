"""From an encoder's file to masks, at the file's size and at another: vectors have to be as long as they are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from voslab.core import Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.methods.covos.network import CoVOS, CoVOSState
from voslab.methods.covos.propagation import Propagated
from voslab.nn.aggregation import LIMIT, aggregate_product
from voslab.video.encode import Encoding

HEIGHT, WIDTH, STEP, FRAMES = 128, 192, 6, 14


@state_dataclass
class Nothing(State):
    pass


class Knows(Segmenter[Nothing]):
    """A base that knows where the object is."""

    stride = 1
    padding: Padding = "zeros"

    def begin(self, frame: Frame, masks: Masks) -> Nothing:
        return Nothing()

    def step(self, frame: Frame, state: Nothing) -> tuple[Tensor, Nothing]:
        height, width = frame.image.shape[-2:]
        truth = torch.from_numpy(mask(min(frame.index, FRAMES))).float().view(1, 1, HEIGHT, WIDTH)
        probs = nn.functional.interpolate(truth, (height, width), mode="nearest-exact")
        return aggregate_product((2 * probs - 1) * LIMIT, torch.ones(1, 1, dtype=torch.bool)), state

    def add(self, frame: Frame, masks: Masks, state: Nothing, known: Masks | None = None) -> Nothing:
        return state


def mask(index: int) -> Any:
    """The object, which a pan to the right moves to the left."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[40:88, 100 - STEP * index : 160 - STEP * index] = 1
    return truth


@pytest.mark.parametrize("size", [128, 64, 96])
def test_b_frames_of_a_pan_have_the_masks_of_their_key_frames_moved(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (32, 80, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    files = [tmp_path / f"{index:05d}.png" for index in range(FRAMES)]
    for index, file in enumerate(files):
        Image.fromarray(scene[:, STEP * index : STEP * index + WIDTH]).save(file)
    codec_source = CodecSource(tmp_path / "coded", Encoding(bframes=3, b_adapt=0, refs=1, b_pyramid="none", weightp=0))
    network = CoVOS(Knows(), refine=False, correction=False)
    predictions = run(network, codec_source.frames(files), {0: mask(0).astype(np.int64)}, Settings(size=size))
    scores = {}
    for prediction in predictions:
        if not prediction.key:
            found, truth = prediction.ids == 1, mask(prediction.index) == 1
            scores[prediction.index] = (found & truth).sum() / (found | truth).sum()
    assert len(scores) >= FRAMES // 2
    # Cells are four pixels of the working size. Vectors twice as long give 0.5, half as long 0.7.
    assert min(scores.values()) > 0.75


class Watched(CoVOS):
    """Notes what a B-frame refers to and what is held then."""

    def __init__(self) -> None:
        super().__init__(Knows(), refine=False, correction=False)
        self.lost: list[tuple[int, set[int]]] = []
        self.held: list[int] = []

    def propagate(self, frame: Frame, state: CoVOSState) -> tuple[Propagated, CoVOSState]:
        assert frame.codec is not None
        assert frame.codec.references is not None
        held = {entry.index for entry in state.buffered}
        if lost := {i for i in frame.codec.references.unique().tolist() if i >= 0} - held:
            self.lost.append((frame.index, lost))
        self.held.append(len(held))
        return super().propagate(frame, state)


@pytest.mark.parametrize(
    ("encoding", "most"),
    [
        (Encoding(bframes=8, b_adapt=0, refs=16, b_pyramid="normal", weightp=0, preset="veryslow"), 18),
        (Encoding(bframes=3, b_adapt=0, refs=1, b_pyramid="none", weightp=0), 3),
    ],
)
def test_only_referenced_frames_are_buffered(tmp_path: Path, encoding: Encoding, most: int) -> None:
    # A flickering frame is predicted from distant frames.
    rng = np.random.default_rng(0)
    kinds = [np.kron(rng.integers(30, 220, (16, 24, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(13)]
    files = [tmp_path / f"{index:05d}.png" for index in range(60)]
    for index, file in enumerate(files):
        Image.fromarray(kinds[(7 * index) % 13]).save(file)
    network = Watched()
    first = np.zeros((HEIGHT, WIDTH), np.int64)
    first[40:88, 100:160] = 1
    count = sum(1 for _ in run(network, CodecSource(tmp_path, encoding, intra_fill="none").frames(files), {0: first}))
    assert count == len(files)
    assert len(network.held) > 30
    assert not network.lost
    assert max(network.held) <= most
