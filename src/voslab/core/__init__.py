"""What every room shares: frames, masks, state, the Segmenter contract, ids, errors, keyed randomness, files."""

from voslab.core.errors import CheckpointError, ConfigError, DataError, ExportError, VideoError, VOSError, WriteError
from voslab.core.files import atomic_path, atomic_write, claimed, write_csv
from voslab.core.objects import ObjectTable
from voslab.core.rng import generator
from voslab.core.segmenter import Compared, Keys, LowLevel, Matching, Projection, Referring, Segmenter
from voslab.core.state import State, state
from voslab.core.types import VOID, Clip, Coded, Frame, Masks, Picture

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
