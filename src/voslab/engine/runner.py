"""Runs a segmenter over files, data sets, cameras and generators with one loop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import DataError, Frame, ObjectTable, RawFrame, ReferenceBuffered, Segmenter
from voslab.core.prefetch import prefetch
from voslab.engine.codec_resize import fit_codec
from voslab.engine.padding import Pads, crop, pad
from voslab.engine.preprocessing import working_image, working_masks
from voslab.engine.schedule import ScheduledFrame, presentation_order, schedule_frames
from voslab.engine.settings import Settings

Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the engine says of one frame.

    Attributes:
        index: presentation index.
        image: H W 3 uint8, the source picture.
        ids: H W int64, the user's object ids, 0 for background; on frames where masks were given, those masks.
        seconds: time the network took, the transfer to its device included, reading and writing excluded.
        key: whether a base model had to look at it (always, for plain sources).
        probabilities: O H W float32 in [0, 1], one map per object, at source size; None unless requested. The
            probability of the background is 1 minus their sum. Where masks were given, they are 0 or 1.
        object_ids: the user's id of each map in `probabilities`.
    """

    index: int
    image: NDArray[np.uint8]
    ids: NDArray[np.int64]
    seconds: float
    key: bool = True
    probabilities: NDArray[np.float32] | None = None
    object_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class Throughput:
    """Frames and network seconds, amortised over all frames, the first included."""

    frames: int = 0
    seconds: float = 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one frame."""
        self.frames += 1
        self.seconds += prediction.seconds

    @property
    def frames_per_second(self) -> float:
        """0 before the first frame."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def run(
    segmenter: Segmenter[Any],
    pictures: Iterable[RawFrame | NDArray[np.uint8]],
    masks: Mapping[int, Labels],
    settings: Settings | None = None,
    probabilities: bool = False,
) -> Iterator[Prediction]:
    """Carry masks through a video, one frame at a time; nothing of the past is kept but the segmenter's state.

    Args:
        segmenter: in evaluation mode, on any device.
        pictures: `RawFrame`s or plain H W 3 uint8 arrays in presentation order, from any iterable: a list, a reader, a
            camera; coded pictures in decode order. Where a core is to spare, the next is read while one is
            segmented.
        masks: label maps (H W, any integer ids, 0 is background) by index of the frame they belong to. Segmentation
            begins with the first; ids that are new in a later one are added there and win over older objects inside
            their mask. What a later mask says of ids already known is not looked at.
        settings: working size and precision.
        probabilities: whether predictions have `probabilities` and `object_ids`.

    Yields:
        one `Prediction` per picture, in presentation order. Frames before the first mask are all background.

    Raises:
        DataError: when a mask's size differs from its frame's, the size changes within the video, or a mask lies
            behind the video's last frame.
    """
    session = _Session(segmenter, settings or Settings(), probabilities)
    named = (item if isinstance(item, RawFrame) else _plain(place, item) for place, item in enumerate(pictures))
    turns = schedule_frames(prefetch(named) if _core_to_spare(session.device) else named, masks)
    last = -1
    for prediction in presentation_order(session.advance(turn, masks.get(turn.picture.index)) for turn in turns):
        last = prediction.index
        yield prediction
    late = [index for index in masks if index > last]
    if late:
        raise DataError(f"mask given for frame {min(late)}, but the video ends with frame {last}")


