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
from voslab.methods.covos.cache.files import CELL, CarriedPicture, frame_path, read_carried


class Video(NamedTuple):
    """A finished folder and its frames, one at least."""

    folder: Path
    frames: tuple[int, ...]


@dataclass(frozen=True)
class CarriedBatch:
    """A training batch: like `CarriedPicture`, a B in front, and which slots are in use: `valid`, B O, bool."""

    features: Tensor
    carried: Tensor | None
    planes: Tensor
    corrected: Tensor
    labels: Tensor
    valid: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device | str) -> CarriedBatch:
        """Move all tensors."""
        carried = None if self.carried is None else self.carried.to(device)
        others = (self.planes.to(device), self.corrected.to(device), self.labels.to(device), self.valid.to(device))
        return CarriedBatch(self.features.to(device), carried, *others, self.names)


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


class CarriedItem(NamedTuple):
    """One sample: a cropped picture with its slots, valid O bool, and where it came from."""

    picture: CarriedPicture
    valid: Tensor
    name: str


@dataclass(frozen=True)
class CarriedCrops(Dataset[CarriedItem]):
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

    def __getitem__(self, address: tuple[int, int]) -> CarriedItem:
        """Draw one. Raises `DataError` for a file that is missing or damaged."""
        rng = generator(self.seed, *address)
        folder, frames = self.videos[int(rng.integers(len(self.videos)))]
        index = frames[int(rng.integers(len(frames)))]
        picture = read_carried(frame_path(folder, index), self.settings.size, rng)
        if self.settings.cut and rng.random() < self.settings.cut:
            picture = _cut(picture, rng)
        picture, valid = _in_slots(picture, self.settings.max_objects, rng)
        return CarriedItem(_padded(picture, self.settings.size), valid, f"{folder.name} {index}")


def collate_carried(items: ListOf[CarriedItem]) -> CarriedBatch:
    """Stack samples."""
    pictures = [item.picture for item in items]
    carried = [picture.carried for picture in pictures if picture.carried is not None]
    return CarriedBatch(
        features=torch.stack([picture.features for picture in pictures]),
        carried=torch.stack(carried) if carried else None,
        planes=torch.stack([picture.planes for picture in pictures]),
        corrected=torch.stack([picture.corrected for picture in pictures]),
        labels=torch.stack([picture.labels for picture in pictures]).long(),
        valid=torch.stack([item.valid for item in items]),
        names=tuple(item.name for item in items),
    )


def _cut(picture: CarriedPicture, rng: np.random.Generator) -> CarriedPicture:
    """An object's part on one side of a line through one of its cells becomes another object."""
    inside = np.argwhere(picture.planes.amax(0).numpy() > 0.5)
    if not len(inside):
        return picture
    y, x = inside[int(rng.integers(len(inside)))]
    chosen, angle = int(picture.planes[:, y, x].argmax()), float(rng.uniform(0, 2 * np.pi))
    height, width = picture.labels.shape
    # In pixels; a cell is where its centre is.
    rows, columns = torch.arange(height) - CELL * (y + 0.5), torch.arange(width) - CELL * (x + 0.5)
    beyond = rows[:, None] * np.cos(angle) + columns * np.sin(angle) > 0
    coarse = beyond[CELL // 2 :: CELL, CELL // 2 :: CELL]
    planes, corrected = (
        torch.cat([_without(x, chosen, coarse), (x[chosen] * coarse)[None]])
        for x in (picture.planes, picture.corrected)
    )
    labels = picture.labels.clone()
    labels[(labels == chosen + 1) & beyond] = len(planes)
    return picture._replace(planes=planes, corrected=corrected, labels=labels)


def _without(planes: Tensor, chosen: int, where: Tensor) -> Tensor:
    """One of the planes is zero there."""
    planes = planes.clone()
    planes[chosen] *= ~where
    return planes


def _in_slots(picture: CarriedPicture, slots: int, rng: np.random.Generator) -> tuple[CarriedPicture, Tensor]:
    """Objects that show in the crop, as many as there are slots, each in a random one; and which are in use."""
    present = (picture.planes.flatten(1) > 0).any(1).numpy() | (picture.corrected.flatten(1) > 0).any(1).numpy()
    present[[int(i) - 1 for i in np.unique(picture.labels.numpy()) if 0 < i <= len(present)]] = True
    found: NDArray[np.int64] = np.flatnonzero(present) if present.any() else np.arange(len(present))
    chosen = rng.permutation(found)[:slots]
    places = rng.permutation(slots)[: len(chosen)]
    table = np.zeros(VOID + 1, np.uint8)
    table[chosen + 1], table[VOID] = places + 1, VOID
    planes, corrected = (x.new_zeros(slots, *x.shape[1:]) for x in (picture.planes, picture.corrected))
    planes[places], corrected[places] = picture.planes[chosen], picture.corrected[chosen]
    valid = torch.zeros(slots, dtype=torch.bool)
    valid[places] = True
    labels = torch.from_numpy(table[picture.labels.numpy()])
    return picture._replace(planes=planes, corrected=corrected, labels=labels), valid


def _padded(picture: CarriedPicture, size: tuple[int, int]) -> CarriedPicture:
    height, width = picture.labels.shape
    if (height, width) == tuple(size):
        return picture
    wide = (0, size[1] - width, 0, size[0] - height)
    narrow = tuple(n // CELL for n in wide)
    features, planes, corrected = (F.pad(x, narrow) for x in (picture.features, picture.planes, picture.corrected))
    carried = None if picture.carried is None else F.pad(picture.carried, narrow)
    return CarriedPicture(features, carried, planes, corrected, F.pad(picture.labels, wide, value=VOID))
