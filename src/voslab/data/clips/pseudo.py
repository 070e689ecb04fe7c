"""Generates pseudo-clips: a still image with objects pasted from other images, under random motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError
from voslab.core.parameters import Side
from voslab.data.clips.augmentation import MEAN
from voslab.data.clips.dataset import ClipSettings, RawClip
from voslab.data.clips.random_motion import Floats, RandomMotion
from voslab.data.sources.stills import VOID_STILL, Still, Stills


@dataclass(frozen=True)
class PseudoClips:
    """Parameters of pseudo-clips. The still image moves as the background; pasted objects move independently.

    Attributes:
        stills: Function that opens the still images.
        size: Height and width of the frames in pixels.
        motion: Motion of the background.
        zoom: Minimum and maximum scale factor, relative to the smallest at which the image fills the frame.
        paste: Minimum and maximum number of objects pasted from other images.
        paste_motion: Motion of pasted objects.
        paste_size: Minimum and maximum area of a pasted object, as a fraction of the frame.
        light: Maximum relative change of brightness and contrast per frame.

    Raises:
        ConfigError: If a value is out of range.
    """

    stills: Callable[[], Stills]
    size: tuple[Side, Side] = (384, 384)
    motion: RandomMotion = field(default_factory=RandomMotion)
    zoom: tuple[float, float] = (1.0, 1.6)
    paste: tuple[int, int] = (0, 2)
    paste_motion: RandomMotion = field(default_factory=lambda: RandomMotion(shift=0.08, rotate=12, scale=0.08, shear=6))
    paste_size: tuple[float, float] = (0.02, 0.15)
    light: float = 0.1

    def __post_init__(self) -> None:
        wrong = [
            (min(self.size) < 16, f"size={tuple(self.size)} must be 16 or more"),
            (not 0 < self.zoom[0] <= self.zoom[1], f"zoom={tuple(self.zoom)} must be two positive factors in order"),
            (not 0 <= self.paste[0] <= self.paste[1], f"paste={tuple(self.paste)} must be two numbers in order"),
            (not 0 < self.paste_size[0] <= self.paste_size[1] <= 1, f"paste_size={tuple(self.paste_size)} are shares"),
            (not 0 <= self.light < 1, f"light={self.light} must be from 0 to below 1"),
        ]
        if reasons := [reason for bad, reason in wrong if bad]:
            raise ConfigError(f"pseudo-clips: {'; '.join(reasons)}")

    def clips(self, settings: ClipSettings) -> StillClips:
        """Open the still images.

        Args:
            settings: Parameters of clip sampling.

        Returns:
            Source of clips.

        Raises:
            DataError: If the images are missing or damaged.
        """
        return StillClips(self.stills(), self, settings)


class _Layer(NamedTuple):
    """A moving layer. A pasted layer covers only its object.

    Attributes:
        image: H W 3 uint8.
        labels: H W int16.
        maps: Homographies from the layer to the frames, T 3 3.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int16]
    maps: Floats