def _plain(index: int, image: Any) -> RawFrame:
    """A picture of its own: cameras may fill one array again and again.

    Raises:
        DataError: for an image that is not H W 3 uint8.
    """
    array = np.array(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(f"frame {index} is {array.dtype} of shape {array.shape}, a frame is H W 3 uint8 (RGB)")
    return RawFrame(index, array)


class _Session:
    """One video on its way through the engine."""

    def __init__(self, segmenter: Segmenter[Any], settings: Settings, probabilities: bool = False) -> None:
        self.segmenter = segmenter
        self.settings = settings
        self.keep_probabilities = probabilities
        self.probabilities: NDArray[np.float32] | None = None
        self.device = device_of(segmenter)
        self.table = ObjectTable()
        self.starts: list[int] = []
        self.state: Any = None
        self.size: tuple[int, int] | None = None

    def advance(self, turn: ScheduledFrame, labels: Labels | None) -> Prediction:
        picture, key, live_refs = turn
        height, width = picture.image.shape[:2]
        if self.size is not None and self.size != (height, width):
            raise DataError(
                f"frame {picture.index} is {height}x{width}, the video began with {self.size[0]}x{self.size[1]}"
            )
        self.size = (height, width)
        if labels is not None and labels.shape != self.size:
            given = "x".join(map(str, labels.shape))
            raise DataError(f"the mask of frame {picture.index} is {given}, the frame is {height}x{width}")
        new = [] if labels is None else self.table.add(np.unique(labels).tolist())
        self.starts += [picture.index] * len(new)
        started = now(self.device)
        slots = self._segment(picture, key, labels, new) if len(self.table) else np.zeros(self.size, np.uint8)
        if live_refs is not None and self.state is not None and isinstance(self.segmenter, ReferenceBuffered):
            self.state = self.segmenter.retain(self.state, live_refs)
        ids = self.table.to_ids(slots)
        probabilities, object_ids = self._take_probabilities(slots, new)
        return Prediction(picture.index, picture.image, ids, now(self.device) - started, key, probabilities, object_ids)

    # Not inference mode: a method's `begin` may want gradients, which inference tensors refuse for good.
    @torch.no_grad()
    def _segment(self, picture: RawFrame, key: bool, labels: Labels | None, new: list[int]) -> NDArray[np.integer]:
        with torch.autocast(self.device.type, self.settings.dtype, enabled=self.settings.precision != "fp32"):
            image = working_image(picture.image, self.settings, self.device)
            source, size = (picture.image.shape[0], picture.image.shape[1]), (image.shape[-2], image.shape[-1])
            masks = working_masks(labels, new, self.settings, self.device) if labels is not None and new else None
            whole = Frame(picture.index, image, key=key)
            frame, masks, pads = pad(whole, masks, self.segmenter.stride, self.segmenter.padding)
            if picture.codec is not None:
                codec = fit_codec(picture.codec, source, size, pads, self.segmenter.codec_stride)
                frame = replace(frame, codec=codec)
            if self.state is None:
                assert masks is not None, "the table holds no id before the first mask"
                self.state = self.segmenter.begin(frame, masks)
                slots: NDArray[np.integer] = np.zeros(picture.image.shape[:2], np.int64)
            else:
                logits, self.state = self.segmenter.step(frame, self.state)
                slots = self._slots(self._begun(logits, picture.index), pads)
                if masks is not None:
                    self.state = self.segmenter.add(frame, masks, self.state)
        if labels is None or not new:
            return slots
        given = self.table.to_slots(np.where(np.isin(labels, new), labels, 0))
        return np.where(given > 0, given, slots)

    def _begun(self, logits: Tensor, index: int) -> Tensor:
        """Frames that are decoded behind an object's first frame but shown before it have nothing of that object."""
        early = [slot for slot, start in enumerate(self.starts, 1) if start > index]
        return logits.index_fill(1, torch.tensor(early, device=logits.device), -torch.inf) if early else logits

    def _slots(self, logits: Tensor, pads: Pads) -> NDArray[np.integer]:
        """Softmax, crop, to the source size, argmax."""
        probabilities = crop(logits.float().softmax(1), pads)
        if tuple(probabilities.shape[-2:]) != self.size:
            probabilities = F.interpolate(probabilities, self.size, mode="bilinear", align_corners=False)
        # Of equal ones the first, as with argmax, which takes 40 ms a frame at 480p on a CPU where this takes 3.
        slots: NDArray[np.integer] = probabilities[0].max(0).indices.cpu().numpy()
        if self.keep_probabilities:
            self.probabilities = probabilities[0, 1:].cpu().numpy()
        return slots

    def _take_probabilities(
        self, slots: NDArray[np.integer], new: list[int]
    ) -> tuple[NDArray[np.float32] | None, tuple[int, ...]]:
        """Probabilities O H W of the last frame and the ids of their objects; those given on the frame are 0 or 1."""
        if not self.keep_probabilities:
            return None, ()
        count, known = len(self.table), self.probabilities
        if known is None or len(known) < count:
            maps = np.zeros((count, *slots.shape), np.float32)
            maps[: 0 if known is None else len(known)] = 0 if known is None else known
        else:
            maps = known
        for slot in range(count - len(new) + 1, count + 1):
            maps[:, slots == slot] = 0
            maps[slot - 1, slots == slot] = 1
        self.probabilities = None
        return maps, tuple(self.table.ids)


def _core_to_spare(device: torch.device) -> bool:
    """Whether a thread beside the network takes no core away from it; B-frames took a third longer where it did."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type != "cpu" or torch.get_num_threads() < cores


def device_of(segmenter: Segmenter[Any]) -> torch.device:
    """Where its parameters are; the CPU where it has none."""
    first = next(segmenter.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def now(device: torch.device) -> float:
    """Seconds on a clock, once everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
