"""`python -m src.export`: the graphs alone carry masks through a video, and compute what the network does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import Run
from voslab.cli import onnx
from voslab.cli.models import from_checkpoint
from voslab.core import Frame, Masks
from voslab.core.export_graph import Function, Graphs
from voslab.methods import registry

ROOT = Path(__file__).resolve().parents[2]
Array = NDArray[np.float32]
Call = Callable[..., dict[str, Array]]

FRAMES, SIZE, OBJECTS = 4, (64, 96), 2
DENSE = {"backbone": "resnet18", "width": 8, "key_channels": 8, "value_channels": 16, "decoder_width": 8}
SMALL: dict[str, dict[str, Any]] = {
    "stcn": {**DENSE, "memory_every": 2},
    "stm": {**DENSE, "memory_every": 2},
    "mivos": {**DENSE, "memory_every": 2, "memory_previous": True, "kernel": 2.0},
    "gam": {**DENSE, "mem_channels": 8, "update_every": 2},
    "gc": {**DENSE, "cam": False, "mem": False},
    "swiftnet": {"backbone": "resnet18", "width": 16, "decoder_width": 8, "memory_every": 2},
    "crvos": {"backbone": "resnet18", "width": 8, "refine_width": 8},
}
NAMES = sorted(SMALL)


def network(name: str) -> tuple[Any, Graphs]:
    torch.manual_seed(0)
    method = "gam" if name == "gc" else name
    built: Any = registry.build(method, SMALL[name])
    built.eval().requires_grad_(False)
    graphs = registry.method(method).graphs()
    assert graphs is not None
    return built, graphs(built)


def video() -> tuple[list[Array], Array]:
    """Pictures 1 3 H W, and probs 1 O H W of the first."""
    numbers = np.random.default_rng(0)
    frames = [numbers.random((1, 3, *SIZE), np.float32) for _ in range(FRAMES)]
    probs = np.zeros((1, OBJECTS, *SIZE), np.float32)
    probs[0, 0, 10:40, 8:40] = probs[0, 1, 20:60, 48:90] = 1
    return frames, probs


def eager(graphs: Graphs) -> Call:
    """Call a graph by name with named arrays, of which it takes those that are its inputs."""
    found = {graph.name: graph for graph in graphs.graphs}

    def call(name: str, **arrays: Array) -> dict[str, Array]:
        graph = found[name]
        outputs = graph.function(*(torch.from_numpy(np.ascontiguousarray(arrays[key])) for key in graph.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {key: output.numpy() for key, output in zip(graph.outputs, outputs, strict=True)}

    return call


def sessions(folder: Path) -> Call:
    """The same by onnxruntime, from what the manifest says."""
    runtime = pytest.importorskip("onnxruntime")
    metadata = {graph["name"]: graph for graph in json.loads((folder / "manifest.json").read_text())["graphs"]}
    opened = {name: runtime.InferenceSession(folder / graph["file"]) for name, graph in metadata.items()}

    def call(name: str, **arrays: Array) -> dict[str, Array]:
        given = {one["name"]: arrays[one["name"]] for one in metadata[name]["inputs"]}
        return dict(zip([one["name"] for one in metadata[name]["outputs"]], opened[name].run(None, given), strict=True))

    return call


def by_dense_memory(call: Call, frames: list[Array], masks: Array, every: int, previous: bool) -> list[Array]:
    """STM, STCN, MiVOS."""
    keys: list[Array] = []
    values: list[Array] = []
    found, seen = [], call("encode", image=frames[0])
    for index, image in enumerate(frames[1:]):
        if index % every == 0 or previous:
            new = call("memorise", image=frames[index], masks=masks, **seen)
            keys, values = (
                [*kept[: index // every + (index % every > 0)], new[name]]
                for kept, name in ((keys, "keys"), (values, "values"))
            )
        seen = call("encode", image=image)
        memory = {"keys": np.concatenate(keys, 2), "values": np.concatenate(values, 2)}
        found.append(call("decode", **seen, **call("read", key=seen["key"], **memory))["probabilities"])
        masks = found[-1][:, 1:]
    return found


def by_pixels(call: Call, frames: list[Array], masks: Array, every: int, share: float) -> list[Array]:
    """SwiftNet."""
    found, seen = [], call("encode", image=frames[0])
    kept = call("memorise", masks=masks, **seen)
    newest = {name: array[:, :, :0] for name, array in kept.items()}
    for index, image in enumerate(frames[1:]):
        if index:
            newest = call("memorise", masks=masks, **seen)
        seen = call("encode", image=image)
        memory = {name: np.concatenate([kept[name], newest[name]], 2) for name in kept}
        found.append(call("decode", **seen, **call("read", key=seen["key"], **memory))["probabilities"])
        if index and index % every == 0:
            similarity = call("compare", new=newest["keys"], keys=kept["keys"])["similarity"]
            count = similarity.shape[-1] - int(similarity.shape[-1] * (1 - share))
            where = similarity.argsort(-1)[..., :count, None]
            chosen = {name: np.take_along_axis(array, where, 2) for name, array in newest.items()}
            kept = {name: np.concatenate([kept[name], chosen[name]], 2) for name in kept}
        masks = found[-1][:, 1:]
    return found


def by_context(call: Call, frames: list[Array], masks: Array, network: Any) -> list[Array]:
    """GAM, GC."""
    keys, values = network.project.key.out_channels, network.project.value.out_channels
    context, written = np.zeros((1, OBJECTS, keys, values), np.float32), 0
    found, seen, past = [], call("encode", image=frames[0]), [masks] * 3
    for index, image in enumerate(frames[1:]):
        if index % network.update_every == 0:
            written += 1
            rate = np.full(OBJECTS, 1 / written, np.float32)
            given = {"image": frames[index], "masks": masks, "context": context, "rate": rate}
            context = call("memorise", **given, **seen)["updated"]
        seen = call("encode", image=image)
        more = {} if network.mem is None else call("embed", past=np.stack(past, 2))
        read = call("read", key=seen["key"], context=context)
        found.append(call("decode", **seen, **read, **more)["probabilities"])
        masks = found[-1][:, 1:]
        past = [masks, *past[:2]]
    return found


def by_masks(call: Call, frames: list[Array], masks: Array) -> list[Array]:
    """CRVOS."""
    found = []
    for image in frames[1:]:
        found.append(call("decode", masks=masks, **call("encode", image=image))["probabilities"])
        masks = found[-1][:, 1:]
    return found


def carried(name: str, network: Any, call: Call) -> list[Array]:
    frames, masks = video()
    if name in ("gam", "gc"):
        return by_context(call, frames, masks, network)
    if name == "crvos":
        return by_masks(call, frames, masks)
    if name == "swiftnet":
        return by_pixels(call, frames, masks, network.memory_every, network.policy.share)
    return by_dense_memory(call, frames, masks, network.memory_every, network.memory_previous)


def by_network(network: Any) -> list[Array]:
    frames, probs = video()
    first = Masks(torch.from_numpy(probs), torch.ones(1, OBJECTS, dtype=torch.bool))
    state = network.begin(Frame(0, torch.from_numpy(frames[0])), first)
    found = []
    for index, image in enumerate(frames[1:], 1):
        logits, state = network.step(Frame(index, torch.from_numpy(image)), state)
        found.append(logits.softmax(1).numpy())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_graphs_chained_are_the_network_over_a_video(name: str) -> None:
    built, graphs = network(name)
    for found, expected in zip(carried(name, built, eager(graphs)), by_network(built), strict=True):
        assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_graphs_take_and_give_what_they_say(name: str) -> None:
    built, graphs = network(name)
    for sizes in (onnx.TRACED, {"rows": 3, "columns": 5, "objects": 1, "memory": 45, "cells": 15}):
        for graph in graphs.graphs:
            outputs = Function(built, graph.function)(*map(torch.from_numpy, onnx.draw(graph, sizes).values()))
            assert [tuple(output.shape) for output in outputs] == [onnx.at(x, sizes) for x in graph.outputs.values()]
    assert graphs.chain
    assert graphs.aggregation


def exported(run: Run, name: str, folder: Path, *more: str) -> Any:
    """Run the program on random weights, and give the network."""
    built, _ = network(name)
    torch.save({"state_dict": built.state_dict()}, folder / "weights.pth")
    arguments = [f"model.network.{key}={value}" for key, value in SMALL[name].items()]
    given = (f"model={name}", *arguments, f"weights={folder}/weights.pth", f"output={folder}/out")
    assert not run("export", *given, "size=[48,80]", "objects=1", "repeats=1", *more)
    return built


def check(name: str, built: Any, folder: Path) -> None:
    """What a folder holds carries masks like the network, at a size and with objects that it was not checked with."""
    for found, expected in zip(carried(name, built, sessions(folder)), by_network(built), strict=True):
        assert np.abs(found - expected).max() < 1e-4
        # A network that knows nothing is undecided where the two largest are all but equal.
        top = np.sort(expected, 1)
        sure = top[:, -1] - top[:, -2] > 1e-3
        assert np.array_equal(found.argmax(1)[sure], expected.argmax(1)[sure])


@pytest.mark.slow
def test_what_is_written_is_a_checkpoint_a_manifest_and_graphs_that_suffice(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    built, out = exported(run, "stcn", tmp_path), tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["method"], manifest["padding"]["multiple_of"], manifest["engine"]["size"]) == ("stcn", 16, 480)
    assert manifest["network"]["memory_every"] == 2
    encode, memorise, read, decode = manifest["graphs"]
    assert encode["inputs"] == [{"name": "image", "shape": [1, 3, "16*rows", "16*columns"], "dtype": "float32"}]
    assert [one["shape"] for one in memorise["outputs"]] == [[1, 1, "cells", 8], [1, "objects", "cells", 16]]
    assert read["inputs"][1]["shape"] == [1, 1, "memory", 8]
    assert decode["outputs"][0]["shape"] == [1, "objects+1", "16*rows", "16*columns"]
    assert all(0 <= apart < 1e-2 for graph in manifest["graphs"] for apart in graph["largest_difference"].values())
    check("stcn", built, out)
    again = from_checkpoint(out / manifest["weights"], as_trained=True)
    assert again.name == "stcn"
    assert all(torch.equal(value, built.state_dict()[key]) for key, value in again.segmenter.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name != "stcn"])
def test_the_graphs_of_every_method_suffice(run: Run, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    check(name, exported(run, name, tmp_path), tmp_path / "out")


@pytest.mark.slow
def test_sizes_may_be_fixed(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    exported(run, "crvos", tmp_path, "free=false")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["graphs"][1]["inputs"][0]["shape"] == [1, 1, 48, 80]
    with pytest.raises(Exception, match="Got invalid dimensions"):
        sessions(tmp_path / "out")("encode", image=np.zeros((1, 3, 64, 80), np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=copy_first", "weights={file}"], "model 'copy_first' has no graphs to export"),
        (["model=covos", "model/base=copy_first", "weights={file}"], "'copy_first' may have"),
        (["model=stcn"], "random weights are nothing to export"),
        (["checkpoint={file}", "objects=0"], "objects=0: must be at least 1"),
        (["checkpoint={file}", "size=[64]"], "size=[64]: must be a height and a width"),
        (["checkpoint={file}", "size=[64,wide]"], "size=[64, 'wide']: must be"),
        (["checkpoint={file}", "threads=0"], "threads=0: must be a whole number"),
        (["checkpoint={file}", "free=maybe"], "free=maybe: must be true or false"),
        (["checkpoint={file}"], "weights.safetensors: no such weights file"),
    ],
)
def test_what_cannot_be_exported_is_one_line(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    file = tmp_path / "weights.safetensors"
    if arguments[0].startswith("model=co"):
        torch.save({"state_dict": {}}, file.with_suffix(".pth"))
        file = file.with_suffix(".pth")
    line = run("export", *(part.format(file=file) for part in arguments), f"output={tmp_path}/out")
    assert message in line
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_missing_packages_are_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxruntime" else name)
    line = run("export", f"checkpoint={ROOT}/weights/scratch_crvos.safetensors", f"output={tmp_path}")
    assert line == "export needs onnxruntime: pip install .[export]"
