"""Tests of motion vectors in npz files: what is read back, and what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.video.clips import encode
from tests.video.test_codec_reader import fields, pan
from voslab.core import ConfigError, RawFrame, VideoError
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.engine.keys import Keys
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.covos.network import CoVOS
from voslab.video import open_video
from voslab.video.codec_reader import codec_frames
from voslab.video.vector_files import vector_frames, write_vectors

COUNT = 13
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "clip.mp4"
    return encode(path, pan(COUNT, (64, 96)), crf="10", **{"x264-params": "ref=3:b-pyramid=normal:bframes=3:b-adapt=0"})


@pytest.fixture(scope="module")
def dumped(clip: Path) -> Path:
    """A folder with the vectors of the clip."""
    folder = clip.parent / "dumped"
    write_vectors(folder / "clip.npz", codec_frames(clip, resolution="quarter"))
    return folder


def masks(source: CodecSource, clip: Path) -> list[np.ndarray]:
    given = np.zeros((64, 96), np.int64)
    given[16:48, 40:72] = 1
    network = CoVOS(CopyFirst(), refine=False, correction=False)
    return [one.ids for one in run(network, source.frames(open_video(clip)), {0: given}, Settings())]


@pytest.mark.parametrize("keys", [Keys(), Keys("i")], ids=["ip", "i"])
def test_vectors_of_a_file_give_the_masks_of_the_codec(clip: Path, dumped: Path, tmp_path: Path, keys: Keys) -> None:
    codec, file = CodecSource(tmp_path, keys=keys), CodecSource(tmp_path, keys=keys, vectors=dumped)
    assert not list(tmp_path.iterdir()), "nothing is encoded"
    for one, other in zip(codec.frames(open_video(clip)), file.frames(open_video(clip)), strict=True):
        assert (one.index, one.time) == (other.index, other.time)
        assert np.array_equal(one.image, other.image)
        assert one.codec is not None
        assert other.codec is not None
        assert one.codec.is_key == other.codec.is_key
        if one.codec.type != "I":
            assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(other), strict=True))
    found, expected = masks(file, clip), masks(codec, clip)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert any((one != found[0]).any() for one in found), "something was propagated"


def test_images_take_the_file_that_is_named_like_their_folder(clip: Path, dumped: Path, tmp_path: Path) -> None:
    from PIL import Image

    files = [tmp_path / "clip" / f"{index:05d}.png" for index in range(COUNT)]
    files[0].parent.mkdir()
    for frame, file in zip(open_video(clip), files, strict=True):
        Image.fromarray(frame.image).save(file)
    source = CodecSource(tmp_path / "cache", vectors=dumped)
    indices = [frame.index for frame in source.frames(files)]
    assert indices == [frame.index for frame in codec_frames(clip, residual=False)]
    assert not (tmp_path / "cache").exists(), "nothing is encoded"
    single = replace(source, vectors=dumped / "clip.npz")
    assert [frame.index for frame in single.frames(open_video(files[0].parent))] == indices
    backward = [frame.index for frame in source.access(files).backward(COUNT - 1)]
    assert sorted(backward) == list(range(COUNT))
    assert backward[0] == COUNT - 1


def test_only_frames_that_are_still_referenced_are_live(clip: Path, dumped: Path) -> None:
    frames = list(vector_frames(dumped / "clip.npz", open_video(clip)))
    for place, frame in enumerate(frames):
        assert frame.codec is not None
        later = set()
        for other in frames[place + 1 :]:
            assert other.codec is not None
            if other.codec.references is not None:
                later |= {int(index) for index in other.codec.references.unique() if index >= 0}
        assert frame.codec.live_refs == later & {one.index for one in frames[: place + 1]}


def test_a_tool_may_write_coarse_cells_and_no_residual(tmp_path: Path) -> None:
    arrays: Arrays = {"order": np.array([0, 2, 1]), "types": np.array(["I", "P", "B"])[[0, 2, 1]]}
    for index, references in ((2, (0, -1)), (1, (0, 2))):
        arrays[f"motion_{index}"] = np.full((4, 2, 3), 32 * index, np.int32)
        arrays[f"references_{index}"] = np.tile(np.array(references).reshape(2, 1, 1), (1, 2, 3))
    np.savez(tmp_path / "a.npz", **arrays)
    images = [RawFrame(index, np.zeros((32, 48, 3), np.uint8)) for index in range(3)]
    frames = list(vector_frames(tmp_path / "a.npz", images))
    assert [frame.index for frame in frames] == [0, 2, 1]
    last = frames[-1].codec
    assert last is not None
    assert last.motion is not None
    assert last.residual is None
    assert (last.motion == 8).all()
    with pytest.raises(VideoError, match="has 3 frames, the video ends before frame 2"):
        list(vector_frames(tmp_path / "a.npz", images[:2]))
    with pytest.raises(VideoError, match="has 3 frames, the video has more"):
        list(vector_frames(tmp_path / "a.npz", [*images, replace(images[0], index=3)]))


def put(name: str, value: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.__setitem__(name, np.asarray(value))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda arrays: arrays.pop("order"), "order is missing or damaged"),
        (put("order", [0, 0]), "order and types must name each frame from 0 once"),
        (put("types", ["I", "X"]), "types holds 'X', not only I, P and B"),
        (
            put("motion_1", np.zeros((2, 4, 6))),
            r"frame 1 has motion of shape \(2, 4, 6\) and references of shape \(2, 4, 6\)",
        ),
        (put("motion_1", np.zeros((4, 6))), "motion_1 has 2 dimensions, not 3"),
        (put("references_1", np.ones((2, 4, 6), int)), "frame 1 refers to frame 1, which is not decoded before it"),
        (put("references_1", np.zeros((2, 4, 6))), "references_1 holds float64, not integers"),
        (put("motion_1", np.array([None])), "motion_1 is missing or damaged"),
    ],
)
def test_other_layouts_are_refused_in_one_line(tmp_path: Path, damage: Callable[[Arrays], Any], said: str) -> None:
    arrays: Arrays = {
        "order": np.array([0, 1]),
        "types": np.array(["I", "P"]),
        "motion_1": np.zeros((4, 4, 6), np.int16),
        "references_1": np.zeros((2, 4, 6), np.int32),
    }
    damage(arrays)
    np.savez(tmp_path / "a.npz", **arrays)
    images = [RawFrame(index, np.zeros((16, 24, 3), np.uint8)) for index in range(2)]
    with pytest.raises(VideoError, match=rf"a\.npz: {said}") as error:
        list(vector_frames(tmp_path / "a.npz", images))
    assert "\n" not in str(error.value)


def test_files_that_are_no_npz_or_missing_and_streams_are_refused(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.npz").write_bytes(b"no zip")
    source = CodecSource(tmp_path, vectors=tmp_path)
    with pytest.raises(VideoError, match=r"clip\.npz: cannot be read as npz"):
        list(source.frames(open_video(clip)))
    with zipfile.ZipFile(tmp_path / "clip.npz", "w") as archive:
        archive.writestr("order.npy", b"no array")
    with pytest.raises(VideoError, match="order is missing or damaged"):
        list(source.frames(open_video(clip)))
    with pytest.raises(VideoError, match="frame 0 has no codec data to write"):
        write_vectors(tmp_path / "b.npz", open_video(clip))
    assert not (tmp_path / "b.npz").exists()
    stream = replace(open_video(clip), stream=object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a stream brings its own vectors"):
        source.frames(stream)
