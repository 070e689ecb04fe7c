"""Checks that the exported graphs, chained as docs/onnx.md describes, compute the same masks as the network."""

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
from voslab.core import Frame, Masks
from voslab.core.export_graph import ExportGraph, GraphModule
from voslab.methods import registry
from voslab.methods.builder import from_checkpoint

ROOT = Path(__file__).resolve().parents[2]
Array = NDArray[np.float32]
Call = Callable[..., dict[str, Array]]

FRAMES, SIZE, OBJECTS = 4, (64, 96), 2
DENSE = {"backbone": "resnet18", "width": 8, "key_channels": 8, "value_channels": 16, "decoder_width": 8}
SMALL: dict[str, dict[str, Any]] = {
    "stcn": {**DENSE, "memory_every": 2},
    "stcn_light": {
        **DENSE,
        "backbone": "efficientnet_lite0",
        "mask_backbone": "light",
        "previous_mask": True,
        "memory_every": 2,
        "memory_previous": True,
    },
    "stm": {**DENSE, "memory_every": 2},
    "stm_lite": {**DENSE, "backbone": "efficientnet_lite0", "memory_every": 2},
    "mivos": {**DENSE, "memory_every": 2, "memory_previous": True, "kernel": 2.0},
    "gam": {**DENSE, "mem_channels": 8, "update_every": 2},
    "gc": {**DENSE, "cam": False, "mem": False},
    "swiftnet": {"backbone": "resnet18", "width": 16, "decoder_width": 8, "memory_every": 2},
    "crvos": {"backbone": "resnet18", "width": 8, "refine_width": 8},
    "cutie": {**DENSE, "memory_every": 2, "sensory_channels": 4, "queries": 4, "blocks": 1},
    "xmem": {**DENSE, "memory_every": 2, "sensory_channels": 4},
    "xmem_no_sensory": {**DENSE, "memory_every": 2, "sensory_channels": 0},
}
NAMES = sorted(SMALL)
METHODS = {"gc": "gam", "stcn_light": "stcn", "stm_lite": "stm", "xmem_no_sensory": "xmem"}
"""Registry names of the configurations that are not called by theirs."""


pytestmark = pytest.mark.usefixtures("no_shape_checks")


def network(name: str) -> tuple[Any, tuple[ExportGraph, ...]]:
    torch.manual_seed(0)
    method = METHODS.get(name, name)
    built: Any = registry.build(method, SMALL[name])
    built.eval().requires_grad_(False)
    graphs = registry.method(method).graphs()
    assert graphs is not None
    return built, graphs(built)


def video() -> tuple[list[Array], Array]:
    """Random frames 1 3 H W, and masks 1 O H W of the first frame."""
    numbers = np.random.default_rng(0)
    frames = [numbers.random((1, 3, *SIZE), np.float32) for _ in range(FRAMES)]
    probs = np.zeros((1, OBJECTS, *SIZE), np.float32)
    probs[0, 0, 10:40, 8:40] = probs[0, 1, 20:60, 48:90] = 1
    return frames, probs


