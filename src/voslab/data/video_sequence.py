"""One annotated video on disk: what every source lists, and what training and evaluation read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError, DataError
from voslab.core.parameters import nearest
from voslab.data.sources.rle import Runs
from voslab.video.images import image_size, read_image, read_mask
from voslab.video.reader import Video, open_video

_WHITE = 255


@dataclass(frozen=True)
class Sequence:
    """Frames and masks of one video; nothing is decoded before it is asked for.

    Attributes:
        name: unique within its data set.
        images: one file per frame, in order.
        masks: one file, or the runs of its objects, per frame; None where the frame is not annotated.
        merge: all objects count as one, id 1 (DAVIS 2016).
        void: the value that means "do not look here", where the source declares one.
        starts: frame in which each object's mask is given, by id; None: all are given in frame 0.
        truth: whether the masks say everything; else they hold no more than what is given, and nothing can be scored.
        outputs: frames whose masks are asked for (submissions, scores); None: all.
        scores_last: whether the last frame is scored; DAVIS leaves it out.
        unseen: ids of objects whose category no training video shows (YouTube-VOS).
        height: pictures and masks are scaled up to so many rows; None leaves them.
        file: the video file that the images were decoded from, all of its frames; None: they are the source.
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
            raise DataError(f"sequence {self.name}: {len(self.images)} frames but {len(self.masks)} places for masks")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def asked(self) -> ListOf[int]:
        """Frames whose masks are asked for."""
        return range(len(self)) if self.outputs is None else self.outputs

    @property
    def source(self) -> Video | tuple[Path, ...]:
        """What a codec's side data are read of: the video file, or the images, which have none yet.

        Raises:
            VideoError: the file is damaged.
            DataError: the images are scaled up.
        """
        if self.height is not None:
            raise DataError(f"sequence {self.name}: pictures that are scaled up are not encoded; model.encoding=null")
        return self.images if self.file is None else open_video(self.file)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Frame `index`, H W 3 RGB uint8. Raises `DataError` naming the file when it is missing or damaged."""
        image = read_image(self.images[index])
        size = self._scaled(image.shape[0], image.shape[1])
        return image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8)

    def labels(self, index: int) -> NDArray[np.int32] | None:
        """Label map of frame `index`, H W int32: 0 background, object ids, `VOID` where the source declares void.

        Where no mask holds a value but 0 and 255, in a source without void, white is one object: id 1. None: not
        annotated.

        Raises:
            DataError: the mask is missing, damaged, or of another size than its image.
        """
        mask = self.masks[index]
        if mask is None:
            return None
        raw = read_mask(mask) if isinstance(mask, Path) else mask.labels()
        source = mask if isinstance(mask, Path) else mask.source
        height, width = image_size(self.images[index])
        if raw.shape != (height, width):
            raise DataError(
                f"{source}: the mask is {raw.shape[1]} x {raw.shape[0]} pixels, its image"
                f" {self.images[index]} is {width} x {height}"
            )
        objects = raw != 0 if self.void is None else (raw != 0) & (raw != self.void)
        if self.merge:
            labels = objects.astype(np.int32)
        elif self.void is None:
            one = isinstance(mask, Path) and (raw == _WHITE).any() and self._white_alone
            labels = white_is_one(raw) if one else raw
        elif self.void != VOID and (raw == VOID).any():
            raise DataError(f"{source}: id {VOID} is kept for void in a source whose void is {self.void}")
        else:
            labels = raw
        labels = labels if self.void is None else np.where(raw == self.void, np.int32(VOID), labels)
        size = self._scaled(height, width)
        return (
            labels if size is None else cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)
        )

    def as_predicted(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """A mask that some tool made of this video: white on black is object 1, unless 255 is one of its objects."""
        return white_is_one(labels) if (labels == _WHITE).any() and not self._white_given else labels

    def given(self) -> dict[int, NDArray[np.int32]]:
        """The masks that a semi-supervised method is given, by frame, without void, each with its new objects only.

        Raises:
            DataError: a frame in which an object is given is not annotated.
        """
        if self.starts is None:
            return {0: self._given(0)}
        frames: dict[int, list[int]] = {}
        for identity, frame in self.starts.items():
            frames.setdefault(frame, []).append(identity)
        masks = {frame: (self._given(frame), ids) for frame, ids in sorted(frames.items())}
        return {frame: np.where(np.isin(labels, ids), labels, np.int32(0)) for frame, (labels, ids) in masks.items()}

    @cached_property
    def _white_alone(self) -> bool:
        """Whether no mask file holds a value but 0 and 255."""
        return all(_is_white(read_mask(mask)) for mask in self.masks if isinstance(mask, Path))

    @cached_property
    def _white_given(self) -> bool:
        """Whether 255 is one of the objects."""
        return any((mask == _WHITE).any() for mask in self.given().values())

    def _given(self, index: int) -> NDArray[np.int32]:
        labels = self.labels(index)
        if labels is None:
            which = "its first frame" if index == 0 else f"frame {index},"
            raise DataError(f"sequence {self.name}: {which} {self.images[index]} has no mask to start from")
        return labels if self.void is None else np.where(labels == VOID, np.int32(0), labels)

    def _scaled(self, height: int, width: int) -> tuple[int, int] | None:
        """Width and height after scaling up, the width even; None where nothing is scaled."""
        if self.height is None or self.height == height:
            return None
        return 2 * round(self.height * width / height / 2), self.height


@dataclass(frozen=True)
class EvaluationItem:
    """What an evaluation loader yields: a sequence and its place in the whole split, the same on every process."""

    index: int
    sequence: Sequence

    def to(self, *_: Any, **__: Any) -> Self:
        """Nothing to move to a device; Lightning asks, and takes apart whatever cannot answer."""
        return self


def picked(names: Iterable[str], only: ListOf[str] | None, without: ListOf[str], source: object) -> tuple[str, ...]:
    """Those of the names that are in `only` (None: all) and not in `without`.

    Raises:
        ConfigError: a name that is asked for and not there.
    """
    names = tuple(names)
    for name in (*(only or ()), *without):
        if name not in names:
            there = ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])
            raise ConfigError(f"{source} has no video '{name}'{nearest(name, names)} (there are {there})")
    return tuple(name for name in names if (only is None or name in only) and name not in without)


def white_is_one(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """A label map whose only value but 0 is 255 is one object, id 1; any other is returned as it is."""
    return labels // _WHITE if _is_white(labels) else labels


def _is_white(labels: NDArray[np.int32]) -> bool:
    return not ((labels != 0) & (labels != _WHITE)).any()
