"""Names the parts of a method, so that listing the methods imports neither networks nor Lightning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from voslab.core.export_graph import ExportGraph

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass(frozen=True, slots=True)
class Method:
    """Paths `module:attribute` of the parts of a method.

    Attributes:
        network_path: class of the `Segmenter`, built from plain parameters.
        module_path: class of the LightningModule; None for methods without training.
        convert_path: function that translates a published state dict to the keys of this project. It returns None for
            the keys of another method.
        encoder_path: function that extracts the encoder from a state dict of the method, of its base, or published;
            it returns None if there is no encoder. For methods whose encoder is part of a larger one.
        graphs_path: function from a network to its `ExportGraph`s, which run outside Python; None for methods that have
            none of their own.
    """

    network_path: str
    module_path: str | None = None
    convert_path: str | None = None
    encoder_path: str | None = None
    graphs_path: str | None = None

    def network(self) -> Callable[..., Any]:
        """Import the class of the network."""
        found: Callable[..., Any] = _resolve(self.network_path)
        return found

    def module(self) -> Callable[..., Any] | None:
        """Import the class of the LightningModule."""
        return _resolve(self.module_path) if self.module_path else None

    def convert(self) -> Convert | None:
        """Import the converter of published weights."""
        return _resolve(self.convert_path) if self.convert_path else None

    def convert_encoder(self) -> Convert | None:
        """Import the converter of encoder weights."""
        return _resolve(self.encoder_path) if self.encoder_path else None

    def graphs(self) -> Callable[[Any], tuple[ExportGraph, ...]] | None:
        """Import the function that returns the graphs of a network."""
        return _resolve(self.graphs_path) if self.graphs_path else None


def _resolve(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
