"""Samples training clips, augments them, assigns objects to slots, and collates them into a `Clip`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from voslab.core import VOID, ConfigError, DataError, generator
from voslab.data.clips.augmentation import Augmentation, ClipTransform
from voslab.data.clips.distraction import Distraction, add_lookalike, add_occluder
from voslab.data.clips.item import ClipItem
from voslab.data.clips.sampling import Curriculum, Milestones, choose_objects, sample_frames
from voslab.data.clips.slots import drop_hidden, to_slots
from voslab.data.video_sequence import VideoSequence

_ATTEMPTS = 8


@dataclass(frozen=True)
class ClipSettings:
    """Parameters of clip sampling.

    Attributes:
        augmentation: Augmentation of the frames; it determines their size.
        frames: Number of frames T.
        gap: Minimum and maximum distance between sampled frames.
        curriculum: Maximum distance by epoch, instead of that of `gap`.
        every: Stride at which the source was sampled from its video; the numbers of frames that gaps skip are divided
            by it.
        reverse: Probability of a reversed clip.
        max_objects: Number of object slots O. Objects beyond it become background.
        min_area: Minimum area of a target in the first frame, in pixels, before and after augmentation.
        distraction: Look-alikes and occluders that are added.

    Raises:
        ConfigError: If a value is out of range.
    """

    augmentation: Augmentation
    frames: int = 8
    gap: tuple[int, int] = (1, 1)
    curriculum: Curriculum | Milestones | None = None
    every: int = 1
    reverse: float = 0.0
    max_objects: int = 1
    min_area: int = 32
    distraction: Distraction = field(default_factory=Distraction)

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
        """Return the minimum and maximum gap in an epoch, in frames of the source."""
        least, most = self.gap
        most = most if self.curriculum is None else max(least, self.curriculum.max_gap(epoch))
        return (least - 1) // self.every + 1, (most - 1) // self.every + 1


class RawClip(NamedTuple):
    """A clip before augmentation.

    Attributes:
        images: T frames, H W 3 uint8.
        labels: T label maps, H W int32.
        void: Label of void pixels.
        name: Name of the video or images, for messages.
    """

    images: list[NDArray[np.uint8]]
    labels: list[NDArray[np.int32]]
    void: int
    name: str


class ClipSource(Protocol):
    """Source of clips: videos, or still images under synthetic motion."""

    @property
    def settings(self) -> ClipSettings:
        """Parameters of clip sampling."""
        ...

    def __len__(self) -> int:
        """Return the number of videos or still images."""
        ...

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        """Sample a clip, which depends on the arguments only.

        Args:
            index: Index of the video or image.
            epoch: Current epoch.
            rng: Random generator.

        Raises:
            DataError: If a file is missing or damaged.
        """
        ...

    def require_object(self, index: int) -> None:
        """Check that clips of a video or image can contain an object.

        Args:
            index: Index of the video or image.

        Raises:
            DataError: If it has no object.
        """
        ...


@dataclass(frozen=True)
class VideoClips:
    """Samples clips from annotated videos.

    Attributes:
        sequences: The videos.
        settings: Parameters of clip sampling.

    Raises:
        DataError: If a video is shorter than a clip.
    """

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
        """Sample frames of a video; see `ClipSource.draw`. Frames without annotation are void."""
        sequence, settings = self.sequences[index], self.settings
        length, gap = len(sequence), settings.gap_at(epoch)
        for _ in range(4 * _ATTEMPTS):
            indices = sample_frames(length, settings.frames, rng, gap, settings.reverse, f"sequence {sequence.name}")
            if sequence.masks[indices[0]] is not None:
                break
        images = [sequence.image(i) for i in indices]
        if len({image.shape for image in images}) > 1:
            sizes = ", ".join(f"{w} x {h}" for h, w, _ in sorted({image.shape for image in images}))
            raise DataError(f"sequence {sequence.name}: frames {indices} have different sizes: {sizes}")
        labels = [sequence.labels(i) for i in indices]
        void = _void(sequence)
        blank = np.full(images[0].shape[:2], void, np.int32)
        name = f"{sequence.name} {','.join(map(str, indices))}"
        return RawClip(images, [blank if label_map is None else label_map for label_map in labels], void, name)

    def require_object(self, index: int) -> None:
        """Check that some mask of a video has an object; see `ClipSource.require_object`."""
        sequence = self.sequences[index]
        for frame in range(len(sequence)):
            labels = sequence.labels(frame)
            if labels is not None and ((labels != 0) & (labels != _void(sequence))).any():
                return
        raise DataError(f"sequence {sequence.name}: no object in any of its {len(sequence)} masks")


def _void(sequence: VideoSequence) -> int:
    """Return the void label of a sequence: -1 if the source declares none, because 255 may then be an object."""
    return -1 if sequence.void is None else VOID


@dataclass(frozen=True)
class ClipDataset(Dataset[ClipItem]):
    """Clips of several sources, addressed by (epoch, index). An address gives the same clip in every process.

    Attributes:
        sources: Sources of the clips. Indices count the clips of all sources, in order.
        transform: The augmentation.
        seed: Seed of all random draws.
        counts: Number of clips of each source per epoch; None for one clip per video or image. If the number is not a
            multiple of the source's length, the videos come in a new random order in each pass, and passes continue
            across epochs.
    """

    sources: tuple[ClipSource, ...]
    transform: ClipTransform
    seed: int = 0
    counts: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return sum(self._counts())

    def __getitem__(self, address: tuple[int, int]) -> ClipItem:
        """Return the clip at (epoch, index).

        A draw without a target of `min_area` in the first frame is repeated up to seven times. If none has one, the
        draw with the largest target is returned.

        Raises:
            DataError: If a frame or mask is missing or damaged, or the video has no object.
        """
        epoch, index = address
        source, item_index = self._locate(epoch, index)
        best, best_area = self._draw(source, item_index, epoch, generator(self.seed, epoch, index, 0))
        for attempt in range(1, _ATTEMPTS):
            if best_area >= source.settings.min_area:
                break
            item, item_area = self._draw(source, item_index, epoch, generator(self.seed, epoch, index, attempt))
            if item_area > best_area:
                best, best_area = item, item_area
        if best_area == 0:
            source.require_object(item_index)
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
                repetition, position = divmod(epoch * count + index, len(source))
                return source, int(_order(self.seed, number, repetition, len(source))[position])
        raise IndexError(index)

    def _draw(self, source: ClipSource, index: int, epoch: int, rng: np.random.Generator) -> tuple[ClipItem, int]:
        """Draw a clip. Returns it with the area of the largest target in its first frame, in pixels."""
        settings = source.settings
        raw = source.draw(index, epoch, rng)
        chosen = choose_objects(raw.labels[0], settings.max_objects, rng, settings.min_area, raw.void)
        chosen = chosen or choose_objects(raw.labels[0], settings.max_objects, rng, void=raw.void)
        slots = [to_slots(labels, chosen, raw.void) for labels in raw.labels]
        frames, slots = _distract(raw.images, slots, source, epoch, rng)
        images, labels = self.transform(frames, slots, int(rng.integers(2**32)))
        labels, areas = drop_hidden(labels, len(chosen), settings.min_area)
        item = ClipItem(
            torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
            torch.from_numpy(labels),
            torch.arange(max(other.settings.max_objects for other in self.sources)) < len(areas),
            raw.name,
        )
        return item, int(areas.max(initial=0))


@lru_cache(maxsize=16)
def _order(seed: int, source: int, repetition: int, size: int) -> NDArray[np.int64]:
    """Return the order of the items of a source in one pass through it."""
    return generator(seed, "places", source, repetition).permutation(size)


def _distract(
    images: list[NDArray[np.uint8]],
    slots: list[NDArray[np.uint8]],
    source: ClipSource,
    epoch: int,
    rng: np.random.Generator,
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Add the look-alikes and occluders of the source's settings; the occluder is an object of another clip of it."""
    distraction = source.settings.distraction
    if distraction.lookalike and rng.random() < distraction.lookalike:
        images = add_lookalike(images, slots, rng)
    if distraction.occluder and rng.random() < distraction.occluder:
        other = source.draw(int(rng.integers(len(source))), epoch, rng)
        cutout = (other.labels[0] != 0) & (other.labels[0] != other.void)
        images, slots = add_occluder(images, slots, other.images[0], cutout, rng)
    return images, slots
