"""What every room shares: frames, masks, state, the Segmenter contract, ids, errors, keyed randomness, files."""

from voslab.core.errors import CheckpointError, ConfigError, DataError, ExportError, VideoError, VOSError, WriteError
from voslab.core.files import atomic_path, atomic_write, claimed, write_csv
from voslab.core.objects import ObjectTable
from voslab.core.rng import generator
from voslab.core.segmenter import KeyInputs, KeyMatching, Keys, LowLevel, Projection, ReferenceBuffered, Segmenter
from voslab.core.state import State, state
from voslab.core.types import VOID, Clip, CodecData, Frame, Masks, RawFrame

__all__ = [
    "VOID",
    "CheckpointError",
    "Clip",
    "CodecData",
    "ConfigError",
    "DataError",
    "ExportError",
    "Frame",
    "KeyInputs",
    "KeyMatching",
    "Keys",
    "LowLevel",
    "Masks",
    "ObjectTable",
    "Projection",
    "RawFrame",
    "ReferenceBuffered",
    "Segmenter",
    "State",
    "VOSError",
    "VideoError",
    "WriteError",
    "atomic_path",
    "atomic_write",
    "claimed",
    "generator",
    "state",
    "write_csv",
]
