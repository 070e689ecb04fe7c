"""Graphs in int8: which are written, what the manifest says of them, and how their calibration clip is read and run."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_export import exported, network
from tests.conftest import Run
from voslab.cli.int8 import Chain, Clip, read_clip
from voslab.core import ConfigError
from voslab.core.export_graph import ExportGraph
from voslab.engine.settings import Settings

pytestmark = pytest.mark.usefixtures("no_shape_checks")
FRAMES = 6


@pytest.fixture
def video(tmp_path: Path) -> tuple[Path, Path]:
    """A bright square that moves over a dark background, and its first mask."""
    folder, mask = tmp_path / "frames", tmp_path / "mask.png"
    folder.mkdir()
    for index in range(FRAMES):
        image = np.random.default_rng(index).integers(0, 60, (64, 90, 3), np.uint8)
        image[16:40, 8 + 6 * index : 32 + 6 * index] += 160
        Image.fromarray(image).save(folder / f"{index:05}.png")
    labels = np.zeros((64, 90), np.uint8)
    labels[16:40, 8:32] = 3
    Image.fromarray(labels).save(mask)
    return folder, mask


def entries(folder: Path) -> dict[str, Any]:
    return {graph["name"]: graph for graph in json.loads((folder / "out" / "manifest.json").read_text())["graphs"]}


@pytest.mark.slow
def test_graphs_with_weights_are_written_in_int8_too(run: Run, tmp_path: Path, video: tuple[Path, Path]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    frames, mask = video
    stale = tmp_path / "out" / "read.int8.onnx"
    stale.parent.mkdir()
    stale.touch()
    exported(run, "stcn_light", tmp_path, f"int8={frames}", f"int8_mask={mask}")
    out, written = tmp_path / "out", entries(tmp_path)
    assert {name: one.get("int8") for name, one in written.items()} == {
        "encode": "encode.int8.onnx",
        "memorise": "memorise.int8.onnx",
        "read": None,
        "decode": "decode.int8.onnx",
    }
    facts = json.loads((out / "manifest.json").read_text())["int8"]
    assert facts["frames"] == FRAMES
    assert 0 < facts["agreement"] <= 1
    segmenter: Any = network("stcn_light")[0]
    image = read_clip(str(frames), str(mask), segmenter, Settings(size=480)).frames[3]
    small, plain = (runtime.InferenceSession(out / f"encode{kind}.onnx") for kind in (".int8", ""))
    for ours, theirs in zip(small.run(None, {"image": image}), plain.run(None, {"image": image}), strict=True):
        assert 0 < np.abs(ours - theirs).mean() < 0.2 * np.abs(theirs).mean()
    assert not stale.exists()


def test_a_clip_is_prepared_as_the_engine_does(video: tuple[Path, Path]) -> None:
    segmenter: Any = network("stcn")[0]
    clip = read_clip(str(video[0]), str(video[1]), segmenter, Settings(size=480))
    assert len(clip.frames) == FRAMES
    assert {frame.shape for frame in clip.frames} == {(1, 3, 64, 96)}
    assert np.argwhere(clip.masks[0, 0])[[0, -1]].tolist() == [[16, 11], [39, 34]]


def test_a_clip_without_an_object_or_a_second_frame_is_an_error(tmp_path: Path, video: tuple[Path, Path]) -> None:
    segmenter: Any = network("stcn")[0]
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((64, 90), np.uint8)).save(empty)
    with pytest.raises(ConfigError, match=r"empty\.png: holds no object of frame 0"):
        read_clip(str(video[0]), str(empty), segmenter, Settings(size=480))
    for path in sorted(video[0].iterdir())[1:]:
        path.unlink()
    with pytest.raises(ConfigError, match="has one frame only"):
        read_clip(str(video[0]), str(video[1]), segmenter, Settings(size=480))


def test_each_frame_has_the_one_before_as_its_memory() -> None:
    calls = []

    class Session:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, outputs: list[str], taken: dict[str, Any]) -> list[Any]:
            calls.append((self.name, {key: float(value.flat[0]) for key, value in taken.items()}))
            source = next(iter(taken.values()))
            return [np.full((1, 2, 2, 2), source.flat[0] + 0.25, np.float32) for _ in outputs]

    def graph(name: str, inputs: tuple[str, ...], *outputs: str) -> ExportGraph:
        return ExportGraph(name, print, dict.fromkeys(inputs, ()), dict.fromkeys(outputs, ()))

    graphs = (
        graph("encode", ("image",), "key"),
        graph("memorise", ("key", "masks"), "keys"),
        graph("compare", ("new", "keys"), "similarity"),
        graph("decode", ("key", "keys"), "probabilities"),
    )
    frames = [np.full((1, 3, 2, 2), index, np.float32) for index in range(3)]
    chain = Chain(graphs, {one.name: Session(one.name) for one in graphs}, inputs=defaultdict(list))
    assert len(chain.run(Clip(frames, np.full((1, 1, 2, 2), 9, np.float32)))) == 2
    assert calls == [
        ("encode", {"image": 0}),
        ("memorise", {"key": 0.25, "masks": 9}),
        ("encode", {"image": 1}),
        ("decode", {"key": 1.25, "keys": 0.5}),
        ("memorise", {"key": 1.25, "masks": 1.5}),
        ("encode", {"image": 2}),
        ("decode", {"key": 2.25, "keys": 1.5}),
    ]
    assert sorted(chain.inputs or ()) == ["decode", "encode", "memorise"]
