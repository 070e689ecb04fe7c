from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import av
import numpy as np
import pytest
import torch

from tests.video.clips import encode, moving_square
from tests.video.h264.test_nal import types_in_decoding_order
from voslab.core import RawFrame, VideoError
from voslab.video import open_video
from voslab.video import packets as read_packets
from voslab.video.codec_reader import codec_frames, ensure_motion_vectors
from voslab.video.decode import readable

SPEED = (3, -2)
"""Of the panning camera: own position plus this, per frame, is where a thing was one frame earlier."""


def pan(count: int = 16, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """T H W 3: a smooth random texture that moves by whole pixels."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.uniform(20, 230, (1, 3, 40, 50)))
    ground = torch.nn.functional.interpolate(coarse, scale_factor=5, mode="bicubic")[0].clamp(0, 255).byte().numpy()
    y, x = (max(0, -(count - 1) * speed) for speed in (SPEED[1], SPEED[0]))
    windows = [ground[:, y + SPEED[1] * t :, x + SPEED[0] * t :][:, : size[0], : size[1]] for t in range(count)]
    return np.ascontiguousarray(np.stack(windows).transpose(0, 2, 3, 1))


PAN = pan()
STREAMS = {
    "pinned": "ref=1:b-pyramid=none:weightp=0",
    "default": "",
    "pyramid": "ref=5:b-pyramid=normal:bframes=7:b-adapt=0",
    "strict": "ref=3:b-pyramid=strict:bframes=4:b-adapt=0",
    "weights": "weightp=2:ref=4:bframes=0",
    "open": "open-gop=1:keyint=6:min-keyint=2:bframes=2:b-adapt=0",
    "closed": "keyint=6:bframes=2:b-adapt=0",
    "slices": "slices=2:ref=3",
    "temporal": "direct=temporal:ref=4",
    "no-deblock": "no-deblock=1:partitions=all:subme=8",
    "baseline": "cabac=0:8x8dct=0:bframes=0:weightp=0",
}


def stream(folder: Path, name: str, images: np.ndarray = PAN, suffix: str = "mp4") -> Path:
    return encode(folder / f"{name}.{suffix}", images, crf="10", **{"x264-params": STREAMS[name]})


def fields(frame: RawFrame) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    codec = frame.codec
    assert codec is not None
    assert codec.motion is not None
    assert codec.references is not None
    assert codec.residual is not None
    return codec.motion, codec.references, codec.residual


def types(frames: list[RawFrame]) -> list[str]:
    return [frame.codec.type for frame in frames if frame.codec]


@pytest.mark.parametrize("name", STREAMS)
def test_pan_has_its_vectors_references_and_no_residual(tmp_path: Path, name: str) -> None:
    path = stream(tmp_path, name)
    frames = list(codec_frames(path))
    assert types(frames) == types_in_decoding_order(path)
    inside = (slice(None), slice(16, -16), slice(24, -24))
    seen: set[int] = set()
    share, errors = [], []
    for frame in frames:
        motion, references, residual = (field[0][inside] for field in fields(frame))
        assert set(torch.unique(fields(frame)[1]).tolist()) <= seen | {-1}
        seen.add(frame.index)
        assert not motion.view(2, 2, *motion.shape[1:])[:, 0][references < 0].any()
        share += [(references >= 0).any(0).float().mean().item()] * (types([frame]) != ["I"])
        for place in range(2):
            used = references[place] >= 0
            if not used.any():
                continue
            distance = (references[place] - frame.index)[used]
            for axis in range(2):
                # What tells frames of a pan apart is their place: a wrong reference is off by 2 pixels at least.
                errors.append(motion[2 * place + axis][used] + SPEED[axis] * distance)
        assert residual.abs().mean() < 0.012
    assert seen == set(range(len(PAN)))
    assert np.mean(share) > 0.8
    assert (torch.cat(errors).abs() <= 1).float().mean() > 0.97


def test_reading_is_deterministic(tmp_path: Path) -> None:
    path = stream(tmp_path, "default", moving_square(30, (96, 128)))
    for one, other in zip(codec_frames(path), codec_frames(path), strict=True):
        assert (one.index, types([one])) == (other.index, types([other]))
        assert np.array_equal(one.image, other.image)
        assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(other), strict=True))


def test_frames_are_not_decoded_in_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame threads lose vectors, but not every time, and only of large frames."""
    used: list[str] = []

    @contextmanager
    def watched(path: Path) -> Iterator[Any]:
        with readable(path) as (container, stream):
            yield container, stream
            used.append(stream.thread_type.name)

    monkeypatch.setattr(read_packets, "readable", watched)
    list(codec_frames(stream(tmp_path, "default")))
    assert used == ["SLICE"]


def same_images(path: Path) -> int:
    plain = {frame.index: crc32(frame.image.tobytes()) for frame in open_video(path)}
    count = 0
    for frame in codec_frames(path, resolution="quarter", residual=False):
        assert plain.pop(frame.index) == crc32(frame.image.tobytes())
        count += 1
    assert not plain
    return count


def test_images_equal_those_of_open_video(tmp_path: Path) -> None:
    assert same_images(stream(tmp_path, "pyramid")) == len(PAN)


def test_real_files_have_the_same_frames_as_without_vectors(vos_data: Path, tmp_path: Path) -> None:
    files = sorted((vos_data / "videos").glob("*.mp4"))
    assert len(files) == 3
    for path in files:
        assert same_images(path) > 100
        assert ensure_motion_vectors(path, tmp_path) == path


def test_flicker_is_predicted_from_similar_frames(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    kinds = [np.kron(random.integers(30, 220, (8, 12, 1)), np.ones((8, 8, 3))).astype(np.uint8) for _ in range(2)]
    images = np.stack([kinds[index % 2] for index in range(14)])
    found = [p for p in codec_frames(stream(tmp_path, "weights", images)) if p.index > 2]
    for frame in found:
        assert (fields(frame)[1][:, 0] == frame.index - 2).float().mean() > 0.98
        assert fields(frame)[2].abs().max() < 0.02
    assert len(found) == 11


def predicted(luma: dict[int, np.ndarray], frame: RawFrame, references: np.ndarray) -> np.ndarray:
    """Slow and independent: every pixel looked up with bilinear weights in the given frames, plain means."""
    motion, used = fields(frame)[0][0].numpy(), fields(frame)[1][0].numpy() >= 0
    total = np.zeros(used.shape[1:])
    height, width = total.shape
    for place, y, x in np.argwhere(used).tolist():
        source = luma[int(references[place, y, x])]
        py = min(max(y + motion[2 * place + 1, y, x], 0), height - 1)
        px = min(max(x + motion[2 * place, y, x], 0), width - 1)
        top, left = int(py), int(px)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = source[top, left] * (1 - px + left) + source[top, right] * (px - left)
        lower = source[bottom, left] * (1 - px + left) + source[bottom, right] * (px - left)
        total[y, x] += upper * (1 - py + top) + lower * (py - top)
    return total / np.maximum(used.sum(0), 1)


def test_found_references_are_never_worse_than_the_nearest_key_frame(tmp_path: Path) -> None:
    path = stream(tmp_path, "pyramid", PAN[:10])
    with av.open(str(path)) as container:
        luma = {i: f.to_ndarray()[: f.height].astype(float) for i, f in enumerate(container.decode(video=0))}
    frames = list(codec_frames(path))
    keys = [p.index for p, kind in zip(frames, types(frames), strict=True) if kind != "B"]
    better = 0
    for frame in frames:
        found = fields(frame)[1][0].numpy()
        past = max((key for key in keys if key < frame.index), default=0)
        future = min((key for key in keys if key > frame.index), default=past)
        naive = np.stack([np.full(found.shape[1:], past), np.full(found.shape[1:], future)])
        inside = (found >= 0).any(0)
        if inside.any():
            own, other = (
                np.abs(luma[frame.index] - predicted(luma, frame, references))[inside].mean()
                for references in (found, naive)
            )
            assert own <= other + 0.05
            better += own < other - 1
    assert better >= 4


def test_quarter_resolution_samples_every_fourth_pixel(tmp_path: Path) -> None:
    path = stream(tmp_path, "default", moving_square(10, (46, 70)))
    for full, quarter in zip(codec_frames(path), codec_frames(path, resolution="quarter"), strict=True):
        motion, references, residual = fields(full)
        assert motion.shape == (1, 4, 46, 70)
        assert references.shape == (1, 2, 46, 70)
        assert residual.shape == (1, 1, 46, 70)
        assert (motion.dtype, references.dtype, residual.dtype) == (torch.float32, torch.int32, torch.float32)
        assert torch.equal(fields(quarter)[0], motion[..., ::4, ::4])
        assert torch.equal(fields(quarter)[1], references[..., ::4, ::4])
        middle = residual[..., :44, :68].unfold(2, 4, 4).unfold(3, 4, 4)[..., 1:3, 1:3].mean((-1, -2))
        assert torch.allclose(fields(quarter)[2][..., :11, :17], middle, atol=1e-6)
        assert fields(quarter)[2].shape == (1, 1, 12, 18)


def test_other_fields_do_not_depend_on_the_residual(tmp_path: Path) -> None:
    path = stream(tmp_path, "default", moving_square(12, (64, 96)))
    for one, other in zip(codec_frames(path), codec_frames(path, residual=False), strict=True):
        assert other.codec is not None
        assert other.codec.residual is None
        assert other.codec.references is not None
        assert torch.equal(fields(one)[1], other.codec.references)


def test_padding_is_cropped(tmp_path: Path) -> None:
    path = stream(tmp_path, "pinned")
    for one, other in zip(codec_frames(path, size=(63, 95)), codec_frames(path), strict=True):
        assert np.array_equal(one.image, other.image[:63, :95])
        assert all(torch.equal(a, b[..., :63, :95]) for a, b in zip(fields(one), fields(other), strict=True))
    with pytest.raises(VideoError, match="less than"):
        next(codec_frames(path, size=(65, 96)))


def test_frames_are_released(tmp_path: Path) -> None:
    live_refs: list[weakref.ref] = []
    peak = 0
    for frame in codec_frames(stream(tmp_path, "pyramid", moving_square(120, (32, 64)))):
        live_refs = [ref for ref in [*live_refs, weakref.ref(frame.image)] if ref() is not None]
        peak = max(peak, len(live_refs))
    assert peak <= 12


def test_mpeg4_without_b_frames(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", PAN, "mpeg4", qscale="2", bf="0")
    frames = list(codec_frames(path))
    assert [p.index for p in frames] == list(range(len(PAN)))
    for frame in frames[1:]:
        motion, references, residual = (field[0, :, 16:-16, 24:-24] for field in fields(frame))
        used = references[0] >= 0
        if types([frame]) == ["P"]:
            assert used.float().mean() > 0.8
            assert set(torch.unique(references[0][used]).tolist()) == {frame.index - 1}
            assert ((motion[0][used] - SPEED[0]).abs() <= 1).float().mean() > 0.95
            assert residual.abs().mean() < 0.02
