"""Augments clips with albumentations, with the same random parameters for all frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError, generator
from voslab.core.parameters import Side, fits

MEAN = (124, 116, 104)
"""Fill colour of uncovered pixels: the mean of ImageNet, which is zero after normalisation."""


@dataclass(frozen=True)
class Augmentation:
    """Parameters of clip augmentation. A disabled operation (0, or scale 1) leaves pixels unchanged.

    Attributes:
        size: Output height and width in pixels.
        short: Length of the shorter side after an initial resize; of several, each clip gets a random one. None for no
            initial resize.
        fit: How to reach `size` after the affine transform: `resize`, or random padding and `crop` around object pixels
            of the first frame.
        flip: Probability of a horizontal flip.
        rotate: Maximum rotation in degrees, in both directions.
        shear: Maximum horizontal shear in degrees, in both directions.
        scale: Minimum and maximum scale factor, equal for height and width.
        jitter: Maximum relative change of brightness, contrast and saturation, and twice the maximum shift of hue.
        blur: Probability of blur, by motion or by focus.
        dark: Probability of low light with noise.
        jpeg: Probability of JPEG artefacts.

    Raises:
        ConfigError: If a value is out of range.
    """

    size: tuple[Side, Side]
    short: Side | tuple[Side, ...] | None = None
    fit: Literal["resize", "crop"] = "resize"
    flip: float = 0.5
    rotate: float = 0.0
    shear: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    jitter: float = 0.0
    blur: float = 0.0
    dark: float = 0.0
    jpeg: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        wrong = [
            (not all(fits(side, Side) for side in self.size), f"size={tuple(self.size)} must be two sides in pixels"),
            (not fits(self.short, Side | tuple[Side, ...] | None), f"short={self.short} must be sides in pixels"),
            (self.fit not in {"resize", "crop"}, f"fit={self.fit} must be resize or crop"),
            (not 0 <= self.flip <= 1, f"flip={self.flip} must be a probability"),
            (not 0 <= self.rotate <= 180, f"rotate={self.rotate} must be degrees from 0 to 180"),
            (not 0 <= self.shear < 90, f"shear={self.shear} must be degrees from 0 to below 90"),
            (not 0 < low <= high, f"scale={(low, high)} must be two positive factors, the smaller first"),
            (not 0 <= self.jitter <= 1, f"jitter={self.jitter} must be from 0 to 1"),
            *(
                (not 0 <= value <= 1, f"{name}={value} must be a probability")
                for name, value in (("blur", self.blur), ("dark", self.dark), ("jpeg", self.jpeg))
            ),
        ]
        if reasons := [reason for bad, reason in wrong if bad]:
            raise ConfigError(f"augmentation: {'; '.join(reasons)}")


@dataclass(frozen=True)
class ClipTransform:
    """Augmentation pipeline; see `build_transform`.

    Attributes:
        compose: Albumentations pipeline for one frame.
    """

    compose: Any

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], labels: Sequence[NDArray[np.uint8]], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Apply the same random parameters to all frames.

        Args:
            images: T frames H W 3 uint8 of equal size.
            labels: T label maps H W uint8; ids are not interpolated. Uncovered pixels become background.
            seed: Non-negative seed of the parameters.

        Returns:
            Images T h w 3 and labels T h w, uint8, in the output size.
        """
        # Each frame is transformed separately, with reseeded generators. albumentations 2.0.8 would pack all frames
        # into one image of 3 T channels and warp four channels at a time, which gives later frames a wrong border
        # colour. The crop looks for objects in `mask`, the labels of the first frame.
        frames = [
            self._transform_frame(seed, image=image, mask=labels[0], masks=[frame_labels])
            for image, frame_labels in zip(images, labels, strict=True)
        ]
        return np.stack([frame["image"] for frame in frames]), np.stack([frame["masks"][0] for frame in frames])

    def _transform_frame(self, seed: int, **frame: Any) -> dict[str, Any]:
        # `Compose` seeds all its transforms equally, so that flips and angles would be correlated.
        for index, transform in enumerate(self.compose.transforms):
            transform.set_random_seed(int(generator(seed, index).integers(2**32)))
        result: dict[str, Any] = self.compose(**frame)
        return result


def build_transform(augmentation: Augmentation) -> ClipTransform:
    """Build the transform of an augmentation. Imports albumentations with its online update check disabled.

    Args:
        augmentation: The parameters.

    Returns:
        The transform.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A
    import cv2

    height, width = augmentation.size
    low, high = augmentation.scale
    shear, jitter = augmentation.shear, augmentation.jitter
    steps: list[Any] = []
    if augmentation.short is not None:
        sides = [augmentation.short] if isinstance(augmentation.short, int) else list(augmentation.short)
        steps.append(A.SmallestMaxSize(sides, interpolation=cv2.INTER_AREA))
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
    if augmentation.blur > 0:
        steps.append(A.OneOf([A.MotionBlur((3, 11)), A.GaussianBlur((3, 7))], p=augmentation.blur))
    if augmentation.dark > 0:
        steps.append(A.Sequential([A.RandomGamma((130, 260), p=1), A.GaussNoise((0.01, 0.05), p=1)], augmentation.dark))
    if augmentation.jpeg > 0:
        steps.append(A.ImageCompression(quality_range=(15, 70), p=augmentation.jpeg))
    return ClipTransform(A.Compose(steps))