def eager(graphs: tuple[ExportGraph, ...]) -> Call:
    """Return a function that runs a graph by name in PyTorch; named arrays that are not its inputs are ignored."""
    found = {graph.name: graph for graph in graphs}

    def call(name: str, **arrays: Array) -> dict[str, Array]:
        graph = found[name]
        outputs = graph.function(*(torch.from_numpy(np.ascontiguousarray(arrays[key])) for key in graph.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {key: output.numpy() for key, output in zip(graph.outputs, outputs, strict=True)}

    return call


def sessions(folder: Path) -> Call:
    """Return the same function for onnxruntime, from the facts in the manifest."""
    runtime = pytest.importorskip("onnxruntime")
    metadata = {graph["name"]: graph for graph in json.loads((folder / "manifest.json").read_text())["graphs"]}
    opened = {name: runtime.InferenceSession(folder / graph["file"]) for name, graph in metadata.items()}

    def call(name: str, **arrays: Array) -> dict[str, Array]:
        given = {one["name"]: arrays[one["name"]] for one in metadata[name]["inputs"]}
        return dict(zip([one["name"] for one in metadata[name]["outputs"]], opened[name].run(None, given), strict=True))

    return call


def run_dense_memory(call: Call, frames: list[Array], masks: Array, every: int, previous: bool) -> list[Array]:
    """Run STM, STCN or MiVOS: a memory of whole frames."""
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
        found.append(call("decode", **seen, masks=masks, **call("read", key=seen["key"], **memory))["probabilities"])
        masks = found[-1][:, 1:]
    return found


def run_pixel_memory(call: Call, frames: list[Array], masks: Array, every: int, share: float) -> list[Array]:
    """Run SwiftNet: a memory of selected positions."""
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


def run_sensory_memory(call: Call, frames: list[Array], masks: Array, every: int, channels: int) -> list[Array]:
    """Run XMem without prototypes: a memory of whole frames, and a sensory memory."""
    found, seen = [], call("encode", image=frames[0])
    memory: dict[str, Array] = {}
    sensory = np.zeros((1, OBJECTS, channels, SIZE[0] // 16, SIZE[1] // 16), np.float32)
    for index, image in enumerate(frames[1:]):
        if index % every == 0:
            new = call("memorise", image=frames[index], masks=masks, sensory=sensory, **seen)
            sensory = new.pop("refreshed", sensory)
            memory = {name: np.concatenate([memory[name], x], 2) if memory else x for name, x in new.items()}
        seen = call("encode", image=image)
        read = call("read", key=seen["key"], selection=seen["selection"], **memory)
        found.append((decoded := call("decode", **seen, **read, sensory=sensory))["probabilities"])
        if (index + 1) % every:
            sensory = decoded.get("updated", sensory)
        masks = found[-1][:, 1:]
    return found


def run_object_memory(call: Call, frames: list[Array], masks: Array, every: int, channels: int) -> list[Array]:
    """Run Cutie: a memory of whole frames, a sensory memory, and a sum of object summaries."""
    found, seen = [], call("encode", image=frames[0])
    memory: dict[str, Array] = {}
    sensory, summaries = np.zeros((1, OBJECTS, channels, SIZE[0] // 16, SIZE[1] // 16), np.float32), np.float32(0)
    for index, image in enumerate(frames[1:]):
        if index % every == 0:
            new = call("memorise", image=frames[index], masks=masks, sensory=sensory, **seen)
            sensory, summaries = new.pop("refreshed"), summaries + new.pop("summary")
            memory = {name: np.concatenate([memory[name], x], 2) if memory else x for name, x in new.items()}
        seen = call("encode", image=image)
        read = call("read", key=seen["key"], selection=seen["selection"], **memory)
        transformed = call("transform", **seen, **read, masks=masks, sensory=sensory, summaries=summaries)
        found.append((decoded := call("decode", **seen, **transformed, sensory=sensory))["probabilities"])
        sensory, masks = decoded["updated"], found[-1][:, 1:]
    return found


def run_global_context(call: Call, frames: list[Array], masks: Array, network: Any) -> list[Array]:
    """Run GAM or GC: one context matrix per object."""
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


def run_previous_masks(call: Call, frames: list[Array], masks: Array) -> list[Array]:
    """Run CRVOS: the previous masks only."""
    found = []
    for image in frames[1:]:
        found.append(call("decode", masks=masks, **call("encode", image=image))["probabilities"])
        masks = found[-1][:, 1:]
    return found


def run_graphs(name: str, network: Any, call: Call) -> list[Array]:
    frames, masks = video()
    if name in ("gam", "gc"):
        return run_global_context(call, frames, masks, network)
    if name == "crvos":
        return run_previous_masks(call, frames, masks)
    if name == "swiftnet":
        return run_pixel_memory(call, frames, masks, network.memory_every, network.policy.ratio)
    if name == "cutie":
        return run_object_memory(call, frames, masks, network.memory_every, network.sensory_channels)
    if name.startswith("xmem"):
        return run_sensory_memory(call, frames, masks, network.memory_every, network.sensory_channels)
    return run_dense_memory(call, frames, masks, network.memory_every, network.memory_previous)


def run_network(network: Any) -> list[Array]:
    frames, probs = video()
    first = Masks(torch.from_numpy(probs), torch.ones(1, OBJECTS, dtype=torch.bool))
    state = network.begin(Frame(0, torch.from_numpy(frames[0])), first)
    found = []
    for index, image in enumerate(frames[1:], 1):
        logits, state = network.step(Frame(index, torch.from_numpy(image)), state)
        found.append(logits.softmax(1).numpy())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_chained_graphs_equal_the_network_over_a_video(name: str) -> None:
    built, graphs = network(name)
    for found, expected in zip(run_graphs(name, built, eager(graphs)), run_network(built), strict=True):
        assert np.abs(found - expected).max() < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_outputs_have_the_declared_shapes(name: str) -> None:
    built, graphs = network(name)
    for sizes in (onnx.TRACE_SIZES, {"rows": 3, "columns": 5, "objects": 1, "memory": 45, "cells": 15}):
        for graph in graphs:
            outputs = GraphModule(built, graph.function)(
                *map(torch.from_numpy, onnx.random_inputs(graph, sizes).values())
            )
            assert [tuple(output.shape) for output in outputs] == [onnx.sized(x, sizes) for x in graph.outputs.values()]


def exported(run: Run, name: str, folder: Path, *more: str) -> Any:
    """Run the program on random weights and return the network."""
    built, _ = network(name)
    torch.save({"state_dict": built.state_dict()}, folder / "weights.pth")
    arguments = [f"model.network.{key}={value}" for key, value in SMALL[name].items()]
    given = (f"model={METHODS.get(name, name)}", *arguments, f"weights={folder}/weights.pth", f"output={folder}/out")
    assert not run("export", *given, "size=[48,80]", "objects=1", "repeats=1", *more)
    return built


def check(name: str, built: Any, folder: Path) -> None:
    """Compare the exported graphs with the network, at a size and number of objects that the export did not check."""
    for found, expected in zip(run_graphs(name, built, sessions(folder)), run_network(built), strict=True):
        assert np.abs(found - expected).max() < 1e-4
        # An untrained network has ties: compare labels only where the two largest probabilities differ.
        top = np.sort(expected, 1)
        sure = top[:, -1] - top[:, -2] > 1e-3
        assert np.array_equal(found.argmax(1)[sure], expected.argmax(1)[sure])


@pytest.mark.slow
def test_output_holds_a_checkpoint_a_manifest_and_sufficient_graphs(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    built, out = exported(run, "stcn", tmp_path), tmp_path / "out"
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["method"], manifest["frame"]["stride"], manifest["engine"]["size"]) == ("stcn", 16, 480)
    assert (manifest["network"]["memory_every"], manifest["network"]["memory_previous"]) == (2, False)
    assert manifest["frame"]["example"]["pads"] == {"left": 0, "right": 0, "top": 0, "bottom": 0}
    assert (ROOT / manifest["documentation"]).is_file()
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
def test_graphs_of_every_method_are_sufficient(run: Run, tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    check(name, exported(run, name, tmp_path), tmp_path / "out")


@pytest.mark.slow
def test_sizes_can_be_fixed(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    exported(run, "crvos", tmp_path, "dynamic_axes=false")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["graphs"][1]["inputs"][0]["shape"] == [1, 1, 48, 80]
    assert manifest["sizes"]["cells"] == manifest["sizes"]["rows"] * manifest["sizes"]["columns"]
    with pytest.raises(Exception, match="Got invalid dimensions"):
        sessions(tmp_path / "out")("encode", image=np.zeros((1, 3, 64, 80), np.float32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=copy_first", "weights={file}"], "model 'copy_first' has no graphs to export"),
        (["model=covos", "model/base=copy_first", "weights={file}"], "export its base 'copy_first' instead"),
        (["model=stcn"], "random weights cannot be exported"),
        (["checkpoint={file}", "objects=0"], "objects=0: must be at least 1"),
        (["checkpoint={file}", "size=[64]"], "size=[64]: must be a height and a width"),
        (["checkpoint={file}", "size=[64,wide]"], "size=[64, 'wide']: must be"),
        (["checkpoint={file}", "threads=0"], "threads=0: must be a whole number"),
        (["checkpoint={file}", "dynamic_axes=maybe"], "dynamic_axes=maybe: must be true or false"),
        (["checkpoint={file}", "int8=clip.mp4"], "int8=VIDEO goes with int8_mask=MASK"),
        (
            ["checkpoint={file}", "int8=a", "int8_mask=b", "dynamic_axes=false"],
            "int8=VIDEO goes with dynamic_axes=true",
        ),
        (["checkpoint={file}"], "weights.safetensors: no such weights file"),
    ],
)
def test_invalid_requests_give_one_line(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    file = tmp_path / "weights.safetensors"
    if arguments[0].startswith("model=co"):
        torch.save({"state_dict": {}}, file.with_suffix(".pth"))
        file = file.with_suffix(".pth")
    line = run("export", *(part.format(file=file) for part in arguments), f"output={tmp_path}/out")
    assert message in line
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_missing_packages_are_reported_by_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxruntime" else name)
    line = run("export", f"checkpoint={ROOT}/weights/equal_crvos.safetensors", f"output={tmp_path}")
    assert line == "export needs onnxruntime: pip install .[export]"
