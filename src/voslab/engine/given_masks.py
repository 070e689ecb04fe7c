"""Interprets the masks that are given for frames: which objects are new, corrected or removed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voslab.core import ConfigError, Masks, object_ids

MaskScope = Literal["full", "partial"]
"""`full`: a given mask is the whole truth of its frame. `partial`: it is the truth of the objects in it only."""
_log = logging.getLogger(__name__)


def check_mask_scope(value: Any) -> MaskScope | None:
    """Check the scope that a user states; None: `find_mask_scope` finds it.

    Raises:
        ConfigError: if it is unknown.
    """
    if value is not None and value not in get_args(MaskScope):
        raise ConfigError(f"mask_scope={value}: choose from {', '.join(get_args(MaskScope))}, null")
    scope: MaskScope | None = value
    return scope


def find_mask_scope(masks: Mapping[int, NDArray[np.integer]]) -> MaskScope:
    """Return `partial` if every mask after the first holds new objects only, otherwise `full`.

    Masks are read in order, up to the first one that decides.

    Args:
        masks: label maps H W by frame index; 0 is background.

    Example:
        >>> first, second = np.array([[1, 0, 0]]), np.array([[0, 2, 0]])
        >>> find_mask_scope({0: first, 5: second}), find_mask_scope({0: first, 5: first + second})
        ('partial', 'full')
    """
    if len(masks) < 2:
        return "full"
    known: set[int] = set()
    for frame in sorted(masks):
        present = set(object_ids(masks[frame]))
        if known and (not present or present & known):
            return "full"
        known |= present
    _log.info("later masks hold new objects only: objects that are not in them stay (mask_scope=partial)")
    return "partial"


@dataclass(frozen=True, slots=True)
class GivenMask:
    """A mask that is given for a frame.

    Attributes:
        labels: label map H W, ids of the user.
        new: ids that appear for the first time, in the order of their slots.
        known: ids that appeared earlier, in the order of their slots.
        exact: ids of the objects whose mask in the frame is known from `labels`, empty ones included.
        removed: ids of known objects that are not segmented any more.
    """

    labels: NDArray[np.integer]
    new: list[int]
    known: Sequence[int]
    exact: frozenset[int]
    removed: frozenset[int]

    @property
    def corrects(self) -> bool:
        """Whether it holds the mask of a known object."""
        return not self.exact.isdisjoint(self.known)

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return bool(self.new) or self.corrects


def split_given(masks: Masks, logits: Tensor, given: GivenMask) -> tuple[Masks, Masks | None]:
    """Split the masks given for a frame into those of new and of known objects, as `Segmenter.add` takes them.

    A correction is certain where it differs from the prediction. Where it agrees, the predicted probabilities stay, so
    a mask that confirms the prediction changes nothing.

    Args:
        masks: given masks B O H W of all slots, with new ones at the end; empty where an object has none.
        logits: prediction B (K+1) H W for the K known slots.
        given: the given mask.

    Returns:
        masks of the new objects, and of the known ones; None if no known object is corrected.
    """
    count = len(given.known)
    new = Masks(masks.probs[:, count:], masks.slot_mask[:, count:])
    if not given.corrects:
        return new, None
    probs = masks.probs[:, :count]
    exact = torch.tensor([i in given.exact for i in given.known], device=probs.device).view(1, -1, 1, 1)
    predicted = logits.float().softmax(1)
    slots = torch.arange(1, count + 1, device=probs.device).view(1, -1, 1, 1)
    same = (probs >= 0.5) == (predicted.argmax(1, keepdim=True) == slots)
    changed = exact & (~same & exact).any(1, keepdim=True)
    rest = predicted[:, 1:] * (1 - (probs * changed).amax(1, keepdim=True))
    in_use = torch.tensor([[i not in given.removed for i in given.known]], device=probs.device)
    return new, Masks(torch.where(changed, probs, rest), in_use)
