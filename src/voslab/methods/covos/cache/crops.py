"""Training samples for a decoder of carried masks: random crops of what lies in files, their objects in slots.

Shapes: B samples, O objects, C channels, H W pixels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from collections.abc import Sequence as ListOf
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
from voslab.methods.covos.cache.files import CELL, CachedBFrame, frame_path, read_cached


class Video(NamedTuple):
    """A finished folder and its frames, one at least."""

    folder: Path
    frames: tuple[int, ...]


@dataclass(frozen=True)
class CachedBFrameBatch:
    """A training batch: like `CarriedPicture`, a B in front, and which slots are in use: `slot_mask`, B O, bool."""

    features: Tensor
    carried: Tensor | None
    probs: Tensor
    corrected: Tensor
    labels: Tensor
    slot_mask: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> CachedBFrameBatch:
        """Move all tensors."""
        carried = None if self.carried is None else self.carried.to(device)
        others = (self.probs.to(device), self.corrected.to(device), self.labels.to(device), self.slot_mask.to(device))
        return CachedBFrameBatch(self.features.to(device), carried, *others, self.names)


@dataclass(frozen=True)
class CropSettings:
    """How samples are drawn.

    Attributes:
        size: H W of a crop in pixels, multiples of 4; smaller frames are padded with void.
        max_objects: slots. So many objects at most, in random slots; the others are background.
        cut: probability that an object is cut in two by a line, so that data with one object a video shows several.
    """

    size: tuple[int, int] = (384, 384)
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
    """One sample: a cropped picture with its slots, valid O bool, and where it came from."""

    picture: CachedBFrame
    slot_mask: Tensor
    name: str


@dataclass(frozen=True)
class CachedBFrameCrops(Dataset[CachedBFrameItem]):
    """Random crops of random B-frames of random videos, addressed by (epoch, index) like `ClipDataset`.

    They are not mirrored: features of a mirrored picture are not the mirrored features.

    Attributes:
        videos: to draw from.
        settings: how samples are drawn.
        seed: of all draws.
        count: samples in an epoch; None: as many as there are frames.
    """

    videos: tuple[Video, ...]
    settings: CropSettings
    seed: int = 0
    count: int | None = None

    def __len__(self) -> int:
        return self.count or sum(len(video.frames) for video in self.videos)

    def __getitem__(self, address: tuple[int, int]) -> CachedBFrameItem:
        """Draw one. Raises `DataError` for a file that is missing or damaged."""
        rng = generator(self.seed, *address)
        folder, frames = self.videos[int(rng.integers(len(self.videos)))]
        index = frames[int(rng.integers(len(frames)))]
        picture = read_cached(frame_path(folder, index), self.settings.size, rng)
        if self.settings.cut and rng.random() < self.settings.cut:
            picture = _cut(picture, rng)
        picture, slot_mask = _in_slots(picture, self.settings.max_objects, rng)
        return CachedBFrameItem(_padded(picture, self.settings.size), slot_mask, f"{folder.name} {index}")


def collate_cached(items: ListOf[CachedBFrameItem]) -> CachedBFrameBatch:
    """Stack samples."""
    pictures = [item.picture for item in items]
    carried = [picture.carried for picture in pictures if picture.carried is not None]
    return CachedBFrameBatch(
        features=torch.stack([picture.features for picture in pictures]),
        carried=torch.stack(carried) if carried else None,
        probs=torch.stack([picture.probs for picture in pictures]),
        corrected=torch.stack([picture.corrected for picture in pictures]),
        labels=torch.stack([picture.labels for picture in pictures]).long(),
        slot_mask=torch.stack([item.slot_mask for item in items]),
        names=tuple(item.name for item in items),
    )


def _cut(picture: CachedBFrame, rng: np.random.Generator) -> CachedBFrame:
    """An object's part on one side of a line through one of its cells becomes another object."""
    inside = np.argwhere(picture.probs.amax(0).numpy() > 0.5)
    if not len(inside):
        return picture
    y, x = inside[int(rng.integers(len(inside)))]
    chosen, angle = int(picture.probs[:, y, x].argmax()), float(rng.uniform(0, 2 * np.pi))
    height, width = picture.labels.shape
    # In pixels; a cell is where its centre is.
    rows, columns = torch.arange(height) - CELL * (y + 0.5), torch.arange(width) - CELL * (x + 0.5)
    beyond = rows[:, None] * np.cos(angle) + columns * np.sin(angle) > 0
    coarse = beyond[CELL // 2 :: CELL, CELL // 2 :: CELL]
    probs, corrected = (
        torch.cat([_without(x, chosen, coarse), (x[chosen] * coarse)[None]]) for x in (picture.probs, picture.corrected)
    )
    labels = picture.labels.clone()
    labels[(labels == chosen + 1) & beyond] = len(probs)
    return picture._replace(probs=probs, corrected=corrected, labels=labels)


def _without(probs: Tensor, chosen: int, where: Tensor) -> Tensor:
    """One of the probs is zero there."""
    probs = probs.clone()
    probs[chosen] *= ~where
    return probs


def _in_slots(picture: CachedBFrame, slots: int, rng: np.random.Generator) -> tuple[CachedBFrame, Tensor]:
    """Objects that show in the crop, as many as there are slots, each in a random one; and which are in use."""
    present = (picture.probs.flatten(1) > 0).any(1).numpy() | (picture.corrected.flatten(1) > 0).any(1).numpy()
    present[[int(i) - 1 for i in np.unique(picture.labels.numpy()) if 0 < i <= len(present)]] = True
    found: NDArray[np.int64] = np.flatnonzero(present) if present.any() else np.arange(len(present))
    chosen = rng.permutation(found)[:slots]
    places = rng.permutation(slots)[: len(chosen)]
    table = np.zeros(VOID + 1, np.uint8)
    table[chosen + 1], table[VOID] = places + 1, VOID
    probs, corrected = (x.new_zeros(slots, *x.shape[1:]) for x in (picture.probs, picture.corrected))
    probs[places], corrected[places] = picture.probs[chosen], picture.corrected[chosen]
    slot_mask = torch.zeros(slots, dtype=torch.bool)
    slot_mask[places] = True
    labels = torch.from_numpy(table[picture.labels.numpy()])
    return picture._replace(probs=probs, corrected=corrected, labels=labels), slot_mask


def _padded(picture: CachedBFrame, size: tuple[int, int]) -> CachedBFrame:
    height, width = picture.labels.shape
    if (height, width) == tuple(size):
        return picture
    pad_objects = (0, size[1] - width, 0, size[0] - height)
    narrow = tuple(n // CELL for n in pad_objects)
    features, probs, corrected = (F.pad(x, narrow) for x in (picture.features, picture.probs, picture.corrected))
    carried = None if picture.carried is None else F.pad(picture.carried, narrow)
    return CachedBFrame(features, carried, probs, corrected, F.pad(picture.labels, pad_objects, value=VOID))
