"""Segments one video frame by frame: sizes, padding, object ids and given masks around a segmenter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import DataError, Frame, Masks, ObjectTable, RawFrame, ReferenceBuffered, Segmenter, object_ids
from voslab.engine.codec_resize import fit_codec
from voslab.engine.device import device_of, now
from voslab.engine.given_masks import GivenMask, MaskScope, split_given
from voslab.engine.padding import Pads, crop, pad
from voslab.engine.prediction import Prediction
from voslab.engine.preprocessing import working_image, working_masks
from voslab.engine.schedule import ScheduledFrame
from voslab.engine.settings import Settings
from voslab.engine.truth import Truth, check_truth

_log = logging.getLogger(__name__)
Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Uncorrected:
    """The state after a corrected frame, without the correction.

    Attributes:
        index: presentation index of the corrected frame.
        state: state of the segmenter.
    """

    index: int
    state: Any


class Session:
    """State of the engine for one video."""

    def __init__(
        self,
        segmenter: Segmenter[Any],
        settings: Settings,
        probabilities: bool,
        mask_scope: MaskScope,
        number: Callable[[int], int] = int,
        truth: Truth | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.truth = check_truth(segmenter, truth)
        self.settings = settings
        self.keep_probabilities = probabilities
        self.mask_scope = mask_scope
        self.number = number
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
            began = f"{self.size[0]}x{self.size[1]}"
            raise DataError(f"frame {self.number(raw.index)} is {height}x{width}, the video began with {began}")
        self.size = (height, width)
        if labels is not None and labels.shape != self.size:
            mask_size = "x".join(map(str, labels.shape))
            raise DataError(f"the mask of frame {self.number(raw.index)} is {mask_size}, the frame is {height}x{width}")
        given = None if labels is None else self._given(raw.index, labels)
        started = now(self.device)
        slots = self._segment(raw, key, given) if len(self.table) else np.zeros(self.size, np.uint8)
        if live_refs is not None and self.state is not None and isinstance(self.segmenter, ReferenceBuffered):
            self.state = self.segmenter.retain(self.state, live_refs)
        ids = self.table.to_ids(slots)
        probabilities, object_ids = self._take_probabilities(slots, given)
        seconds = now(self.device) - started
        return Prediction(raw.index, raw.image, ids, seconds, key, probabilities, object_ids, raw.time)

    def recall(self, earlier: Iterator[tuple[RawFrame, Labels]], index: int) -> None:
        """Memorise frames from before the video's part, whose objects start at frame `index`."""
        recalled = False
        for raw, labels in earlier:
            self.advance(ScheduledFrame(raw, True), labels)
            recalled = True
        if recalled:
            self.starts = [index] * len(self.starts)

    def _given(self, index: int, labels: Labels) -> GivenMask:
        """Compare a given mask with the known objects, and log which of them it removes."""
        present = object_ids(labels)
        known = self.table.ids
        new = self.table.add(present)
        self.starts += [index] * len(new)
        self.removed -= set(present)
        if self.mask_scope == "full":
            for i in known:
                if i not in present and i not in self.removed:
                    number = self.number(index)
                    _log.warning("frame %d: object %d is not in the given mask and is removed", number, i)
                    self.removed.add(i)
        exact = [*known, *new] if self.mask_scope == "full" else present
        return GivenMask(labels, new, known, frozenset(exact), frozenset(self.removed))

    # Not inference mode: methods that adapt in `begin` need gradients, which inference tensors do not support.
    @torch.no_grad()
    def _segment(self, raw: RawFrame, key: bool, given: GivenMask | None) -> NDArray[np.integer]:
        with torch.autocast(self.device.type, self.settings.dtype, enabled=self.settings.precision != "fp32"):
            image = working_image(raw.image, self.settings, self.device)
            source, size = (raw.image.shape[0], raw.image.shape[1]), (image.shape[-2], image.shape[-1])
            masks, truth = None, self._truth(raw.index, given) if key and self.state is not None else None
            if given is not None and given.changes:
                masks = working_masks(given.labels, [*given.known, *given.new], self.settings, self.device)
            frame = Frame(raw.index, image, key=key)
            segmenter = self.segmenter
            if truth is not None:
                truth = pad(frame, truth, segmenter.stride, segmenter.padding)[1]
            frame, masks, pads = pad(frame, masks, segmenter.stride, segmenter.padding, segmenter.mean)
            if raw.codec is not None:
                codec = fit_codec(raw.codec, source, size, pads, self.segmenter.codec_stride)
                frame = replace(frame, codec=codec)
            frame = replace(frame, truth=truth)
            if self.state is None:
                assert masks is not None, "the table holds no id before the first mask"
                self.state = self.segmenter.begin(frame, masks)
                slots: NDArray[np.integer] = np.zeros(raw.image.shape[:2], np.int64)
            else:
                logits = self._step(frame)
                logits = self._suppress_later_objects(logits, raw.index)
                slots = self._slots(logits if given is None else self._without(logits, given), pads)
                if masks is not None and given is not None:
                    new, known = split_given(masks, logits, given)
                    if known is not None and frame.codec is not None:
                        self.uncorrected = Uncorrected(frame.index, self.state.clone())
                    self.state = self.segmenter.add(frame, new, self.state, known)
        if given is None:
            return slots
        labels = self.table.to_slots(given.labels)
        return labels if self.mask_scope == "full" else np.where(labels > 0, labels, slots)

    def _truth(self, index: int, given: GivenMask | None) -> Masks | None:
        """Read the true masks of a frame, of the objects that are known before its own masks are added."""
        if self.truth is None:
            return None
        labels = self.truth(index)
        if labels is None:
            raise DataError(f"frame {self.number(index)} has no true mask, which the oracle needs on every key frame")
        ids = self.table.ids if given is None else given.known
        return working_masks(labels, ids, self.settings, self.device) if ids else None

    def _step(self, frame: Frame) -> Tensor:
        """Segment a frame, without a correction of a frame that is shown after it but was decoded before it."""
        if self.uncorrected is not None and frame.index < self.uncorrected.index:
            logits, state = self.segmenter.step(frame, self.uncorrected.state)
            self.uncorrected = replace(self.uncorrected, state=state)
        else:
            self.uncorrected = None
            logits, self.state = self.segmenter.step(frame, self.state)
        return logits

    def _without(self, logits: Tensor, given: GivenMask) -> Tensor:
        """Exclude objects whose whole mask is given."""
        return _exclude(logits, [slot for slot, i in enumerate(given.known, 1) if i in given.exact])

    def _suppress_later_objects(self, logits: Tensor, index: int) -> Tensor:
        """Remove objects that start after frame `index`, which may be decoded after their first frame."""
        later = [slot for slot, start in enumerate(self.starts, 1) if start > index]
        # Without a correction that was made later, the state does not know the objects that came with it.
        return _exclude(logits, [slot for slot in later if slot < logits.shape[1]])

    def _slots(self, logits: Tensor, pads: Pads) -> NDArray[np.integer]:
        """Convert logits to slots H W at the source size."""
        probabilities = self._probabilities(logits, pads, 1.0)
        # Equal to `argmax`, which takes 40 ms for a 480p frame on a CPU, this 3 ms.
        slots: NDArray[np.integer] = probabilities[0].max(0).indices.cpu().numpy()
        if self.keep_probabilities:
            if self.settings.temperature != 1:
                probabilities = self._probabilities(logits, pads, self.settings.temperature)
            self.probabilities = probabilities[0, 1:].cpu().numpy()
        return slots

    def _probabilities(self, logits: Tensor, pads: Pads, temperature: float) -> Tensor:
        """Convert logits to probabilities at the source size."""
        probabilities = crop((logits.float() / temperature).softmax(1), pads)
        if tuple(probabilities.shape[-2:]) != self.size:
            probabilities = F.interpolate(probabilities, self.size, mode="bilinear", align_corners=False)
        return probabilities

    def _take_probabilities(
        self, slots: NDArray[np.integer], given: GivenMask | None
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


def _exclude(logits: Tensor, slots: list[int]) -> Tensor:
    return logits.index_fill(1, torch.tensor(slots, device=logits.device), -torch.inf) if slots else logits
