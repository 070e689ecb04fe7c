"""Runs networks over the videos of golden vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.support import Golden
from voslab.core import Frame, Masks, Segmenter
from voslab.engine import crop, pad


def run_video(
    model: Segmenter[Any], golden: Golden, late: int | None = None, frames: int | None = None
) -> tuple[Tensor, Any]:
    """Probabilities T O+1 H W of the first frames, and the last state; the last object is given in frame `late`."""
    images, given = golden.given()
    objects = given.probs.shape[1]
    first = objects - (late is not None)
    now, new = (Masks(given.probs[:, part], given.slot_mask[:, part]) for part in (slice(first), slice(first, None)))
    options = model.stride, model.padding, model.mean
    frame, masks, pads = pad(Frame(0, images[:1]), now, *options)
    assert masks is not None
    state, probs = model.begin(frame, masks), []
    for index in range(frames or len(images)):
        if index:
            frame, _, _ = pad(Frame(index, images[index : index + 1]), None, *options)
            _, state = model.step(frame, state)
        if index == late:
            shifted = new.with_probs(new.probs.roll((3, 5), (2, 3)))
            _, masks, _ = pad(Frame(index, images[index : index + 1]), shifted, *options)
            assert masks is not None
            state = model.add(frame, masks, state)
        shown = crop(state.masks.probs, pads)[0]
        shown = F.pad(shown, (0, 0, 0, 0, 0, objects - len(shown)))
        probs.append(torch.cat([1 - shown.sum(0, keepdim=True), shown]))
    return torch.stack(probs), state
