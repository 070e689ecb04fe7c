"""Describes what a checkpoint holds: the method, its parameters, the engine settings and the cost of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voslab.core.errors import CheckpointError
from voslab.core.parameters import fits

METADATA_KEY = "vos"
"""Key of the metadata in a checkpoint, and in the header of a safetensors file (as JSON)."""
FORMAT = 1
_DEEPEST = 20
"""Levels of nested metadata."""
RENAMED_PARAMETERS: dict[str, dict[str, str]] = {"covos": {"hard": "hard_labels", "clip": "clamp"}}
"""Network parameters in older files, and their names today, by method."""
RENAMED_CODEC_OPTIONS = {"fill": "intra_fill"}
"""The same for the fields of `codec`."""


@dataclass(frozen=True, slots=True)
class CheckpointMetadata:
    """What rebuilds and runs the network of a checkpoint, in plain types.

    Args:
        method: Registry name of the method.
        network: Parameters of the network. The `base` of a wrapper is a dict of `name` and `network`.
        engine: Fields of `voslab.engine.Settings`.
        training: Cost of the training, as `steps` and `minutes`; empty if unknown.
        codec: Fields of `voslab.engine.codec_source.CodecSource` but for its cache; None if the method reads none.

    Example:
        >>> from voslab.core.checkpoint import CheckpointMetadata
        >>> metadata = CheckpointMetadata("copy_first", {}, {"size": 480})
        >>> metadata.to_dict()
        {'format': 1, 'engine': {'size': 480}, 'method': 'copy_first', 'network': {}}
        >>> CheckpointMetadata.from_dict(metadata.to_dict(), "last.ckpt") == metadata
        True
    """

    method: str
    network: dict[str, Any]
    engine: dict[str, Any] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    codec: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: Path | str) -> CheckpointMetadata:
        """Validate metadata read from a file, and translate the names of older versions.

        Args:
            values: The output of `to_dict`, or of an older version.
            source: File to name in errors.

        Raises:
            CheckpointError: If a value is missing or has another type.
        """
        if not _is_plain(dict(values), _DEEPEST):
            raise CheckpointError(f"{source}: damaged, its metadata is not made of plain values")
        for key, kind in (("method", str), ("network", dict), ("engine", dict)):
            if not isinstance(values.get(key), kind):
                expected = "name" if kind is str else "set of parameters"
                raise CheckpointError(f"{source}: damaged, its '{key}' is no {expected}")
        training = values.get("training", {})
        if not isinstance(training, dict) or not all(fits(value, float) for value in training.values()):
            raise CheckpointError(f"{source}: damaged, its 'training' is no set of numbers")
        method = values["method"]
        network = _with_new_names(method, values["network"])
        codec = values.get("codec", values.get("coding"))
        if isinstance(codec, dict):
            codec = {RENAMED_CODEC_OPTIONS.get(key, key): value for key, value in codec.items()}
        return cls(method, network, dict(values["engine"]), dict(training), codec)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads; a `training` or `codec` without content is left out."""
        values: dict[str, Any] = {"format": FORMAT, "engine": self.engine}
        if self.training:
            values["training"] = self.training
        values |= {"method": self.method, "network": self.network}
        return values if self.codec is None else {**values, "codec": self.codec}


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value consists of numbers, words, lists and dicts, nested in no more than `depth` levels."""
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(key, str) and _is_plain(one, depth - 1) for key, one in value.items())
    if isinstance(value, list | tuple):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
    return value is None or isinstance(value, bool | int | float | str)


def _with_new_names(method: str, network: dict[str, Any]) -> dict[str, Any]:
    names = RENAMED_PARAMETERS.get(method, {})
    renamed = {names.get(key, key): value for key, value in network.items()}
    base = renamed.get("base")
    if isinstance(base, dict) and isinstance(base.get("network"), dict):
        renamed["base"] = {**base, "network": _with_new_names(str(base.get("name")), base["network"])}
    return renamed
