"""The public API: every kind of source and mask gives the masks of `src.segment`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import Run
from tests.video.clips import encode, moving_square
from voslab.core import VOSError
from voslab.engine import Prediction
from voslab.predictor import Predictor, default_checkpoint
from voslab.video import open_video, read_mask, write_mask

FRAMES = 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("clip") / "clip.mp4", moving_square(FRAMES, (64, 96)))


@pytest.fixture(scope="module")
def images(clip: Path) -> list[NDArray[np.uint8]]:
    return [frame.image for frame in open_video(clip)]


@pytest.fixture(scope="module")
def folder(images: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:05d}.png")
    return folder


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(device="cpu")


def first_mask() -> NDArray[np.uint8]:
    mask = np.zeros((64, 96), np.uint8)
    mask[8:40, 8:40] = 3
    mask[44:60, 60:90] = 7
    return mask


def ids(predictions: Iterator[Prediction]) -> NDArray[np.int64]:
    found = list(predictions)
    assert [one.index for one in found] == list(range(FRAMES))
    return np.stack([one.ids for one in found])


def test_every_source_gives_the_same_masks(
    predictor: Predictor, clip: Path, images: list[NDArray[np.uint8]], folder: Path
) -> None:
    mask = {0: first_mask()}
    expected = ids(predictor.segment(images, mask))
    assert set(np.unique(expected)) >= {0, 3}
    sources: tuple[Any, ...] = (clip, str(clip), folder, sorted(folder.iterdir()), np.stack(images), iter(images))
    for source in (*sources, open_video(clip)):
        assert np.array_equal(ids(predictor.segment(source, mask)), expected), source


def test_masks_come_from_a_dict_a_file_or_a_folder(
    predictor: Predictor, images: list[NDArray[np.uint8]], folder: Path, tmp_path: Path
) -> None:
    expected = ids(predictor.segment(images, {0: first_mask()}))
    write_mask(tmp_path / "masks" / "00000.png", first_mask())
    for given in (tmp_path / "masks", tmp_path / "masks" / "00000.png", str(tmp_path / "masks" / "00000.png")):
        assert np.array_equal(ids(predictor.segment(images, given)), expected)
    assert np.array_equal(ids(predictor.segment(folder, tmp_path / "masks")), expected)


def test_masks_are_those_of_the_command_line(run: Run, predictor: Predictor, clip: Path, tmp_path: Path) -> None:
    write_mask(tmp_path / "mask.png", first_mask())
    line = (f"video={clip}", f"mask={tmp_path}/mask.png", f"output={tmp_path}/out", "engine.device=cpu")
    assert not run("segment", *line)
    written = np.stack([read_mask(tmp_path / "out" / "masks" / f"{index:05d}.png") for index in range(FRAMES)])
    assert np.array_equal(ids(predictor.segment(clip, {0: first_mask()})), written)


def test_probabilities_agree_with_the_ids(predictor: Predictor, images: list[NDArray[np.uint8]]) -> None:
    later = np.zeros((64, 96), np.uint8)
    later[50:60, 4:20] = 9
    masks = {1: first_mask(), 3: later}
    plain = list(predictor.segment(images, masks))
    assert plain[2].probabilities is None
    for one, reference in zip(predictor.segment(images, masks, probabilities=True), plain, strict=True):
        assert np.array_equal(one.ids, reference.ids)
        assert one.object_ids == ((), (3, 7), (3, 7), (3, 7, 9), (3, 7, 9))[one.index]
        assert one.probabilities is not None
        assert one.probabilities.shape == (len(one.object_ids), 64, 96)
        assert one.probabilities.dtype == np.float32
        total = one.probabilities.sum(0)
        assert (one.probabilities >= 0).all()
        assert (total <= 1 + 1e-5).all()
        best = np.concatenate([1 - total[None], one.probabilities]).argmax(0)
        assert np.mean(np.array([0, *one.object_ids])[best] == one.ids) > 0.9999


def test_probabilities_have_the_size_of_the_source(images: list[NDArray[np.uint8]]) -> None:
    small = Predictor.load(default_checkpoint(), size=32, device="cpu")
    last = list(small.segment(images, {0: first_mask()}, probabilities=True))[-1]
    assert last.probabilities is not None
    assert last.probabilities.shape == (2, 64, 96)


def test_a_wrapper_reads_codec_data_of_files(clip: Path, images: list[NDArray[np.uint8]], tmp_path: Path) -> None:
    predictor = Predictor.load(
        default_checkpoint().with_name("scratch_covos.safetensors"), cache=tmp_path, device="cpu"
    )
    found = list(predictor.segment(clip, {0: first_mask()}))
    assert [one.index for one in found] == list(range(FRAMES))
    assert not all(one.key for one in found), "some frames are B-frames"
    with pytest.raises(VOSError, match="model 'covos' reads codec data: give a video file"):
        predictor.segment(images, {0: first_mask()})


def test_networks_have_the_parameters_of_the_configuration() -> None:
    predictor = Predictor.load(model="gam_adapted", network={"steps": 2}, device="cpu")
    metadata = predictor.model.metadata
    assert (metadata.method, metadata.network["steps"], metadata.network["base"]["name"]) == ("adaptation", 2, "gam")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "stcm"}, "model=stcm: no such model; did you mean 'stm'"),
        ({"model": "copy_first", "checkpoint": "x.ckpt"}, "either checkpoint=FILE or model=NAME"),
        ({"weights": "x.pth"}, "go with model=NAME"),
        ({"checkpoint": "none.ckpt"}, r"none\.ckpt: no such weights file"),
        ({"model": "copy_first", "device": "cuda:99"}, "no such device"),
        ({"model": "copy_first", "size": 0}, r"engine\.size=0"),
        ({"model": "stcn", "network": {"widht": 8}}, "did you mean 'width'"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VOSError, match=message) as error:
        Predictor.load(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "no mask is given"),
        ({-1: first_mask()}, "frame -1: frames are counted from 0"),
        ({0: np.zeros((64, 96), np.float32)}, "mask of frame 0 is float32"),
        ({0: np.zeros((64, 96, 3), np.uint8)}, "a mask is H W integers"),
        ({0: first_mask()[:32]}, "mask of frame 0 is 32x96"),
        ({9: first_mask()}, "mask given for frame 9, but the video ends with frame 4"),
        (first_mask(), "masks are a ndarray"),
        ("none.png", r"none\.png: no such mask file"),
    ],
)
def test_bad_masks_are_one_line(masks: Any, message: str, images: list[NDArray[np.uint8]]) -> None:
    predictor = Predictor.load(model="copy_first", device="cpu")
    with pytest.raises(VOSError, match=message) as error:
        list(predictor.segment(images, masks))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["none.mp4", [], [np.zeros((4, 4), np.uint8)], ["none.png"]])
def test_bad_sources_are_one_line(source: Any) -> None:
    predictor = Predictor.load(model="copy_first", device="cpu")
    with pytest.raises(VOSError) as error:
        list(predictor.segment(source, {0: np.ones((4, 4), np.uint8)}))
    assert "\n" not in str(error.value)
