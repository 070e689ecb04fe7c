from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.video.clips import encode
from tests.video.test_codec_reader import SPEED, fields, pan
from voslab.core import CodecData, RawFrame
from voslab.core.warp import warp
from voslab.video.codec_reader import Resolution, codec_frames
from voslab.video.motion.optical_flow import Motion, optical_flow, replace_motion

INSIDE = {"full": (slice(None), slice(24, -24), slice(32, -32)), "quarter": (slice(None), slice(6, -6), slice(8, -8))}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = "ref=3:b-pyramid=normal:bframes=3:b-adapt=0:keyint=12:open-gop=1"
    return encode(tmp_path_factory.mktemp("flow") / "a.mp4", pan(30, (128, 160)), crf="10", **{"x264-params": options})


@pytest.mark.parametrize("resolution", ["full", "quarter"])
@pytest.mark.parametrize("motion", ["flow", "vectors_as_flow"])
def test_flow_of_a_pan_refers_to_the_nearest_key_frames(path: Path, motion: Motion, resolution: Resolution) -> None:
    plain = list(codec_frames(path, resolution=resolution))
    keys = [p.index for p in plain if p.codec and p.codec.type != "B"]
    inside, errors = INSIDE[resolution], []
    for before, after in zip(plain, replace_motion(iter(plain), motion), strict=True):
        if before.index in keys:
            assert after is before
            continue
        assert after.codec is not None
        assert after.image is before.image
        moved, references, residual = fields(after)
        assert moved.shape == fields(before)[0].shape
        assert references.dtype == torch.int32
        past, future = max(k for k in keys if k < after.index), min(k for k in keys if k > after.index)
        assert set(references[:, 0].unique().tolist()) == {past}
        assert set(references[:, 1].unique().tolist()) == {future if motion == "flow" else -1}
        for place, key in enumerate((past, future) if motion == "flow" else (past,)):
            for axis in range(2):
                errors.append(moved[0][inside][2 * place + axis] + SPEED[axis] * (key - after.index))
        assert residual.shape == fields(before)[2].shape
        assert motion == "flow" or torch.equal(residual, fields(before)[2])
    # Dense search loses some of a rough texture that jumps by a dozen pixels.
    assert (torch.cat(errors).abs() <= 1).float().mean() > (0.85 if motion == "flow" else 0.95)


def test_codec_motion_is_unchanged(path: Path) -> None:
    for one, other in zip(codec_frames(path), replace_motion(codec_frames(path), "codec"), strict=True):
        assert torch.equal(fields(one)[0], fields(other)[0])


def test_warping_along_flow_reconstructs_the_frame() -> None:
    images = pan(3)
    motion = torch.zeros(1, 4, 64, 96)
    nothing = CodecData("B", motion, torch.zeros(1, 2, 64, 96, dtype=torch.int32))
    frames = [
        RawFrame(0, images[0], CodecData("I")),
        RawFrame(2, images[2], CodecData("P")),
        RawFrame(1, images[1], nothing),
    ]
    *_, last = replace_motion(frames, "flow")
    values = {i: torch.from_numpy(images[i]).permute(2, 0, 1)[None].float() for i in (0, 2)}
    assert last.codec is not None
    assert last.codec.motion is not None
    assert last.codec.references is not None
    moved, known = warp(values, last.codec.motion, last.codec.references, "bilinear")
    assert known.all()
    error = (moved[0].permute(1, 2, 0).numpy() - images[1])[8:-8, 8:-8]
    assert np.abs(error).mean() < 3
    luma = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255 for image in images]
    lumas = {i: torch.from_numpy(luma[i])[None, None] for i in (0, 2)}
    predicted, _ = warp(lumas, last.codec.motion, last.codec.references, "bilinear")
    assert np.abs(fields(last)[2][0, 0].numpy() - (luma[1] - predicted[0, 0].numpy())).max() < 0.02
    assert optical_flow(images[1][..., 0], images[1][..., 0]).shape == (64, 96, 2)


def test_vectors_as_flow_are_scaled_or_zero() -> None:
    motion, references = torch.zeros(1, 4, 1, 4), torch.tensor([[[[0, 0, -1, -1]], [[-1, 6, 6, -1]]]]).short()
    motion[0, :, 0, 0] = torch.tensor([4.0, -2, 0, 0])
    motion[0, :, 0, 1] = torch.tensor([4.0, -2, 9, 9])
    motion[0, :, 0, 2] = torch.tensor([0.0, 0, 6, 3])
    image = np.zeros((4, 16, 3), np.uint8)
    first, key = RawFrame(0, image, CodecData("I")), RawFrame(6, image, CodecData("P"))
    frames = [first, key, RawFrame(2, image, CodecData("B", motion, references))]
    *_, last = replace_motion(frames, "vectors_as_flow")
    assert last.codec is not None
    assert last.codec.motion is not None
    assert last.codec.motion[0, :2, 0].T.tolist() == [[4, -2], [4, -2], [-3, -1.5], [0, 0]]
    assert not last.codec.motion[0, 2:].any()
    *_, alone = replace_motion(frames[1:], "vectors_as_flow")
    assert alone.codec is not None
    assert alone.codec.motion is not None
    assert alone.codec.motion[0, 2:, 0].T.tolist() == [[-8, 4], [-8, 4], [6, 3], [0, 0]]
    assert alone.codec.references is not None
    assert alone.codec.references[0, :, 0, 0].tolist() == [-1, 6]


def test_one_key_frame_predicts_the_frame_alone() -> None:
    [image] = pan(1)
    empty = CodecData("B", torch.zeros(1, 4, 64, 96), torch.full((1, 2, 64, 96), -1, dtype=torch.int32))
    *_, last = replace_motion([RawFrame(0, image, CodecData("I")), RawFrame(1, image, empty)], "flow")
    _, references, residual = fields(last)
    assert (references[0, 0] == 0).all()
    assert (references[0, 1] == -1).all()
    assert residual.abs().max() < 0.02
