"""Draws training clips from a source, augments them, assigns objects to slots and stacks them to a `Clip`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from voslab.core import VOID, Clip, ConfigError, DataError, generator
from voslab.data.clips.augmentation import Augmentation, ClipTransform
from voslab.data.clips.sampling import Curriculum, Milestones, choose_objects, sample_frames
from voslab.data.video_sequence import VideoSequence

_ATTEMPTS = 8


@dataclass(frozen=True)
class ClipSettings:
    """How clips are drawn.

    Attributes:
        augmentation: what happens to the pixels; its size is the clip's.
        frames: length.
        gap: least and most frames from one sampled frame to the next.
        curriculum: replaces the most of `gap`, by epoch.
        every: frames of the video from one frame of the source to the next; gaps are divided by it.
        reverse: chance to run backwards.
        max_objects: number of slots: at most this number of objects are targets, the others become background.
        min_area: least pixels of a target in the first frame of the clip, before and after augmentation.
    """

    augmentation: Augmentation
    frames: int = 8
    gap: tuple[int, int] = (1, 1)
    curriculum: Curriculum | Milestones | None = None
    every: int = 1
    reverse: float = 0.0
    max_objects: int = 1
    min_area: int = 32

    def __post_init__(self) -> None:
        least, most = self.gap
        wrong = [
            (self.frames < 1, f"frames={self.frames} must be positive"),
            (not 1 <= least <= most, f"gap={(least, most)} must be two positive numbers, the smaller first"),
            (self.every < 1, f"every={self.every} must be positive"),
            (not 0 <= self.reverse <= 1, f"reverse={self.reverse} must be a probability"),
            (not 1 <= self.max_objects < VOID, f"max_objects={self.max_objects} must be from 1 to {VOID - 1}"),
            (self.min_area < 1, f"min_area={self.min_area} must be positive"),
        ]
        if reasons := [reason for bad, reason in wrong if bad]:
            raise ConfigError(f"clip: {'; '.join(reasons)}")

    def gap_at(self, epoch: int) -> tuple[int, int]:
        """Least and most gap in an epoch."""
        least, most = self.gap
        most = most if self.curriculum is None else max(least, self.curriculum.max_gap(epoch))
        return max(1, least // self.every), max(1, most // self.every)


class RawClip(NamedTuple):
    """Frames as drawn: T images H W 3 uint8, T label maps H W int32 with `void` for void, and where they came from."""

    images: list[NDArray[np.uint8]]
    labels: list[NDArray[np.int32]]
    void: int
    name: str


class ClipSource(Protocol):
    """Whatever clips can be drawn from: videos, or still images that are made to move."""

    @property
    def settings(self) -> ClipSettings:
        """How its clips are drawn."""
        ...

    def __len__(self) -> int:
        """Places: videos or stills."""
        ...

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        """Draw frames of place `index`; only `epoch` and `rng` decide."""
        ...

    def require_object(self, index: int) -> None:
        """Raise `DataError` if nothing at place `index` can ever show an object."""
        ...


@dataclass(frozen=True)
class VideoClips:
    """Clips from annotated videos. Raises `DataError` naming a video that is too short."""

    sequences: tuple[VideoSequence, ...]
    settings: ClipSettings

    def __post_init__(self) -> None:
        for sequence in self.sequences:
            if len(sequence) < self.settings.frames:
                raise DataError(
                    f"sequence {sequence.name}: {len(sequence)} frames, too short for clips of {self.settings.frames}"
                )

    def __len__(self) -> int:
        return len(self.sequences)

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        """Consecutive, spaced or reversed frames of one video; frames without annotation are void everywhere."""
        sequence, settings = self.sequences[index], self.settings
        length, gap = len(sequence), settings.gap_at(epoch)
        for _ in range(4 * _ATTEMPTS):
            taken = sample_frames(length, settings.frames, rng, gap, settings.reverse, f"sequence {sequence.name}")
            if sequence.masks[taken[0]] is not None:
                break
        images = [sequence.image(i) for i in taken]
        if len({image.shape for image in images}) > 1:
            sizes = ", ".join(f"{w} x {h}" for h, w, _ in sorted({image.shape for image in images}))
            raise DataError(f"sequence {sequence.name}: frames {taken} have different sizes: {sizes}")
        labels = [sequence.labels(i) for i in taken]
        void = _void(sequence)
        blank = np.full(images[0].shape[:2], void, np.int32)
        name = f"{sequence.name} {','.join(map(str, taken))}"
        return RawClip(images, [blank if one is None else one for one in labels], void, name)

    def require_object(self, index: int) -> None:
        """Look through all masks of a video."""
        sequence = self.sequences[index]
        for frame in range(len(sequence)):
            labels = sequence.labels(frame)
            if labels is not None and ((labels != 0) & (labels != _void(sequence))).any():
                return
        raise DataError(f"sequence {sequence.name}: no object in any of its {len(sequence)} masks")


def _void(sequence: VideoSequence) -> int:
    """Void in the labels of a sequence: -1 in a source that declares none, where 255 may be an object."""
    return -1 if sequence.void is None else VOID


@dataclass(frozen=True)
class ClipItem:
    """One clip: images T 3 H W uint8, labels T H W uint8 by slot with `VOID`, valid O bool, name.

    `skipped` says why clips that it stands in for could not be read.
    """

    images: torch.Tensor
    labels: torch.Tensor
    slot_mask: torch.Tensor
    name: str
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipDataset(Dataset[ClipItem]):
    """Clips of several sources, addressed by (epoch, index): equal addresses give equal clips in every process.

    Attributes:
        sources: an index runs through the clips of all of them, one behind the other.
        transform: the built augmentation.
        seed: of all draws.
        counts: clips of each source in an epoch; None: each of its places once. A source that gives more or fewer
            goes through its places in a new random order each time, over the bounds of epochs.
    """

    sources: tuple[ClipSource, ...]
    transform: ClipTransform
    seed: int = 0
    counts: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return sum(self._counts())

    def __getitem__(self, address: tuple[int, int]) -> ClipItem:
        """Draw until a target shows in the first frame, eight times at most; then take the draw that shows most.

        Raises:
            DataError: a frame or mask is missing or damaged, the video is too short, or has no object anywhere.
        """
        epoch, index = address
        source, place = self._locate(epoch, index)
        best, most = self._draw(source, place, epoch, generator(self.seed, epoch, index, 0))
        for attempt in range(1, _ATTEMPTS):
            if most >= source.settings.min_area:
                break
            item, shown = self._draw(source, place, epoch, generator(self.seed, epoch, index, attempt))
            if shown > most:
                best, most = item, shown
        if most == 0:
            source.require_object(place)
        return best

    def _counts(self) -> tuple[int, ...]:
        return tuple(map(len, self.sources)) if self.counts is None else self.counts

    def _locate(self, epoch: int, index: int) -> tuple[ClipSource, int]:
        for number, (source, count) in enumerate(zip(self.sources, self._counts(), strict=True)):
            if index >= count:
                index -= count
            elif count % len(source) == 0:
                return source, index % len(source)
            else:
                turn, at = divmod(epoch * count + index, len(source))
                return source, int(_order(self.seed, number, turn, len(source))[at])
        raise IndexError(index)

    def _draw(self, source: ClipSource, place: int, epoch: int, rng: np.random.Generator) -> tuple[ClipItem, int]:
        """A clip, and the pixels of the target that shows most in its first frame."""
        settings = source.settings
        raw = source.draw(place, epoch, rng)
        chosen = choose_objects(raw.labels[0], settings.max_objects, rng, settings.min_area, raw.void)
        chosen = chosen or choose_objects(raw.labels[0], settings.max_objects, rng, void=raw.void)
        slots = [_to_slots(labels, chosen, raw.void) for labels in raw.labels]
        images, labels = self.transform(raw.images, slots, int(rng.integers(2**32)))
        labels, areas = _drop_hidden(labels, len(chosen), settings.min_area)
        item = ClipItem(
            torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
            torch.from_numpy(labels),
            torch.arange(max(one.settings.max_objects for one in self.sources)) < len(areas),
            raw.name,
        )
        return item, int(areas.max(initial=0))


@lru_cache(maxsize=16)
def _order(seed: int, source: int, turn: int, size: int) -> NDArray[np.int64]:
    """Places of a source in the order of its `turn`-th time through."""
    return generator(seed, "places", source, turn).permutation(size)


def _to_slots(labels: NDArray[np.int32], chosen: tuple[int, ...], void: int) -> NDArray[np.uint8]:
    slots = np.zeros(labels.shape, np.uint8)
    for slot, identity in enumerate(chosen, 1):
        slots[labels == identity] = slot
    slots[labels == void] = VOID
    return slots


def _drop_hidden(labels: NDArray[np.uint8], count: int, min_area: int) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Make objects background that the augmented first frame does not show, and close the gaps between the slots.

    Where none shows enough, those that show most stay. Also gives the areas of the objects that stay.
    """
    areas = np.bincount(labels[0].ravel(), minlength=VOID + 1)[1 : count + 1]
    stay = np.flatnonzero(areas >= max(1, min(min_area, areas.max(initial=0))))
    table = np.zeros(VOID + 1, np.uint8)
    table[stay + 1] = np.arange(1, len(stay) + 1)
    table[VOID] = VOID
    return np.stack([cv2.LUT(frame, table) for frame in labels]), areas[stay]


def collate(items: Sequence[ClipItem]) -> Clip:
    """Stack clips into a batch of bytes. All have the same number of slots, so all processes of a run agree on it."""
    return Clip(
        images=torch.stack([item.images for item in items]),
        labels=torch.stack([item.labels for item in items]),
        slot_mask=torch.stack([item.slot_mask for item in items]),
        names=tuple(item.name for item in items),
        skipped=tuple(reason for item in items for reason in item.skipped),
    )
