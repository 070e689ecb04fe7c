"""Runs a segmenter over files, data sets, cameras and generators with one loop."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import DataError, Frame, Masks, ObjectTable, RawFrame, ReferenceBuffered, Segmenter
from voslab.core.prefetch import prefetch
from voslab.engine.codec_resize import fit_codec
from voslab.engine.mask_scope import MaskScope
from voslab.engine.padding import Pads, crop, pad
from voslab.engine.preprocessing import working_image, working_masks
from voslab.engine.schedule import ScheduledFrame, presentation_order, schedule_frames
from voslab.engine.settings import Settings

Labels = NDArray[np.integer]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Result of the engine for one frame.

    Attributes:
        index: presentation index.
        image: H W 3 uint8, the source image.
        ids: H W int64, the user's object ids, 0 for background. Given masks are returned unchanged.
        seconds: time of the network and of the transfer to its device, without reading and writing.
        key: whether it is a key frame, which a base model segments (always, for sources without codec data).
        probabilities: O H W float32 in [0, 1], one map per object, at source size; None unless requested. The
            probability of the background is 1 minus their sum. They are 0 or 1 for objects whose mask was given.
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
    """Counts frames and seconds of the network, the first frame included.

    Attributes:
        frames: number of frames.
        seconds: total time of the network.
    """

    frames: int = 0
    seconds: float = 0.0

    def add(self, prediction: Prediction) -> None:
        """Count one frame."""
        self.frames += 1
        self.seconds += prediction.seconds

    @property
    def frames_per_second(self) -> float:
        """Mean throughput; 0 before the first frame."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def run(
    segmenter: Segmenter[Any],
    frames: Iterable[RawFrame | NDArray[np.uint8]],
    masks: Mapping[int, Labels],
    settings: Settings | None = None,
    probabilities: bool = False,
    mask_scope: MaskScope = "full",
) -> Iterator[Prediction]:
    """Propagate masks through a video, one frame at a time. Only the state of the segmenter is stored.

    Args:
        segmenter: segmenter in evaluation mode, on any device.
        frames: `RawFrame`s or arrays H W 3 uint8 from any iterable, such as a list, a reader or a camera. They come in
            presentation order, frames with codec data in decode order. The next frame is read during segmentation if a
            CPU core is free.
        masks: label maps (H W, any integer ids, 0 for background) by presentation index. Segmentation starts at the
            first one. Later masks add objects with new ids and correct known ones.
        settings: working size and precision.
        probabilities: whether predictions have `probabilities` and `object_ids`.
        mask_scope: `full`: a known object that is absent from a later mask is removed, until a later mask holds it
            again. `partial`: absent objects keep their prediction outside the given masks. See `find_mask_scope`.

    Yields:
        one `Prediction` per frame, in presentation order. Frames before the first mask are background.

    Raises:
        DataError: if a mask has another size than its frame, the size of the frames changes, or a mask belongs to a
            frame after the last one.
    """
    session = _Session(segmenter, settings or Settings(), probabilities, mask_scope)
    raw = (item if isinstance(item, RawFrame) else _copy(index, item) for index, item in enumerate(frames))
    scheduled = schedule_frames(prefetch(raw) if _has_free_core(session.device) else raw, masks)
    last = -1
    for prediction in presentation_order(session.advance(each, masks.get(each.frame.index)) for each in scheduled):
        last = prediction.index
        yield prediction
    late = [index for index in masks if index > last]
    if late:
        raise DataError(f"mask given for frame {min(late)}, but the video ends with frame {last}")


