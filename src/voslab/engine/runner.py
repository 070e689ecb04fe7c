"""Runs a segmenter over files, data sets, cameras and generators with one loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voslab.core import DataError, RawFrame, Segmenter
from voslab.core.prefetch import prefetch
from voslab.engine.given_masks import MaskScope, find_mask_scope
from voslab.engine.live import LiveFrames
from voslab.engine.prediction import Prediction
from voslab.engine.schedule import presentation_order, schedule_frames
from voslab.engine.session import Labels, Session
from voslab.engine.settings import Settings
from voslab.engine.truth import Truth


def run(
    segmenter: Segmenter[Any],
    frames: Iterable[RawFrame | NDArray[np.uint8]],
    masks: Mapping[int, Labels],
    settings: Settings | None = None,
    probabilities: bool = False,
    mask_scope: MaskScope | None = None,
    *,
    start: int | None = None,
    earlier: Iterable[tuple[RawFrame, Labels]] = (),
    number: Callable[[int], int] = int,
    truth: Truth | None = None,
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
            again. `partial`: absent objects keep their prediction outside the given masks. None: see `find_mask_scope`.
        start: index of the first frame to yield; frames before it, which coded frames may refer to, are skipped. None:
            the first frame.
        earlier: frames before `start` and their given masks. They are segmented right before the first frame of
            `masks`, and not yielded.
        number: number of a frame in messages, from its index.
        truth: returns the true label map H W of a frame by presentation index, for segmenters that need it.

    Yields:
        one `Prediction` per frame, in presentation order. Frames before the first mask are background.

    Raises:
        ConfigError: if the segmenter needs true masks and there are none.
        DataError: if a mask has another size than its frame, the size of the frames changes, or a mask belongs to a
            frame after the last one.
    """
    scope = mask_scope or find_mask_scope(masks)
    session = Session(segmenter, settings or Settings(), probabilities, scope, number, truth)
    raw = (item if isinstance(item, RawFrame) else raw_frame(index, item) for index, item in enumerate(frames))
    ahead = _has_free_core(session.device)
    if isinstance(frames, LiveFrames):
        frames.check_masks(masks)
        ahead = False  # frames of a stream would get old while they wait
    scheduled = schedule_frames(prefetch(raw) if ahead else raw, masks)
    last = -1

    def segmented() -> Iterator[Prediction]:
        before = iter(earlier)
        for each in scheduled:
            if start is not None and each.frame.index < start:
                continue
            labels = masks.get(each.frame.index)
            if labels is not None:
                session.recall(before, each.frame.index)
            yield session.advance(each, labels)

    for prediction in presentation_order(segmented(), start):
        last = prediction.index
        yield prediction
    late = [index for index in masks if index > last]
    if late:
        raise DataError(f"mask given for frame {min(late)}, but the video ends with frame {last}")


def raw_frame(index: int, image: Any) -> RawFrame:
    """Copy an image, because cameras may reuse one array for all frames.

    Args:
        index: presentation index.
        image: H W 3 uint8.

    Raises:
        DataError: if the image is not H W 3 uint8.
    """
    array = np.array(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(f"frame {index} is {array.dtype} of shape {array.shape}, a frame is H W 3 uint8 (RGB)")
    return RawFrame(index, array)


def _has_free_core(device: torch.device) -> bool:
    """Whether a reader thread leaves the network all its cores. Otherwise B-frames took a third longer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return device.type != "cpu" or torch.get_num_threads() < cores