@dataclass(frozen=True, eq=False)
class StillClips:
    """A `ClipSource` of pseudo-clips.

    Attributes:
        stills: The still images.
        parameters: Parameters of pseudo-clips.
        settings: Parameters of clip sampling.
    """

    stills: Stills
    parameters: PseudoClips
    settings: ClipSettings

    def __len__(self) -> int:
        return len(self.stills)

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        """Generate a clip from image `index`; see `ClipSource.draw`. Its name lists all images used."""
        parameters, frames = self.parameters, self.settings.frames
        still = self.stills.load(index)
        layers = [self._background(still, rng)]
        names = [still.name]
        for _ in range(int(rng.integers(parameters.paste[0], parameters.paste[1] + 1))):
            other = self.stills.load(int(rng.integers(len(self.stills))))
            top = max(int(layer.labels.max(initial=0)) for layer in layers)
            pasted = self._cut(other, top + 1, rng)
            if pasted is not None:
                layers.append(pasted)
                names.append(other.name)
        fields = [
            [parameters.motion.field(rng, parameters.size), parameters.paste_motion.field(rng, parameters.size)]
            for _ in range(frames)
        ]
        images, labels, light = [], [], parameters.light
        for t in range(frames):
            image, label = self._compose(layers, t, fields[t])
            gain, offset = rng.uniform(-light, light, 2) if light else (0.0, 0.0)
            images.append(cv2.convertScaleAbs(image, alpha=1 + gain, beta=128 * offset) if light else image)
            labels.append(label.astype(np.int32))
        return RawClip(images, labels, VOID_STILL, "+".join(names))

    def require_object(self, index: int) -> None:
        """Check that the image has an object, unless one is always pasted; see `ClipSource.require_object`."""
        if not (self.stills.load(index).labels > 0).any() and self.parameters.paste[0] == 0:
            raise DataError(f"still {self.stills.load(index).name}: no object in its mask")

    def _background(self, still: Still, rng: np.random.Generator) -> _Layer:
        """Return the still image as a layer that fills the first frame, near one of its objects if it has any."""
        height, width = self.parameters.size
        image, labels = _shrink(still, max(height / still.labels.shape[0], width / still.labels.shape[1]))
        rows, columns = labels.shape
        zoom = max(height / rows, width / columns) * rng.uniform(*self.parameters.zoom)
        x, y = _object_centre(labels, rng)
        # The image must cover the whole frame.
        left = np.clip(x * zoom - rng.uniform(0.3, 0.7) * width, 0, max(0.0, columns * zoom - width))
        top = np.clip(y * zoom - rng.uniform(0.3, 0.7) * height, 0, max(0.0, rows * zoom - height))
        to_frame = np.array([[zoom, 0, -left], [0, zoom, -top], [0, 0, 1]])
        return _Layer(
            image, labels, self.parameters.motion.maps(rng, self.settings.frames, self.parameters.size) @ to_frame
        )

    def _cut(self, still: Still, identity: int, rng: np.random.Generator) -> _Layer | None:
        """Cut an object of a still image as a layer with its own motion; None if no object has `min_area` pixels."""
        ids, areas = np.unique(still.labels[still.labels > 0], return_counts=True)
        ids, areas = ids[areas >= self.settings.min_area], areas[areas >= self.settings.min_area]
        if not len(ids):
            return None
        chosen = int(rng.integers(len(ids)))
        mask = still.labels == ids[chosen]
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        height, width = self.parameters.size
        fraction = np.exp(rng.uniform(*np.log(self.parameters.paste_size)))
        zoom = float(np.clip(np.sqrt(fraction * height * width / areas[chosen]), 0.1, 2))
        cutout = Still(still.image[box], np.where(mask[box], identity, 0).astype(np.int32), still.name)
        image, labels = _shrink(cutout, zoom)
        zoom *= mask[box].shape[0] / labels.shape[0]
        angle, mirror = np.deg2rad(rng.uniform(-20, 20)), rng.choice([-1, 1])
        rotation = zoom * np.array([[mirror * np.cos(angle), -np.sin(angle)], [mirror * np.sin(angle), np.cos(angle)]])
        centre = rng.uniform(0.15, 0.85, 2) * (width, height)
        to_frame = np.eye(3)
        to_frame[:2, :2], to_frame[:2, 2] = rotation, centre - rotation @ np.array(labels.shape[::-1]) / 2
        # The object rotates about its own centre, not about that of the frame.
        to_centre = np.eye(3)
        to_centre[:2, 2] = centre - (width / 2, height / 2)
        motion = self.parameters.paste_motion.maps(rng, self.settings.frames, self.parameters.size)
        return _Layer(image, labels, to_centre @ motion @ np.linalg.inv(to_centre) @ to_frame)

    def _compose(
        self, layers: list[_Layer], t: int, fields: list[NDArray[np.float32] | None]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        """Render the frame at time t from the layers, back to front. Objects occlude the layers below them."""
        background, *pasted = layers
        image = _warp(background.image, background.maps[t], self.parameters.size, cv2.INTER_LINEAR, MEAN, fields[0])
        labels = _warp(background.labels, background.maps[t], self.parameters.size, cv2.INTER_NEAREST, 0, fields[0])
        for layer in pasted:
            foreground = (layer.labels > 0).astype(np.float32)
            alpha = _warp(foreground, layer.maps[t], self.parameters.size, cv2.INTER_LINEAR, 0, fields[1])
            colour = _warp(layer.image, layer.maps[t], self.parameters.size, cv2.INTER_LINEAR, None, fields[1])
            image = cv2.blendLinear(colour, image, alpha, 1 - alpha)
            labels[alpha >= 0.5] = layer.labels.max()
        return image, labels


def _shrink(still: Still, zoom: float) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Downscale image and labels by area averaging to the size shown at `zoom`, to prevent aliasing."""
    labels = still.labels.astype(np.int16)
    if zoom > 0.7:
        return still.image, labels
    size = tuple(max(1, round(length * zoom)) for length in labels.shape[::-1])
    image = cv2.resize(still.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return image, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int16)


def _object_centre(labels: NDArray[np.int16], rng: np.random.Generator) -> tuple[float, float]:
    """Return the centre (x, y) of a random object, or of the image if there is none."""
    ids = np.unique(labels[labels > 0])
    if not len(ids):
        return labels.shape[1] / 2, labels.shape[0] / 2
    y, x = np.nonzero(labels == rng.choice(ids))
    return float(x.mean()), float(y.mean())


def _warp(
    source: NDArray,
    to_frame: Floats,
    size: tuple[int, int],
    interpolation: int,
    fill: Any,
    displacement: NDArray[np.float32] | None,
) -> NDArray:
    """Warp a layer to the frame and apply a displacement field. With `fill` None, border pixels are replicated."""
    height, width = size
    border = {"borderMode": cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT, "borderValue": fill or 0}
    if displacement is not None:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        points = (np.stack([x, y], 2) + displacement).reshape(1, -1, 2)
        points = cv2.perspectiveTransform(points, np.linalg.inv(to_frame)).reshape(height, width, 2)
        warped = cv2.remap(source, points[..., 0], points[..., 1], interpolation, **border)
    elif np.array_equal(to_frame[2], [0, 0, 1]):
        warped = cv2.warpAffine(source, to_frame[:2], (width, height), flags=interpolation, **border)
    else:
        warped = cv2.warpPerspective(source, to_frame, (width, height), flags=interpolation, **border)
    return np.asarray(warped)
