"""What every room shares: frames, masks, state, the Segmenter contract, ids, errors, keyed randomness, files."""

from src.core.errors import CheckpointError, ConfigError, DataError, ExportError, VideoError, VOSError, WriteError
from src.core.files import atomic_path, atomic_write, claimed, write_csv
from src.core.objects import ObjectTable
from src.core.random import generator
from src.core.segmenter import Compared, Keys, LowLevel, Matching, Projection, Referring, Segmenter
from src.core.state import State, state
from src.core.types import VOID, Clip, Coded, Frame, Masks, Picture

__all__ = [
    "VOID",
    "CheckpointError",
    "Clip",
    "Coded",
    "Compared",
    "ConfigError",
    "DataError",
    "ExportError",
    "Frame",
    "Keys",
    "LowLevel",
    "Masks",
    "Matching",
    "ObjectTable",
    "Picture",
    "Projection",
    "Referring",
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
