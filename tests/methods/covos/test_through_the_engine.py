"""From an encoder's file to masks, at the file's size and at another: vectors have to be as long as they are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import voslab
from tests.methods.covos.world import HEIGHT as HEIGHT_
from tests.methods.covos.world import WIDTH as WIDTH_
from tests.methods.covos.world import codec, covos, frame, given, small, square, stcn
from voslab.cli.entry import plain
from voslab.core import Frame, Masks, RawFrame, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.methods.builder import codec_options
from voslab.methods.covos.network import CoVOS, CoVOSState
from voslab.methods.covos.propagation import Propagated
from voslab.nn.aggregation import LIMIT, aggregate_product
from voslab.video.encode import Encoding
from voslab.video.motion.intra_fill import fill_intra_blocks

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


def test_the_pyramid_propagates_over_several_hops(tmp_path: Path) -> None:
    """Of the two encodings, one lets B-frames refer to B-frames, and there `multi_hop` decides."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (32, 80, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    files = [tmp_path / f"{index:05d}.png" for index in range(FRAMES)]
    for index, file in enumerate(files):
        Image.fromarray(scene[:, STEP * index : STEP * index + WIDTH]).save(file)
    for name in ("pinned", "pyramid"):
        config = voslab.compose("evaluate", ["model=covos", f"model/encoding={name}", "data=davis2016"])
        source = CodecSource.from_plain(tmp_path / name, codec_options(plain(config.model)))
        assert source is not None
        frames = list(source.frames(files))
        b_frames = {frame.index for frame in frames if frame.codec is not None and frame.codec.type == "B"}
        hops = [frame for frame in frames if frame.index in b_frames and references(frame) & b_frames]
        assert bool(hops) == (name == "pyramid")
        ids = []
        for multi_hop in (True, False):
            network = CoVOS(Knows(), refine=False, correction=False, multi_hop=multi_hop)
            predictions = run(network, iter(frames), {0: mask(0).astype(np.int64)}, Settings())
            ids.append(np.stack([one.ids for one in predictions]))
        differ = {index for index in range(FRAMES) if (ids[0][index] != ids[1][index]).any()}
        assert bool(differ) == (name == "pyramid")
        assert differ <= {frame.index for frame in hops}


def references(frame: RawFrame) -> set[int]:
    """Frames that a frame refers to."""
    assert frame.codec is not None
    assert frame.codec.references is not None
    return {int(index) for index in frame.codec.references.unique() if index >= 0}


def test_intra_blocks_are_corrected_where_holes_are_not_filled() -> None:
    network = covos(stcn(), refine=False)
    state = network.begin(frame(0), given(1))
    _, state = network.step(frame(4), state)
    state.buffered[1] = replace(state.buffered[1], probs=small(square(4)))
    data = codec(2)
    assert data.references is not None
    data.references[..., 24:32, 36:44] = -1
    [marked] = fill_intra_blocks([RawFrame(2, np.zeros((HEIGHT_, WIDTH_, 3), np.uint8), data)], "none")
    for each, corrected in ((data, False), (marked.codec, True)):
        seen, _ = network.propagate(Frame(2, frame(2).image, each, key=False), state.clone())
        assert bool(seen.selected.any()) == corrected
        assert not seen.selected[seen.probs.amax(1, keepdim=True) > 0].any(), "there are vectors there"


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
