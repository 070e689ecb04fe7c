"""Types and helpers that every package uses: frames, masks, states, the `Segmenter` contract, errors, files."""

from typing import TYPE_CHECKING

from voslab.lazy import lazy_exports

if TYPE_CHECKING:
    from voslab.core.errors import CheckpointError as CheckpointError
    from voslab.core.errors import ConfigError as ConfigError
    from voslab.core.errors import DataError as DataError
    from voslab.core.errors import ExportError as ExportError
    from voslab.core.errors import MissingDataSetError as MissingDataSetError
    from voslab.core.errors import VideoError as VideoError
    from voslab.core.errors import VOSError as VOSError
    from voslab.core.errors import WriteError as WriteError
    from voslab.core.files import atomic_folder as atomic_folder
    from voslab.core.files import atomic_path as atomic_path
    from voslab.core.files import atomic_write as atomic_write
    from voslab.core.files import cache_key as cache_key
    from voslab.core.files import claimed as claimed
    from voslab.core.files import write_csv as write_csv
    from voslab.core.objects import ObjectTable as ObjectTable
    from voslab.core.objects import object_ids as object_ids
    from voslab.core.rng import generator as generator
    from voslab.core.segmenter import HoldsFeatures as HoldsFeatures
    from voslab.core.segmenter import KeyInputs as KeyInputs
    from voslab.core.segmenter import KeyMatching as KeyMatching
    from voslab.core.segmenter import Keys as Keys
    from voslab.core.segmenter import LowLevel as LowLevel
    from voslab.core.segmenter import Projection as Projection
    from voslab.core.segmenter import ReferenceBuffered as ReferenceBuffered
    from voslab.core.segmenter import Segmenter as Segmenter
    from voslab.core.state import State as State
    from voslab.core.state import state_dataclass as state_dataclass
    from voslab.core.types import VOID as VOID
    from voslab.core.types import Clip as Clip
    from voslab.core.types import CodecData as CodecData
    from voslab.core.types import Frame as Frame
    from voslab.core.types import Masks as Masks
    from voslab.core.types import RawFrame as RawFrame

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "errors": [
            "CheckpointError",
            "ConfigError",
            "DataError",
            "ExportError",
            "MissingDataSetError",
            "VideoError",
            "VOSError",
            "WriteError",
        ],
        "files": ["atomic_folder", "atomic_path", "atomic_write", "cache_key", "claimed", "write_csv"],
        "objects": ["ObjectTable", "object_ids"],
        "rng": ["generator"],
        "segmenter": [
            "HoldsFeatures",
            "KeyInputs",
            "KeyMatching",
            "Keys",
            "LowLevel",
            "Projection",
            "ReferenceBuffered",
            "Segmenter",
        ],
        "state": ["State", "state_dataclass"],
        "types": ["VOID", "Clip", "CodecData", "Frame", "Masks", "RawFrame"],
    },
)
