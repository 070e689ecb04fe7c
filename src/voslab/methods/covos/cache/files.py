"""Reads and writes cached B-frames: propagated masks and features from a frozen base, for the training of a decoder.

A file holds one B-frame, in half precision and cell by cell, so that a crop reads only its own rows. `index.json`
in the same folder lists the frames and is written last: a folder without it is incomplete.

Shapes: O objects, C channels, H W pixels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voslab.core import VOID, DataError, atomic_path, atomic_write

CELL = 4
"""Pixels per cell side."""
INDEX = "index.json"


class CachedBFrame(NamedTuple):
    """One B-frame; all fields but the labels are float16.

    Attributes:
        features: V, features of the frame, C h w.
        warped: V̂, features warped to the frame, C h w; None if unused.
        probs: P̂, propagated masks, O h w.
        corrected: P̄, corrected masks, O h w.
        labels: 4h 4w, uint8: 0 background, 1..O objects, `VOID`.
    """

    features: Tensor
    warped: Tensor | None
    probs: Tensor
    corrected: Tensor
    labels: Tensor


def write_cached(path: Path, b_frame: CachedBFrame) -> None:
    """Write one B-frame atomically.

    Raises:
        DataError: a feature exceeds the range of half precision.
        WriteError: the file cannot be written.
    """
    tensors = {"masks": torch.stack([b_frame.probs, b_frame.corrected]), "features": b_frame.features.permute(1, 2, 0)}
    if b_frame.warped is not None:
        tensors["warped"] = b_frame.warped.permute(1, 2, 0)
    tensors = {key: tensor.detach().cpu().half().contiguous() for key, tensor in tensors.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise DataError(f"{path}: features exceed the range of half precision")
    with atomic_path(path) as file:
        save_file({**tensors, "labels": b_frame.labels.cpu().contiguous()}, file)


def mark_complete(folder: Path, frames: Sequence[int]) -> None:
    """Mark the folder of a video as complete by writing the index of its frames. Raises `WriteError`."""
    atomic_write(folder / INDEX, json.dumps(sorted(frames)))


def cached_frames(folder: Path) -> tuple[int, ...] | None:
    """Return the frames of a video's folder; None if it is incomplete. Raises `DataError` for a damaged index."""
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        return tuple(int(index) for index in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete its folder") from error


def frame_path(folder: Path, index: int) -> Path:
    """Return the path of a frame's file."""
    return folder / f"{index:05}.safetensors"


def read_cached(
    path: Path, size: tuple[int, int] | None = None, rng: np.random.Generator | None = None
) -> CachedBFrame:
    """Read a B-frame, or a random crop that contains part of an object if there is one.

    Args:
        path: file written by `write_cached`.
        size: H W of the crop in pixels; None for the whole frame.
        rng: draws the position of the crop.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            masks, labels = file.get_tensor("masks"), file.get_tensor("labels")
            rows, columns = (slice(0, n) for n in masks.shape[-2:])
            if size is not None:
                assert rng is not None, "a crop needs a generator"
                rows, columns = _crop_position(masks, labels, (size[0] // CELL, size[1] // CELL), rng)
            features = file.get_slice("features")[rows, columns]
            warped = file.get_slice("warped")[rows, columns] if "warped" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete its folder") from error
    probs, corrected = masks[..., rows, :][..., columns]
    labels = labels[_pixels(rows), _pixels(columns)].clone()
    front = None if warped is None else warped.permute(2, 0, 1)
    return CachedBFrame(features.permute(2, 0, 1), front, probs, corrected, labels)


def _crop_position(
    masks: Tensor, labels: Tensor, size: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Draw rows and columns of cells that contain a random cell of an object."""
    grid = masks.shape[-2:]
    blocks = ((labels > 0) & (labels != VOID)).view(grid[0], CELL, grid[1], CELL)
    shown = blocks.any(3).any(1)
    cells = (shown | (masks > 0).flatten(0, 1).any(0)).nonzero()
    at = cells[int(rng.integers(len(cells)))].tolist() if len(cells) else [int(rng.integers(n)) for n in grid]
    starts = []
    for cell, length, extent in zip(at, size, grid, strict=True):
        least, most = max(0, cell - length + 1), min(cell, max(0, extent - length))
        starts.append(int(rng.integers(min(least, most), most + 1)))
    return slice(starts[0], starts[0] + size[0]), slice(starts[1], starts[1] + size[1])


def _pixels(cells: slice) -> slice:
    return slice(CELL * cells.start, CELL * cells.stop)