def _copy(index: int, image: Any) -> RawFrame:
    """Copy an image, because cameras may reuse one array for all frames.

    Raises:
        DataError: if the image is not H W 3 uint8.
    """
    array = np.array(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(f"frame {index} is {array.dtype} of shape {array.shape}, a frame is H W 3 uint8 (RGB)")
    return RawFrame(index, array)


class Given(NamedTuple):
    """A mask that is given for a frame.

    Attributes:
        labels: H W, the user's ids.
        new: ids that appear in it for the first time, in the order of their slots.
        known: ids that appeared earlier, in the order of their slots.
        exact: ids whose whole mask in the frame it states.
    """

    labels: Labels
    new: list[int]
    known: Sequence[int]
    exact: frozenset[int]

    @property
    def corrects(self) -> bool:
        """Whether it states the mask of a known object."""
        return not self.exact.isdisjoint(self.known)

    @property
    def changes(self) -> bool:
        """Whether it states anything."""
        return bool(self.new) or self.corrects


class Uncorrected(NamedTuple):
    """The state after a corrected frame, without the correction.

    Attributes:
        index: presentation index of the corrected frame.
        state: state of the segmenter.
    """

    index: int
    state: Any


class _Session:
    """State of the engine for one video."""

    def __init__(
        self, segmenter: Segmenter[Any], settings: Settings, probabilities: bool, mask_scope: MaskScope
    ) -> None:
        self.segmenter = segmenter
        self.settings = settings
        self.keep_probabilities = probabilities
        self.mask_scope = mask_scope
        self.removed: set[int] = set()
        self.probabilities: NDArray[np.float32] | None = None
        self.device = device_of(segmenter)
        self.table = ObjectTable()
        self.starts: list[int] = []
        self.state: Any = None
        self.uncorrected: Uncorrected | None = None
        self.size: tuple[int, int] | None = None

    def advance(self, scheduled: ScheduledFrame, labels: Labels | None) -> Prediction:
        """Segment the next frame; `labels` are its given masks."""
        raw, key, live_refs = scheduled
        height, width = raw.image.shape[:2]
        if self.size is not None and self.size != (height, width):
            raise DataError(
                f"frame {raw.index} is {height}x{width}, the video began with {self.size[0]}x{self.size[1]}"
            )
        self.size = (height, width)
        if labels is not None and labels.shape != self.size:
            mask_size = "x".join(map(str, labels.shape))
            raise DataError(f"the mask of frame {raw.index} is {mask_size}, the frame is {height}x{width}")
        given = None if labels is None else self._given(raw.index, labels)
        started = now(self.device)
        slots = self._segment(raw, key, given) if len(self.table) else np.zeros(self.size, np.uint8)
        if live_refs is not None and self.state is not None and isinstance(self.segmenter, ReferenceBuffered):
            self.state = self.segmenter.retain(self.state, live_refs)
        ids = self.table.to_ids(slots)
        probabilities, object_ids = self._take_probabilities(slots, given)
        return Prediction(raw.index, raw.image, ids, now(self.device) - started, key, probabilities, object_ids)

    def _given(self, index: int, labels: Labels) -> Given:
        """Compare a given mask with the known objects, and log which of them it removes."""
        present = [int(i) for i in np.unique(labels) if i != 0]
        known = self.table.ids
        new = self.table.add(present)
        self.starts += [index] * len(new)
        self.removed -= set(present)
        if self.mask_scope == "full":
            for i in known:
                if i not in present and i not in self.removed:
                    _log.warning("frame %d: object %d is not in the given mask and is removed", index, i)
                    self.removed.add(i)
        exact = [*known, *new] if self.mask_scope == "full" else present
        return Given(labels, new, known, frozenset(exact))

    # Not inference mode: methods that adapt in `begin` need gradients, which inference tensors do not support.
    @torch.no_grad()
    def _segment(self, raw: RawFrame, key: bool, given: Given | None) -> NDArray[np.integer]:
        with torch.autocast(self.device.type, self.settings.dtype, enabled=self.settings.precision != "fp32"):
            image = working_image(raw.image, self.settings, self.device)
            source, size = (raw.image.shape[0], raw.image.shape[1]), (image.shape[-2], image.shape[-1])
            masks = None
            if given is not None and given.changes:
                masks = working_masks(given.labels, [*given.known, *given.new], self.settings, self.device)
            frame = Frame(raw.index, image, key=key)
            segmenter = self.segmenter
            frame, masks, pads = pad(frame, masks, segmenter.stride, segmenter.padding, segmenter.mean)
            if raw.codec is not None:
                codec = fit_codec(raw.codec, source, size, pads, self.segmenter.codec_stride)
                frame = replace(frame, codec=codec)
            if self.state is None:
                assert masks is not None, "the table holds no id before the first mask"
                self.state = self.segmenter.begin(frame, masks)
                slots: NDArray[np.integer] = np.zeros(raw.image.shape[:2], np.int64)
            else:
                logits = self._step(frame)
                logits = self._suppress_later_objects(logits, raw.index)
                slots = self._slots(logits if given is None else self._without(logits, given), pads)
                if masks is not None and given is not None:
                    new, known = self._split(masks, logits, given)
                    if known is not None and frame.codec is not None:
                        self.uncorrected = Uncorrected(frame.index, self.state.clone())
                    self.state = self.segmenter.add(frame, new, self.state, known)
        if given is None:
            return slots
        labels = self.table.to_slots(given.labels)
        return labels if self.mask_scope == "full" else np.where(labels > 0, labels, slots)

    def _step(self, frame: Frame) -> Tensor:
        """Segment a frame, without a correction of a frame that is shown after it but was decoded before it."""
        if self.uncorrected is not None and frame.index < self.uncorrected.index:
            logits, state = self.segmenter.step(frame, self.uncorrected.state)
            self.uncorrected = self.uncorrected._replace(state=state)
        else:
            self.uncorrected = None
            logits, self.state = self.segmenter.step(frame, self.state)
        return logits

    def _split(self, masks: Masks, logits: Tensor, given: Given) -> tuple[Masks, Masks | None]:
        """Split given masks of all objects into those of new ones and those of known ones, as `add` takes them.

        Args:
            masks: given masks B O H W of all slots, with new ones at the end; empty where an object has none.
            logits: prediction B (K+1) H W for the K known slots.
            given: the given mask.

        Returns:
            masks of the new objects, and of the known ones; None if the given mask says nothing of these.
        """
        count = len(given.known)
        new = Masks(masks.probs[:, count:], masks.slot_mask[:, count:])
        if not given.corrects:
            return new, None
        probs = masks.probs[:, :count]
        if self.mask_scope == "partial":
            exact = torch.tensor([i in given.exact for i in given.known], device=probs.device).view(1, -1, 1, 1)
            predicted = logits.float().softmax(1)[:, 1:] * (1 - (probs * exact).amax(1, keepdim=True))
            probs = torch.where(exact, probs, predicted)
        in_use = torch.tensor([[i not in self.removed for i in given.known]], device=probs.device)
        return new, Masks(probs, in_use)

    def _without(self, logits: Tensor, given: Given) -> Tensor:
        """Exclude objects whose whole mask is given."""
        slots = [slot for slot, i in enumerate(given.known, 1) if i in given.exact]
        return logits.index_fill(1, torch.tensor(slots, device=logits.device), -torch.inf) if slots else logits

    def _suppress_later_objects(self, logits: Tensor, index: int) -> Tensor:
        """Remove objects that start after frame `index`, which may be decoded after their first frame."""
        early = [slot for slot, start in enumerate(self.starts, 1) if start > index]
        return logits.index_fill(1, torch.tensor(early, device=logits.device), -torch.inf) if early else logits

    def _slots(self, logits: Tensor, pads: Pads) -> NDArray[np.integer]:
        """Convert logits to slots H W at the source size."""
        probabilities = crop(logits.float().softmax(1), pads)
        if tuple(probabilities.shape[-2:]) != self.size:
            probabilities = F.interpolate(probabilities, self.size, mode="bilinear", align_corners=False)
        # Equal to `argmax`, which takes 40 ms for a 480p frame on a CPU, this 3 ms.
        slots: NDArray[np.integer] = probabilities[0].max(0).indices.cpu().numpy()
        if self.keep_probabilities:
            self.probabilities = probabilities[0, 1:].cpu().numpy()
        return slots

    def _take_probabilities(
        self, slots: NDArray[np.integer], given: Given | None
    ) -> tuple[NDArray[np.float32] | None, tuple[int, ...]]:
        """Return the probabilities O H W of the last frame, 0 or 1 for given masks, and the ids of the objects."""
        if not self.keep_probabilities:
            return None, ()
        count, predicted = len(self.table), self.probabilities
        if predicted is None or len(predicted) < count:
            maps = np.zeros((count, *slots.shape), np.float32)
            maps[: 0 if predicted is None else len(predicted)] = 0 if predicted is None else predicted
        else:
            maps = predicted
        for slot, i in enumerate(self.table.ids, 1):
            if given is not None and i in given.exact:
                maps[:, slots == slot] = 0
                maps[slot - 1] = slots == slot
        self.probabilities = None
        return maps, tuple(self.table.ids)


def _has_free_core(device: torch.device) -> bool:
    """Whether a reader thread leaves the network all its cores. Otherwise B-frames took a third longer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type != "cpu" or torch.get_num_threads() < cores


def device_of(segmenter: Segmenter[Any]) -> torch.device:
    """Return the device of a segmenter's parameters; the CPU if it has none."""
    first = next(segmenter.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def now(device: torch.device) -> float:
    """Synchronise the device and return the time of a monotonic clock in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
