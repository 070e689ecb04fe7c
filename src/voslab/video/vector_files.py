"""Reads and writes motion vectors as npz files, so that decoders outside of this project can provide them.

A file holds the vectors of one video, in arrays of these names:

* `order`: N, integer: the frames in decoding order, by presentation index from 0.
* `types`: N, `I`, `P` or `B`, by presentation index.
* `motion_I`, for each frame I that is predicted: 4 h w on any regular grid over the frame, in quarter pixels of it,
  integer or float: (x, y) to the reference in the past, then (x, y) to that in the future. The reference of a cell lies
  at the cell's own position plus its motion.
* `references_I`: 2 h w, integer: presentation indices of both references; -1 where there is none.
* `residual_I`, optional: h w: luma minus its prediction, float, where 1 is white.

Frames without `motion_I` are key frames.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voslab.core import CodecData, RawFrame, VideoError, atomic_path

QUARTERS = 4
"""Units of motion per pixel."""
_LARGEST = 2**28
"""Bytes of an array; larger ones are refused before memory is allocated."""


def write_vectors(path: Path | str, frames: Iterable[RawFrame]) -> None:
    """Write the codec data of a video, atomically.

    Args:
        path: the npz file.
        frames: frames in decoding order, with codec data of batch size 1.

    Raises:
        VideoError: if a frame has no codec data.
        WriteError: if the file cannot be written.
    """
    order: list[int] = []
    types: dict[int, str] = {}
    with atomic_path(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for frame in frames:
            codec = frame.codec
            if codec is None:
                raise VideoError(f"{path}: frame {frame.index} has no codec data to write")
            order.append(frame.index)
            types[frame.index] = codec.type
            if codec.type != "I" and codec.motion is not None and codec.references is not None:
                _write(archive, f"motion_{frame.index}", _quarters(codec.motion[0].numpy()))
                _write(archive, f"references_{frame.index}", codec.references[0].numpy())
                if codec.residual is not None:
                    _write(archive, f"residual_{frame.index}", codec.residual[0, 0].numpy())
        _write(archive, "order", np.array(order, np.int64))
        _write(archive, "types", np.array([types[index] for index in sorted(types)], "<U1"))


def vector_frames(path: Path | str, images: Iterable[RawFrame]) -> Iterator[RawFrame]:
    """Yield the frames of a video in decoding order, with codec data from a file that `write_vectors` or a tool wrote.

    Args:
        path: the npz file.
        images: frames in presentation order; their own codec data are ignored.

    Yields:
        frames with fields of batch size 1.

    Raises:
        VideoError: if the file is damaged, has another layout, or belongs to a video of another length.
    """
    with _VectorFile(Path(path)) as vectors:
        last_use = vectors.last_use()
        waiting: dict[int, RawFrame] = {}
        source = iter(images)
        seen: set[int] = set()
        for place, index in enumerate(vectors.order):
            while index not in waiting:
                frame = next(source, None)
                if frame is None:
                    raise VideoError(f"{path}: has {len(vectors.order)} frames, the video ends before frame {index}")
                waiting[frame.index] = frame
            frame = waiting.pop(index)
            seen.add(index)
            seen = {one for one in seen if last_use.get(one, -1) > place}
            yield RawFrame(index, frame.image, vectors.codec(index, frozenset(seen)), frame.time)
        if waiting or next(source, None) is not None:
            raise VideoError(f"{path}: has {len(vectors.order)} frames, the video has more")


@dataclass
class _VectorFile:
    """An opened file of vectors.

    Attributes:
        path: the file.
    """

    path: Path

    def __enter__(self) -> _VectorFile:
        try:
            self._archive = zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise VideoError(f"{self.path}: cannot be read as npz ({error})") from error
        self._names = set(self._archive.namelist())
        order, types = self._read("order", 1), self._read("types", 1)
        self.order = [int(index) for index in order]
        self.types = [str(one) for one in types]
        if sorted(self.order) != list(range(len(self.order))) or len(self.types) != len(self.order):
            raise self._fault("order and types must name each frame from 0 once")
        if wrong := sorted(set(self.types) - {"I", "P", "B"}):
            raise self._fault(f"types holds '{wrong[0]}', not only I, P and B")
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def last_use(self) -> dict[int, int]:
        """Return the last place in decoding order that refers to each frame, and find the grid of the first motion.

        Raises:
            VideoError: if a frame refers to one that is decoded later.
        """
        found: dict[int, int] = {}
        decoded: set[int] = set()
        self.grid: tuple[int, int] | None = None
        for place, index in enumerate(self.order):
            references = self._references(index) if self._has(index) else None
            if references is not None and self.grid is None:
                self.grid = (references.shape[1], references.shape[2])
            for one in np.unique(references).tolist() if references is not None else ():
                if one >= 0 and one not in decoded:
                    raise self._fault(f"frame {index} refers to frame {one}, which is not decoded before it")
                found[one] = place
            decoded.add(index)
        return found

    def codec(self, index: int, live_refs: frozenset[int]) -> CodecData:
        """Return the codec data of a frame."""
        if not self._has(index):
            nothing = None if self.grid is None else torch.zeros(1, 4, *self.grid)
            nowhere = None if self.grid is None else torch.full((1, 2, *self.grid), -1, dtype=torch.int32)
            return CodecData(self.types[index], nothing, nowhere, None, live_refs, key=True)
        motion, references = self._read(f"motion_{index}", 3), self._references(index)
        if motion.shape[0] != 4 or references.shape != (2, *motion.shape[1:]):
            shapes = f"motion of shape {motion.shape} and references of shape {references.shape}"
            raise self._fault(f"frame {index} has {shapes}, not 4 h w and 2 h w")
        name = f"residual_{index}"
        residual = _tensor(self._read(name, 2), torch.float32)[None] if f"{name}.npy" in self._names else None
        pixels = _tensor(motion, torch.float32) / QUARTERS
        return CodecData(self.types[index], pixels, _tensor(references, torch.int32), residual, live_refs)

    def _has(self, index: int) -> bool:
        return f"motion_{index}.npy" in self._names

    def _references(self, index: int) -> NDArray[Any]:
        references = self._read(f"references_{index}", 3)
        if references.dtype.kind not in "iu":
            raise self._fault(f"references_{index} holds {references.dtype}, not integers")
        return references

    def _read(self, name: str, dimensions: int) -> NDArray[Any]:
        try:
            if self._archive.getinfo(f"{name}.npy").file_size > _LARGEST:
                raise self._fault(f"{name} is larger than {_LARGEST >> 20} MiB")
            with self._archive.open(f"{name}.npy") as file:
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._fault(f"{name} is missing or damaged ({error})") from error
        if array.ndim != dimensions:
            raise self._fault(f"{name} has {array.ndim} dimensions, not {dimensions}")
        return array

    def _fault(self, reason: str) -> VideoError:
        return VideoError(f"{self.path}: {reason}; see voslab.video.vector_files for the layout")


def _write(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _quarters(motion: NDArray[np.float32]) -> NDArray[Any]:
    """Return motion in quarter pixels, as integers if that is exact."""
    quarters = motion * np.float32(QUARTERS)
    whole = quarters.astype(np.int16)
    return whole if np.array_equal(whole, quarters) else quarters


def _tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)[None]
