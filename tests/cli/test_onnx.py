from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voslab.cli.onnx import TRACE_SIZES, compare, described, difference, write_graph
from voslab.core import ExportError
from voslab.core.export_graph import OBJECTS, Axis, ExportGraph

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SHAPE = (1, OBJECTS, Axis("rows", 2))


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def graph(self, name: str = "scale") -> ExportGraph:
        return ExportGraph(name, lambda x: x * self.by, {"x": SHAPE}, {"y": SHAPE})


def test_different_results_in_onnxruntime_are_an_error(tmp_path: Path) -> None:
    network, path = Scale(2.0), tmp_path / "scale.onnx"
    assert write_graph(network, network.graph(), path, None) >= 18
    parity = compare(network, network.graph(), path, {**TRACE_SIZES, "objects": 3, "rows": 7}, 1, 1)
    assert parity.absolute == {"y": 0.0}
    assert min(parity.onnx_seconds, parity.torch_seconds) > 0
    other = Scale(2.001)
    with pytest.raises(ExportError, match="graph 'scale': 'y' of onnxruntime differs from PyTorch's by"):
        compare(other, other.graph(), path, TRACE_SIZES, 1, 1)
    path.write_bytes(b"no graph")
    with pytest.raises(ExportError, match="graph 'scale' does not run in onnxruntime"):
        compare(network, network.graph(), path, TRACE_SIZES, 1, 1)


def test_a_graph_that_depends_on_its_size_cannot_have_dynamic_axes(tmp_path: Path) -> None:
    def halves(x: Tensor) -> Tensor:
        return x[:, : x.shape[1] // 2] if int(x.shape[1]) == 2 else x

    network = Scale(1.0)
    graph = ExportGraph("halves", halves, {"x": SHAPE}, {"y": SHAPE})
    with pytest.raises(ExportError, match="graph 'halves'"):
        write_graph(network, graph, tmp_path / "halves.onnx", None)


def test_differences_of_nan_and_of_other_shapes_exceed_every_tolerance() -> None:
    expected = torch.tensor([1.0, -4.0])
    assert difference(np.array([1.0, -3.0], np.float32), expected) == (1.0, 0.25)
    assert difference(np.zeros(3, np.float32), expected) == (float("inf"), float("inf"))
    assert not difference(np.array([np.nan, 1], np.float32), expected)[1] <= 1


def test_shapes_are_described_by_formula_or_number() -> None:
    shape = (1, Axis("objects", 1, 1), Axis("rows", 16), Axis("memory"))
    assert described(shape, None) == [1, "objects+1", "16*rows", "memory"]
    assert described(shape, TRACE_SIZES) == [1, 3, 64, 48]
