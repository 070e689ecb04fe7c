"""Draws training samples for the decoder: random crops of cached B-frames, with objects in random slots.

Shapes: B samples, O objects, C channels, H W pixels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from voslab.core import VOID, ConfigError, generator
from voslab.core.parameters import Side
from voslab.methods.covos.cache.files import CELL, CachedBFrame, frame_path, read_cached


class Video(NamedTuple):
    """A complete cache folder and its frames, at least one."""

    folder: Path
    frames: tuple[int, ...]


@dataclass(frozen=True)
class CachedBFrameBatch:
    """A training batch: the fields of `CachedBFrame` with a batch dimension, and the slots in use, B O, bool."""

    features: Tensor
    warped: Tensor | None
    probs: Tensor
    corrected: Tensor
    labels: Tensor
    slot_mask: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> CachedBFrameBatch:
        """Move all tensors."""
        warped = None if self.warped is None else self.warped.to(device)
        others = (self.probs.to(device), self.corrected.to(device), self.labels.to(device), self.slot_mask.to(device))
        return CachedBFrameBatch(self.features.to(device), warped, *others, self.names)


@dataclass(frozen=True)
class CropSettings:
    """How samples are drawn.

    Attributes:
        size: H W of a crop in pixels, multiples of 4; smaller frames are padded with void.
        max_objects: number of slots. Objects get random slots; objects beyond that number become background.
        cut: probability that an object is cut in two by a line, so that videos with one object yield samples with two.
    """

    size: tuple[Side, Side] = (384, 384)
    max_objects: int = 10
    cut: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size) < CELL or any(n % CELL for n in self.size) or not 1 <= self.max_objects < VOID:
            raise ConfigError(
                f"crop: size={self.size} must be multiples of {CELL},"
                f" max_objects={self.max_objects} from 1 to {VOID - 1}"
            )
        if not 0 <= self.cut <= 1:
            raise ConfigError(f"crop: cut={self.cut} must be from 0 to 1")


class CachedBFrameItem(NamedTuple):
    """One sample: a cropped B-frame, its slots in use (O, bool), and its video and frame."""

    b_frame: CachedBFrame
    slot_mask: Tensor
    name: str


@dataclass(frozen=True)
class CachedBFrameCrops(Dataset[CachedBFrameItem]):
    """Random crops of random B-frames of random videos, addressed by (epoch, index) like `ClipDataset`.

    Crops are not mirrored: features of a mirrored image are not the mirrored features.

    Attributes:
        videos: videos to draw from.
        settings: how samples are drawn.
        seed: seed of all draws.
        count: samples per epoch; None for the number of frames.
    """

    videos: tuple[Video, ...]
    settings: CropSettings
    seed: int = 0
    count: int | None = None

    def __len__(self) -> int:
        return self.count or sum(len(video.frames) for video in self.videos)

    def __getitem__(self, address: tuple[int, int]) -> CachedBFrameItem:
        """Draw a sample by (epoch, index).

        Raises:
            DataError: a file is missing or damaged.
        """
        rng = generator(self.seed, *address)
        folder, frames = self.videos[int(rng.integers(len(self.videos)))]
        index = frames[int(rng.integers(len(frames)))]
        b_frame = read_cached(frame_path(folder, index), self.settings.size, rng)
        if self.settings.cut and rng.random() < self.settings.cut:
            b_frame = _cut(b_frame, rng)
        b_frame, slot_mask = _in_slots(b_frame, self.settings.max_objects, rng)
        return CachedBFrameItem(_padded(b_frame, self.settings.size), slot_mask, f"{folder.name} {index}")


def collate_cached(items: Sequence[CachedBFrameItem]) -> CachedBFrameBatch:
    """Stack samples into a batch."""
    b_frames = [item.b_frame for item in items]
    warped = [b_frame.warped for b_frame in b_frames if b_frame.warped is not None]
    return CachedBFrameBatch(
        features=torch.stack([b_frame.features for b_frame in b_frames]),
        warped=torch.stack(warped) if warped else None,
        probs=torch.stack([b_frame.probs for b_frame in b_frames]),
        corrected=torch.stack([b_frame.corrected for b_frame in b_frames]),
        labels=torch.stack([b_frame.labels for b_frame in b_frames]).long(),
        slot_mask=torch.stack([item.slot_mask for item in items]),
        names=tuple(item.name for item in items),
    )


def _cut(b_frame: CachedBFrame, rng: np.random.Generator) -> CachedBFrame:
    """Cut an object along a random line through one of its cells; one part becomes a new object."""
    inside = np.argwhere(b_frame.probs.amax(0).numpy() > 0.5)
    if not len(inside):
        return b_frame
    y, x = inside[int(rng.integers(len(inside)))]
    chosen, angle = int(b_frame.probs[:, y, x].argmax()), float(rng.uniform(0, 2 * np.pi))
    height, width = b_frame.labels.shape
    # In pixels, from the centre of the cell.
    rows, columns = torch.arange(height) - CELL * (y + 0.5), torch.arange(width) - CELL * (x + 0.5)
    beyond = rows[:, None] * np.cos(angle) + columns * np.sin(angle) > 0
    coarse = beyond[CELL // 2 :: CELL, CELL // 2 :: CELL]
    probs, corrected = (
        torch.cat([_without(x, chosen, coarse), (x[chosen] * coarse)[None]]) for x in (b_frame.probs, b_frame.corrected)
    )
    labels = b_frame.labels.clone()
    labels[(labels == chosen + 1) & beyond] = len(probs)
    return b_frame._replace(probs=probs, corrected=corrected, labels=labels)


def _without(probs: Tensor, chosen: int, where: Tensor) -> Tensor:
    """Set the probs of object `chosen` to zero at `where`."""
    probs = probs.clone()
    probs[chosen] *= ~where
    return probs


def _in_slots(b_frame: CachedBFrame, slots: int, rng: np.random.Generator) -> tuple[CachedBFrame, Tensor]:
    """Put the visible objects, at most one per slot, into random slots; return them and the slots in use."""
    present = (b_frame.probs.flatten(1) > 0).any(1).numpy() | (b_frame.corrected.flatten(1) > 0).any(1).numpy()
    present[[int(i) - 1 for i in np.unique(b_frame.labels.numpy()) if 0 < i <= len(present)]] = True
    found: NDArray[np.int64] = np.flatnonzero(present) if present.any() else np.arange(len(present))
    chosen = rng.permutation(found)[:slots]
    places = rng.permutation(slots)[: len(chosen)]
    table = np.zeros(VOID + 1, np.uint8)
    table[chosen + 1], table[VOID] = places + 1, VOID
    probs, corrected = (x.new_zeros(slots, *x.shape[1:]) for x in (b_frame.probs, b_frame.corrected))
    probs[places], corrected[places] = b_frame.probs[chosen], b_frame.corrected[chosen]
    slot_mask = torch.zeros(slots, dtype=torch.bool)
    slot_mask[places] = True
    labels = torch.from_numpy(table[b_frame.labels.numpy()])
    return b_frame._replace(probs=probs, corrected=corrected, labels=labels), slot_mask


def _padded(b_frame: CachedBFrame, size: tuple[int, int]) -> CachedBFrame:
    height, width = b_frame.labels.shape
    if (height, width) == tuple(size):
        return b_frame
    pad_objects = (0, size[1] - width, 0, size[0] - height)
    narrow = tuple(n // CELL for n in pad_objects)
    features, probs, corrected = (F.pad(x, narrow) for x in (b_frame.features, b_frame.probs, b_frame.corrected))
    warped = None if b_frame.warped is None else F.pad(b_frame.warped, narrow)
    return CachedBFrame(features, warped, probs, corrected, F.pad(b_frame.labels, pad_objects, value=VOID))
