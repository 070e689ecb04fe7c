"""Adds look-alikes and occluders to clips: moving copies of objects that belong to the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Distraction:
    """How often something distracts from the targets of a clip.

    Attributes:
        lookalike: Probability that a copy of a target moves through the clip behind the targets.
        occluder: Probability that an object of another clip crosses a target in front of it.

    Raises:
        ConfigError: If a value is no probability.
    """

    lookalike: float = 0.0
    occluder: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.lookalike <= 1 and 0 <= self.occluder <= 1):
            raise ConfigError(
                f"distraction: lookalike={self.lookalike}, occluder={self.occluder} must be probabilities"
            )


def add_lookalike(images: Images, slots: Images, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Paste a moving copy of a target behind all objects. It belongs to the background, so the labels don't change.

    Args:
        images: T frames, H W 3.
        slots: T label maps, H W: 0 for background, targets from 1, and `VOID`.
        rng: Random generator.

    Returns:
        The frames with the copy; the frames as they are if the first one has no target.
    """
    target = _pick(slots[0], rng)
    if target is None:
        return list(images)
    extent = max(np.ptp(axis) + 1 for axis in np.nonzero(slots[0] == target))
    offset = _direction(rng) * extent * rng.uniform(0.5, 1.5)
    velocity = _direction(rng) * extent * rng.uniform(0.0, 0.3)
    mirrored = rng.random() < 0.5
    result = []
    for t, (image, labels) in enumerate(zip(images, slots, strict=True)):
        mask = (labels == target).astype(np.uint8)
        source, copy = image, mask
        x, y = offset + velocity * t
        if mirrored and mask.any():
            # The mirror image stands where the target stands, before it is shifted.
            columns = np.nonzero(mask.any(0))[0]
            x += columns[0] + columns[-1] - (mask.shape[1] - 1)
            source, copy = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
        size = mask.shape[::-1]
        moved = cv2.warpAffine(source, shift, size)
        result.append(_blend(image, moved, cv2.warpAffine(copy, shift, size, flags=cv2.INTER_NEAREST) * (labels == 0)))
    return result


def add_occluder(
    images: Images, slots: Images, donor: NDArray[np.uint8], cutout: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Move an object of another clip across a target, in front of everything.

    Args:
        images: T frames, H W 3.
        slots: T label maps, H W: 0 for background, targets from 1, and `VOID`.
        donor: Image with the other object, h w 3.
        cutout: Mask of the other object, h w.
        rng: Random generator.

    Returns:
        The frames and label maps with the occluder as background; unchanged if there is no target or no occluder.
    """
    target = _pick(slots[0], rng)
    if target is None or not cutout.any():
        return list(images), list(slots)
    rows, columns = (slice(axis.min(), axis.max() + 1) for axis in np.nonzero(cutout))
    piece, mask = donor[rows, columns], cutout[rows, columns].astype(np.uint8)
    height, width = slots[0].shape
    extent = np.sqrt((slots[0] == target).sum())
    factor = float(np.clip(extent * rng.uniform(0.5, 1.2), 8, 0.5 * min(height, width)) / max(mask.shape))
    met = int(rng.integers(1, max(2, len(images))))
    place = _centre(slots[min(met, len(slots) - 1)] == target)
    place = _centre(slots[0] == target) if place is None else place
    assert place is not None
    velocity = _direction(rng) * extent * rng.uniform(0.4, 1.2)
    result, labels = [], []
    for t, (image, slot) in enumerate(zip(images, slots, strict=True)):
        x, y = place + velocity * (t - met) - factor * np.array(mask.shape[::-1]) / 2
        shift = np.array([[factor, 0, x], [0, factor, y]], np.float32)
        covered = cv2.warpAffine(mask, shift, (width, height), flags=cv2.INTER_NEAREST)
        result.append(_blend(image, cv2.warpAffine(piece, shift, (width, height)), covered))
        labels.append(np.where((covered > 0) & (slot != VOID), 0, slot).astype(np.uint8))
    return result, labels


def _pick(labels: NDArray[np.uint8], rng: np.random.Generator) -> int | None:
    present = np.setdiff1d(np.unique(labels), [0, VOID])
    return int(rng.choice(present)) if len(present) else None


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _centre(mask: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return the mean position (x, y) of a mask; None if it is empty."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]) if len(rows) else None


def _blend(below: NDArray[np.uint8], above: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paste within a mask. Its edge is soft: a hard one would tell copies from objects."""
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)[..., None] * (mask > 0)[..., None]
    blended: NDArray[np.uint8] = (below + alpha * (above.astype(np.float32) - below)).round().astype(np.uint8)
    return blended
