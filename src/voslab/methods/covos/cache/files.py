"""What a codec's motion carried to B-frames, as files: computed once by a frozen base, read by who trains a decoder.

A file holds one B-frame, in half precision and cell by cell, so that a crop reads only its own rows. `index.json`
beside them names the frames, and is written last: a folder without it is not finished.

Shapes: O objects, C channels, H W pixels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence as ListOf
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voslab.core import VOID, DataError, atomic_path, atomic_write

CELL = 4
"""Pixels to a cell."""
INDEX = "index.json"


class CachedBFrame(NamedTuple):
    """One B-frame, float16 but for the labels.

    Attributes:
        features: V, its own, C h w.
        carried: V̂, carried to it, C h w; None where nothing compares them.
        probs: P̂, carried masks, O h w.
        corrected: P̄, the same with patches where the residual is large, O h w.
        labels: 4h 4w, uint8: 0 background, 1..O objects, `VOID`.
    """

    features: Tensor
    carried: Tensor | None
    probs: Tensor
    corrected: Tensor
    labels: Tensor


def write_cached(path: Path, picture: CachedBFrame) -> None:
    """Write one B-frame atomically.

    Raises:
        DataError: a feature that half precision does not hold.
        WriteError: the file cannot be written.
    """
    tensors = {"masks": torch.stack([picture.probs, picture.corrected]), "features": picture.features.permute(1, 2, 0)}
    if picture.carried is not None:
        tensors["carried"] = picture.carried.permute(1, 2, 0)
    tensors = {key: tensor.detach().cpu().half().contiguous() for key, tensor in tensors.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise DataError(f"{path}: features beyond half precision")
    with atomic_path(path) as file:
        save_file({**tensors, "labels": picture.labels.cpu().contiguous()}, file)


def mark_complete(folder: Path, frames: ListOf[int]) -> None:
    """Say that a video's folder is complete, and which frames it has. Raises `WriteError`."""
    atomic_write(folder / INDEX, json.dumps(sorted(frames)))


def cached_frames(folder: Path) -> tuple[int, ...] | None:
    """Frames of a video's folder; None where it is not finished. Raises `DataError` for a damaged index."""
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        return tuple(int(index) for index in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete its folder") from error


def frame_path(folder: Path, index: int) -> Path:
    """The file of a frame."""
    return folder / f"{index:05}.safetensors"


def read_cached(
    path: Path, size: tuple[int, int] | None = None, rng: np.random.Generator | None = None
) -> CachedBFrame:
    """Read a B-frame, or a crop of it that shows part of an object, where there is one.

    Args:
        path: what `write_carried` wrote.
        size: H W of the crop in pixels; None: everything.
        rng: decides where.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            masks, labels = file.get_tensor("masks"), file.get_tensor("labels")
            rows, columns = (slice(0, n) for n in masks.shape[-2:])
            if size is not None:
                assert rng is not None, "a crop is drawn"
                rows, columns = _place(masks, labels, (size[0] // CELL, size[1] // CELL), rng)
            features = file.get_slice("features")[rows, columns]
            carried = file.get_slice("carried")[rows, columns] if "carried" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete its folder") from error
    probs, corrected = masks[..., rows, :][..., columns]
    labels = labels[_pixels(rows), _pixels(columns)].clone()
    front = None if carried is None else carried.permute(2, 0, 1)
    return CachedBFrame(features.permute(2, 0, 1), front, probs, corrected, labels)


def _place(masks: Tensor, labels: Tensor, size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of cells, with a random cell of an object inside."""
    grid = masks.shape[-2:]
    blocks = ((labels > 0) & (labels != VOID)).view(grid[0], CELL, grid[1], CELL)
    shown = blocks.any(3).any(1)
    cells = (shown | (masks > 0).flatten(0, 1).any(0)).nonzero()
    at = cells[int(rng.integers(len(cells)))].tolist() if len(cells) else [int(rng.integers(n)) for n in grid]
    starts = []
    for cell, length, whole in zip(at, size, grid, strict=True):
        least, most = max(0, cell - length + 1), min(cell, max(0, whole - length))
        starts.append(int(rng.integers(min(least, most), most + 1)))
    return slice(starts[0], starts[0] + size[0]), slice(starts[1], starts[1] + size[1])


def _pixels(cells: slice) -> slice:
    return slice(CELL * cells.start, CELL * cells.stop)
