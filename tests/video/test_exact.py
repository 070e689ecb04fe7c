"""Vectors and references against the decoder itself: where nothing is coded, a frame is exactly its prediction."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.motionvectors import MotionVectors

from tests.video.clips import encode
from tests.video.h264.test_interpolation import luma
from tests.video.test_codec_reader import fields, pan
from voslab.video.codec_reader import codec_frames

STREAM = "ref=1:b-pyramid=none:weightp=0:weightb=0:bframes=2:b-adapt=0:no-deblock=1:aq-mode=0"
Block = tuple[int, int, int, int]
"""Vector in quarter pixels, and size."""


def crowd(count: int = 9) -> np.ndarray:
    """T H W 3: a panning texture, and three squares of it that go their own ways."""
    images = pan(count)
    texture = images[0, ::-1].copy()
    for frame, (place, (down, right)) in product(range(count), enumerate([(2, 5), (-3, 1), (1, -4)])):
        top, left = (20 + 14 * place + down * frame) % 46, (10 + 25 * place + right * frame) % 76
        images[frame, top : top + 18, left : left + 20] = texture[place * 12 :][:18, place * 20 :][:, :20]
    return images


def by_loop(path: Path) -> list[tuple[str, np.ndarray, dict[tuple[int, int], dict[int, Block]]]]:
    """Type, luma, and blocks of 8 x 8 pixels by place and list, in presentation order; with PyAV alone."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            vectors, blocks = frame.side_data.get("MOTION_VECTORS"), {}
            for one in vectors.to_ndarray() if isinstance(vectors, MotionVectors) else ():
                width, height = int(one["w"]), int(one["h"])
                top, left = int(one["dst_y"]) - height // 2, int(one["dst_x"]) - width // 2
                for down, right in product(range(0, height, 8), range(0, width, 8)):
                    to = int(one["source"] > 0)
                    block = (int(one["motion_x"]), int(one["motion_y"]), width, height)
                    blocks.setdefault((top + down, left + right), {})[to] = block
            kind = {1: "I", 2: "P", 3: "B"}[int(frame.pict_type)]
            found.append((kind, frame.to_ndarray()[: frame.height].copy(), blocks))
    return found


def predicted(frames: dict[int, np.ndarray], blocks: dict[int, Block], top: int, left: int) -> np.ndarray:
    """8 x 8 pixels, one by one, the plain mean of the lists that are given."""
    out = np.zeros((8, 8), int)
    for y, x in product(range(8), repeat=2):
        seen = [luma(frames[to], 4 * (left + x) + b[0], 4 * (top + y) + b[1]) for to, b in sorted(blocks.items())]
        out[y, x] = (sum(seen) + len(seen) - 1) // len(seen)
    return out


def ways(blocks: dict[int, Block]) -> list[dict[int, Block]]:
    """The lists that a block may use: an exported zero of a part of a macroblock may stand for none."""
    found = [blocks]
    if len(blocks) == 2 and min(min(block[2:]) for block in blocks.values()) < 16:
        found += [{1 - to: blocks[1 - to]} for to in blocks if blocks[to][:2] == (0, 0)]
    return found


@pytest.mark.slow
def test_frames_without_coded_residual_equal_their_prediction(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", crowd(), crf="34", **{"x264-params": STREAM})
    frames = by_loop(path)
    types = [kind for kind, _, _ in frames]
    ours = {frame.index: fields(frame) for frame in codec_frames(path)}
    exact = blocks_seen = lookalikes = 0
    for index, (kind, own, blocks) in enumerate(frames):
        if kind != "B":
            continue
        past = max(i for i in range(index) if types[i] != "B")
        future = min(i for i in range(index, len(types)) if types[i] != "B")
        around = {0: frames[past][1], 1: frames[future][1]}
        _, references, residual = ours[index]
        for (top, left), found in blocks.items():
            here = np.s_[top : top + 8, left : left + 8]
            left_over = [own[here] - predicted(around, way, top, left) for way in ways(found)]
            best = min(range(len(left_over)), key=lambda which: int((left_over[which] ** 2).sum()))
            exact += int((left_over[best] == 0).sum())
            blocks_seen += 1
            expected = {to: (past, future)[to] for to in ways(found)[best]}
            if references[0, :, top, left].tolist() == [expected.get(0, -1), expected.get(1, -1)]:
                lookalikes += 1
                # A mean is rounded in the codec, not in the residual.
                assert np.abs(255 * residual[0, 0].numpy()[here] - left_over[best]).max() <= 0.51
    assert blocks_seen > 400
    # Where both ways fit badly, the whole partition, which ours looks at, may say otherwise than one block of it.
    assert lookalikes >= 0.99 * blocks_seen
    assert exact >= 0.8 * 64 * blocks_seen
