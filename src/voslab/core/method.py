"""What a method's room offers: named, so that looking at the list imports neither networks nor Lightning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from voslab.core.export_graph import Graphs

Convert = Callable[[dict[str, Tensor]], dict[str, Tensor] | None]


@dataclass(frozen=True, slots=True)
class Method:
    """Dotted `module:attribute` names of a method's parts.

    Attributes:
        network_path: the Segmenter class, an `nn.Module` built from plain parameters.
        module_path: its LightningModule; None for methods that do not learn.
        convert_path: function from a published state dict to ours, or None when the keys are not that method's.
        encoder_path: function from a published state dict, a base's or our own to the encoder's tensors alone, or None
            when it has none; for methods whose encoder is a part of a larger one.
        graphs_path: function from a network to its `Graphs`, the functions that run outside of Python; None for methods
            that have none of their own.
    """

    network_path: str
    module_path: str | None = None
    convert_path: str | None = None
    encoder_path: str | None = None
    graphs_path: str | None = None

    def network(self) -> Callable[..., Any]:
        """The network's class."""
        found: Callable[..., Any] = _resolve(self.network_path)
        return found

    def module(self) -> Callable[..., Any] | None:
        """The LightningModule's class."""
        return _resolve(self.module_path) if self.module_path else None

    def convert(self) -> Convert | None:
        """The converter of published weights."""
        return _resolve(self.convert_path) if self.convert_path else None

    def convert_encoder(self) -> Convert | None:
        """The converter of weights for its encoder."""
        return _resolve(self.encoder_path) if self.encoder_path else None

    def graphs(self) -> Callable[[Any], Graphs] | None:
        """What gives a network's graphs."""
        return _resolve(self.graphs_path) if self.graphs_path else None


def _resolve(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
