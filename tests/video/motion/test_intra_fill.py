from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.video.clips import encode
from tests.video.test_codec_reader import SPEED, fields, pan
from voslab.core import CodecData, RawFrame
from voslab.video.codec_reader import Resolution, codec_frames
from voslab.video.motion.intra_fill import Fill, fill_intra_blocks

COUNT = 13


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = "ref=1:b-pyramid=none:weightp=0:bframes=3:b-adapt=0"
    return encode(tmp_path_factory.mktemp("fill") / "a.mp4", pan(COUNT, (64, 96)), crf="10", **{"x264-params": options})


def holes(frames: list[RawFrame], where: tuple[slice, slice]) -> list[RawFrame]:
    """The frames, whose B-frames have intra blocks at rows and columns."""
    made = []
    for frame in frames:
        codec = frame.codec
        assert codec is not None
        if codec.type == "B":
            motion, references, residual = (field.clone() for field in fields(frame))
            for field, empty in ((motion, 0), (references, -1), (residual, 0)):
                field[..., where[0], where[1]] = empty
            codec = replace(codec, motion=motion, references=references, residual=residual)
        made.append(replace(frame, codec=codec))
    return made


@pytest.mark.parametrize("resolution", ["full", "quarter"])
@pytest.mark.parametrize("fill", ["nearest", "matched", "flow"])
def test_intra_blocks_of_a_pan_get_its_motion(path: Path, fill: Fill, resolution: Resolution) -> None:
    scale = 1 if resolution == "full" else 4
    where = (slice(24 // scale, 40 // scale), slice(32 // scale, 64 // scale))
    plain = holes(list(codec_frames(path, resolution=resolution)), where)
    errors, residuals, count = [], [], 0
    for before, after in zip(plain, fill_intra_blocks(iter(plain), fill), strict=True):
        assert before.codec is not None
        if before.codec.type != "B":
            assert after is before
            continue
        count += 1
        motion, references, residual = fields(after)
        inside = (..., *where)
        assert (references[inside] >= 0).any(1).all()
        for old, new in zip(fields(before), (motion, references, residual), strict=True):
            known = (fields(before)[1] >= 0).any(1, keepdim=True).expand_as(old)
            assert torch.equal(old[known], new[known])
            assert old.dtype == new.dtype
        for place in range(2):
            used = references[0, place][where] >= 0
            distance = (references[0, place][where] - after.index)[used]
            errors += [motion[0, 2 * place + axis][where][used] + SPEED[axis] * distance for axis in range(2)]
        residuals.append(residual[inside].abs())
    assert count >= 6
    assert (torch.cat(errors).abs() <= 1).float().mean() > 0.75
    assert torch.cat(residuals).median() < 0.03
    assert torch.cat(residuals).max() > 0


def test_frame_without_motion_keeps_none(path: Path) -> None:
    plain = holes(list(codec_frames(path, resolution="quarter")), (slice(None), slice(None)))
    for before, after in zip(plain, fill_intra_blocks(plain, "nearest"), strict=True):
        assert before.codec is not None
        if before.codec.type == "B":
            assert torch.equal(fields(after)[1], fields(before)[1])
            assert (fields(after)[2] == 1).all()
        else:
            assert after is before
    for before, after in zip(plain, fill_intra_blocks(plain, "flow"), strict=True):
        assert before.codec is not None
        assert before.codec.type != "B" or (fields(after)[1] >= 0).all()
    for before, after in zip(plain, fill_intra_blocks(plain, "none"), strict=True):
        assert (after is before) == (before.codec is None or before.codec.type != "B")
        assert torch.equal(fields(after)[1], fields(before)[1])


def test_nearest_cell_is_copied(path: Path) -> None:
    random = np.random.default_rng(0)
    frame = next(p for p in codec_frames(path, resolution="quarter") if p.codec and p.codec.type == "B")
    assert frame.codec is not None
    motion = torch.from_numpy(random.normal(size=(1, 4, 16, 24)).astype(np.float32))
    references = torch.from_numpy(np.where(random.random((1, 1, 16, 24)) < 0.2, 0, -1).astype(np.int32)).repeat(
        1, 2, 1, 1
    )
    codec = replace(frame.codec, motion=motion, references=references, residual=None)
    *_, filled = fill_intra_blocks([replace(frame, codec=codec)], "nearest")
    assert filled.codec is not None
    assert filled.codec.motion is not None
    there = np.argwhere(references[0, 0].numpy() >= 0)
    for y, x in np.ndindex(16, 24):
        distances = np.hypot(*(there - (y, x)).T)
        nearest = {tuple(motion[0, :, i, j].tolist()) for i, j in there[distances <= distances.min() + 0.35].tolist()}
        assert tuple(filled.codec.motion[0, :, y, x].tolist()) in nearest


def test_matching_errors_are_averaged_over_a_window() -> None:
    """The cells between two motions follow the better one of their neighbourhood, not of the single cell."""
    size, hole, left, right = (24, 48), slice(10, 38), 0.0, 6.0
    reference = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    moved = np.roll(reference, -int(right), 1)
    moved[5, 20] = reference[5, 20]
    moved[14:19, 26:31] = reference[14:19, 26:31]
    motion, references = torch.zeros(1, 4, *size), torch.full((1, 2, *size), -1, dtype=torch.int32)
    references[:, 0] = 0
    motion[:, 0, :, hole.stop :] = right
    references[..., hole] = -1
    key = CodecData("P", torch.zeros(1, 4, *size), torch.full_like(references, -1))
    images = [np.repeat(image[..., None], 3, axis=2) for image in (reference, moved)]
    frames = [RawFrame(0, images[0], key), RawFrame(1, images[1], CodecData("B", motion, references))]
    *_, last = fill_intra_blocks(frames, "matched")
    assert last.codec is not None
    assert last.codec.motion is not None
    found = last.codec.motion[0, 0]
    assert (found[:10, 14:34] == right).all()
    assert found[16, 28] == left
