"""Describes an annotated video on disk, for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError, DataError
from voslab.core.parameters import nearest
from voslab.video.images import image_size, read_image
from voslab.video.mask_formats.label_image import read_mask
from voslab.video.mask_formats.options import LITERAL
from voslab.video.mask_formats.rle import Runs
from voslab.video.reader import Video, open_video

_WHITE = 255


@dataclass(frozen=True)
class VideoSequence:
    """Frames and masks of one video. Files are decoded on access.

    Attributes:
        name: Unique name within the data set.
        images: One file per frame, in order.
        masks: One file, or the RLE of its objects, per frame; None for a frame without annotation.
        merge: Whether all objects are merged into one with id 1 (DAVIS 2016).
        void: Mask value of pixels to ignore, if the data set declares one.
        starts: Frame in which the mask of each object is given, by id; None if all are given in frame 0.
        truth: Whether the masks are complete ground truth. Otherwise only given masks exist and nothing can be scored.
        outputs: Frames whose masks are submitted or scored; None for all.
        scores_last: Whether the last frame is scored; DAVIS omits it.
        unseen: Ids of objects whose category is not in the training split (YouTube-VOS).
        height: Height in pixels to which images and masks are scaled up; None for the original size.
        file: Video file from which the images were decoded, if they are all of its frames; None for image sequences.

    Raises:
        DataError: If there are no frames, or the numbers of images and masks differ.
    """

    name: str
    images: tuple[Path, ...]
    masks: tuple[Path | Runs | None, ...]
    merge: bool = False
    void: int | None = None
    starts: Mapping[int, int] | None = field(default=None, hash=False)
    truth: bool = True
    outputs: tuple[int, ...] | None = None
    scores_last: bool = False
    unseen: frozenset[int] = frozenset()
    height: int | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise DataError(f"sequence {self.name}: no frames")
        if len(self.images) != len(self.masks):
            raise DataError(f"sequence {self.name}: {len(self.images)} frames but {len(self.masks)} mask entries")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def output_frames(self) -> Sequence[int]:
        """Indices of the frames whose masks are submitted or scored."""
        return range(len(self)) if self.outputs is None else self.outputs

    @property
    def source(self) -> Video | tuple[Path, ...]:
        """Source of codec data: the video file, or the images, which must be encoded first.

        Raises:
            VideoError: If the file is damaged.
            DataError: If the images are scaled up.
        """
        if self.height is not None:
            raise DataError(
                f"sequence {self.name}: images that are scaled up cannot be encoded; set model.encoding=null"
            )
        return self.images if self.file is None else open_video(self.file)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read a frame.

        Args:
            index: Index of the frame.

        Returns:
            RGB image, H W 3 uint8.

        Raises:
            DataError: If the file is missing or damaged.
        """
        image = read_image(self.images[index])
        size = self._scaled(image.shape[0], image.shape[1])
        return image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)

    def labels(self, index: int) -> NDArray[np.int32] | None:
        """Read the label map of a frame.

        If all masks of a source without void have only the values 0 and 255, white is the object with id 1.

        Args:
            index: Index of the frame.

        Returns:
            Label map, H W int32: 0 for background, object ids, and `VOID` for void; None without annotation.

        Raises:
            DataError: If the mask is missing, damaged, or of another size than its image.
        """
        mask = self.masks[index]
        if mask is None:
            return None
        source = mask if isinstance(mask, Path) else mask.source
        height, width = image_size(self.images[index])
        # From the header, so that a mask of another size is refused before it is decoded.
        found = image_size(mask) if isinstance(mask, Path) else mask.size
        if found == (height, width):
            raw = read_mask(mask, LITERAL) if isinstance(mask, Path) else mask.labels()
            found = raw.shape[0], raw.shape[1]
        if found != (height, width):
            raise DataError(
                f"{source}: the mask is {found[1]} x {found[0]} pixels, its image"
                f" {self.images[index]} is {width} x {height}"
            )
        objects = raw != 0 if self.void is None else (raw != 0) & (raw != self.void)
        if self.merge:
            labels = objects.astype(np.int32)
        elif self.void is None:
            one = isinstance(mask, Path) and (raw == _WHITE).any() and self._masks_are_binary
            labels = white_to_one(raw) if one else raw
        elif self.void != VOID and (raw == VOID).any():
            raise DataError(f"{source}: id {VOID} is reserved for void, but this source has void={self.void}")
        else:
            labels = raw
        labels = labels if self.void is None else np.where(raw == self.void, np.int32(VOID), labels)
        size = self._scaled(height, width)
        return (
            labels if size is None else cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
        )

    def as_predicted(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Convert a predicted label map: white on black is object 1, unless 255 is an id of this video.

        Args:
            labels: Label map, H W int32.
        """
        return white_to_one(labels) if (labels == _WHITE).any() and not self._has_id_255 else labels

    def given_masks(self) -> dict[int, NDArray[np.int32]]:
        """Return the masks that a semi-supervised method receives, each with only its new objects and without void.

        Returns:
            Label maps, H W int32, by frame index.

        Raises:
            DataError: If a frame in which an object is given has no annotation.
        """
        if self.starts is None:
            return {0: self._given(0)}
        frames: dict[int, list[int]] = {}
        for identity, frame in self.starts.items():
            frames.setdefault(frame, []).append(identity)
        masks = {frame: (self._given(frame), ids) for frame, ids in sorted(frames.items())}
        return {frame: np.where(np.isin(labels, ids), labels, np.int32(0)) for frame, (labels, ids) in masks.items()}

    @cached_property
    def _masks_are_binary(self) -> bool:
        """Whether all mask files have only the values 0 and 255."""
        return all(_is_white(read_mask(mask, LITERAL)) for mask in self.masks if isinstance(mask, Path))

    @cached_property
    def _has_id_255(self) -> bool:
        """Whether 255 is the id of an object."""
        return any((mask == _WHITE).any() for mask in self.given_masks().values())

    def _given(self, index: int) -> NDArray[np.int32]:
        labels = self.labels(index)
        if labels is None:
            which = "its first frame" if index == 0 else f"frame {index},"
            raise DataError(f"sequence {self.name}: {which} {self.images[index]} has no mask to start from")
        return labels if self.void is None else np.where(labels == VOID, np.int32(0), labels)

    def mask_size(self, index: int) -> tuple[int, int]:
        """Return height and width of the label map of a frame, from the header of its image.

        Raises:
            DataError: If the image is missing or damaged.
        """
        height, width = image_size(self.images[index])
        scaled = self._scaled(height, width)
        return (height, width) if scaled is None else (scaled[1], scaled[0])

    def _scaled(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the width (even) and height after scaling; None if nothing is scaled."""
        if self.height is None or self.height == height:
            return None
        return 2 * round(self.height * width / height / 2), self.height


@dataclass(frozen=True)
class EvaluationItem:
    """Item of an evaluation loader: a sequence and its index in the split, equal on every process."""

    index: int
    sequence: VideoSequence

    def to(self, *_: Any, **__: Any) -> Self:
        """Return the item unchanged. Lightning calls this instead of taking the dataclass apart."""
        return self


def select_names(
    names: Iterable[str], only: Sequence[str] | None, without: Sequence[str], source: object
) -> tuple[str, ...]:
    """Select names by inclusion and exclusion.

    Args:
        names: All names.
        only: Names to keep; None for all.
        without: Names to drop.
        source: Name of the data set, for the error message.

    Raises:
        ConfigError: If `only` or `without` has an unknown name.

    Example:
        >>> select_names(["bear", "camel", "dog"], None, ["camel"], "DAVIS")
        ('bear', 'dog')
    """
    names = tuple(names)
    for name in (*(only or ()), *without):
        if name not in names:
            known = ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])
            raise ConfigError(f"{source} has no video '{name}'{nearest(name, names)} (it has {known})")
    return tuple(name for name in names if (only is None or name in only) and name not in without)


def white_to_one(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Convert a label map with only the values 0 and 255 to the values 0 and 1; return any other unchanged.

    Args:
        labels: Label map, H W int32.

    Example:
        >>> white_to_one(np.array([[0, 255]], np.int32)).tolist()
        [[0, 1]]
    """
    return labels // _WHITE if _is_white(labels) else labels


def _is_white(labels: NDArray[np.int32]) -> bool:
    return not ((labels != 0) & (labels != _WHITE)).any()
