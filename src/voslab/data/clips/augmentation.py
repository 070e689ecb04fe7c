"""Augmentation of whole clips: one draw of parameters for all frames. The only file that knows albumentations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError, generator

MEAN = (124, 116, 104)
"""Colour of the pixels that a transform uncovers: the mean of ImageNet, so zero after normalisation."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a clip. A part that is off (0, or scale 1) leaves every byte as it is.

    Attributes:
        size: height and width of the result, in pixels.
        short: length of the shorter side that frames are brought to before everything else; None leaves them.
        fit: how to get there after the affine part: `resize` to it, or pad and `crop` at random, preferring places
            with object pixels in the first frame.
        flip: chance of mirroring left and right.
        rotate: largest angle, degrees, either way.
        shear: largest shear along the rows, degrees, either way.
        scale: least and largest factor, the same for height and width.
        jitter: largest relative change of brightness, contrast and saturation, and twice the largest turn of the hue.
    """

    size: tuple[int, int]
    short: int | None = None
    fit: Literal["resize", "crop"] = "resize"
    flip: float = 0.5
    rotate: float = 0.0
    shear: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        wrong = [
            (min(self.size) < 1, f"size={tuple(self.size)} must be positive"),
            (self.short is not None and self.short < 1, f"short={self.short} must be positive"),
            (self.fit not in {"resize", "crop"}, f"fit={self.fit} must be resize or crop"),
            (not 0 <= self.flip <= 1, f"flip={self.flip} must be a probability"),
            (not 0 <= self.rotate <= 180, f"rotate={self.rotate} must be degrees from 0 to 180"),
            (not 0 <= self.shear < 90, f"shear={self.shear} must be degrees from 0 to below 90"),
            (not 0 < low <= high, f"scale={(low, high)} must be two positive factors, the smaller first"),
            (not 0 <= self.jitter <= 1, f"jitter={self.jitter} must be from 0 to 1"),
        ]
        if reasons := [reason for bad, reason in wrong if bad]:
            raise ConfigError(f"augmentation: {'; '.join(reasons)}")


@dataclass(frozen=True)
class ClipTransform:
    """A built `Augmentation`; make it with `build`.

    Attributes:
        compose: the albumentations pipeline for one frame.
    """

    compose: Any

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], labels: Sequence[NDArray[np.uint8]], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Apply one draw of parameters, named by `seed`, to all frames.

        Args:
            images: T of H W 3 uint8, all of one size.
            labels: T of H W uint8; ids are never mixed. Uncovered pixels become background.
            seed: any non-negative number.

        Returns:
            T h w 3 and T h w, uint8, of the augmentation's size.
        """
        # Frame by frame with the generators wound back: given all frames at once albumentations 2.0.8 packs them into
        # one image of 3 T channels, warps four at a time and so gives later frames a border of wrong colours. The
        # first frame's labels come along as `mask`, which is where the crop looks for objects.
        done = [
            self._frame(seed, image=image, mask=labels[0], masks=[frame_labels])
            for image, frame_labels in zip(images, labels, strict=True)
        ]
        return np.stack([one["image"] for one in done]), np.stack([one["masks"][0] for one in done])

    def _frame(self, seed: int, **frame: Any) -> dict[str, Any]:
        # Compose's own seeding gives all its transforms one and the same stream: flips would decide angles.
        for place, transform in enumerate(self.compose.transforms):
            transform.set_random_seed(int(generator(seed, place).integers(2**32)))
        result: dict[str, Any] = self.compose(**frame)
        return result


def build(augmentation: Augmentation) -> ClipTransform:
    """Make the transform of an augmentation. Imports albumentations, which then asks no server for news."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A
    import cv2

    height, width = augmentation.size
    low, high = augmentation.scale
    shear, jitter = augmentation.shear, augmentation.jitter
    steps: list[Any] = []
    if augmentation.short is not None:
        steps.append(A.SmallestMaxSize(augmentation.short, interpolation=cv2.INTER_AREA))
    if augmentation.flip > 0:
        steps.append(A.HorizontalFlip(p=augmentation.flip))
    if augmentation.rotate > 0 or shear > 0 or (low, high) != (1, 1):
        steps.append(
            A.Affine(
                rotate=(-augmentation.rotate, augmentation.rotate),
                shear={"x": (-shear, shear), "y": (0.0, 0.0)},
                scale=(low, high),
                keep_ratio=True,
                border_mode=cv2.BORDER_CONSTANT,
                fill=MEAN,
                fill_mask=0,
                p=1.0,
            )
        )
    if augmentation.fit == "resize":
        steps.append(A.Resize(height, width))
    else:
        steps.append(A.PadIfNeeded(height, width, border_mode=cv2.BORDER_CONSTANT, fill=MEAN, fill_mask=0))
        steps.append(A.CropNonEmptyMaskIfExists(height, width, ignore_values=[VOID]))
    if jitter > 0:
        steps.append(A.ColorJitter(jitter, jitter, jitter, jitter / 2, p=1.0))
    return ClipTransform(A.Compose(steps))
