"""Makes pseudo-clips: a still image and objects pasted from other images, under random motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError
from voslab.data.clips.augmentation import MEAN
from voslab.data.clips.dataset import ClipSettings, RawClip
from voslab.data.clips.random_motion import Floats, RandomMotion
from voslab.data.sources.stills import VOID_STILL, Still, Stills


@dataclass(frozen=True)
class PseudoClips:
    """Makes clips of stills: the picture walks as a whole; pasted objects walk on their own, in front of it.

    Attributes:
        stills: opens them.
        size: height and width of the frames.
        motion: of the picture.
        zoom: least and largest enlargement, against the smallest at which the still fills the frame.
        paste: least and most objects cut from other stills.
        paste_motion: of pasted objects.
        paste_size: least and largest share of the frame that a pasted object covers when it is cut.
        light: largest change of brightness and contrast, frame by frame.
    """

    stills: Callable[[], Stills]
    size: tuple[int, int] = (384, 384)
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
        """Open the stills."""
        return StillClips(self.stills(), self, settings)


class _Layer(NamedTuple):
    """What moves: image H W 3, labels H W int16, and T 3 3 maps to the picture; pasted ones cover only their object."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int16]
    maps: Floats


@dataclass(frozen=True, eq=False)
class StillClips:
    """A `ClipSource` of opened stills, one clip per still and epoch."""

    stills: Stills
    how: PseudoClips
    settings: ClipSettings

    def __len__(self) -> int:
        return len(self.stills)

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        """Make a clip of still `index`; its name lists the stills that took part."""
        how, frames = self.how, self.settings.frames
        still = self.stills.load(index)
        layers = [self._background(still, rng)]
        names = [still.name]
        for _ in range(int(rng.integers(how.paste[0], how.paste[1] + 1))):
            other = self.stills.load(int(rng.integers(len(self.stills))))
            top = max(int(layer.labels.max(initial=0)) for layer in layers)
            pasted = self._cut(other, top + 1, rng)
            if pasted is not None:
                layers.append(pasted)
                names.append(other.name)
        fields = [[how.motion.field(rng, how.size), how.paste_motion.field(rng, how.size)] for _ in range(frames)]
        images, labels = [], []
        for t in range(frames):
            image, label = self._compose(layers, t, fields[t])
            gain, offset = rng.uniform(-how.light, how.light, 2) if how.light else (0.0, 0.0)
            images.append(cv2.convertScaleAbs(image, alpha=1 + gain, beta=128 * offset) if how.light else image)
            labels.append(label.astype(np.int32))
        return RawClip(images, labels, VOID_STILL, "+".join(names))

    def require_object(self, index: int) -> None:
        """Look at the still's labels."""
        if not (self.stills.load(index).labels > 0).any() and self.how.paste[0] == 0:
            raise DataError(f"still {self.stills.load(index).name}: no object in its mask")

    def _background(self, still: Still, rng: np.random.Generator) -> _Layer:
        """The still, placed so that it fills the first frame, around one of its objects if it has any."""
        height, width = self.how.size
        image, labels = _shrunk(still, max(height / still.labels.shape[0], width / still.labels.shape[1]))
        rows, columns = labels.shape
        zoom = max(height / rows, width / columns) * rng.uniform(*self.how.zoom)
        x, y = _inside(labels, rng)
        # As near to the chosen point as filling the frame allows.
        left = np.clip(x * zoom - rng.uniform(0.3, 0.7) * width, 0, max(0.0, columns * zoom - width))
        top = np.clip(y * zoom - rng.uniform(0.3, 0.7) * height, 0, max(0.0, rows * zoom - height))
        place = np.array([[zoom, 0, -left], [0, zoom, -top], [0, 0, 1]])
        return _Layer(image, labels, self.how.motion.maps(rng, self.settings.frames, self.how.size) @ place)

    def _cut(self, still: Still, identity: int, rng: np.random.Generator) -> _Layer | None:
        """One object of a still on its own path; None if it has none of `min_area` pixels."""
        ids, areas = np.unique(still.labels[still.labels > 0], return_counts=True)
        ids, areas = ids[areas >= self.settings.min_area], areas[areas >= self.settings.min_area]
        if not len(ids):
            return None
        chosen = int(rng.integers(len(ids)))
        mask = still.labels == ids[chosen]
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        height, width = self.how.size
        share = np.exp(rng.uniform(*np.log(self.how.paste_size)))
        zoom = float(np.clip(np.sqrt(share * height * width / areas[chosen]), 0.1, 2))
        part = Still(still.image[box], np.where(mask[box], identity, 0).astype(np.int32), still.name)
        image, labels = _shrunk(part, zoom)
        zoom *= mask[box].shape[0] / labels.shape[0]
        angle, mirror = np.deg2rad(rng.uniform(-20, 20)), rng.choice([-1, 1])
        turn = zoom * np.array([[mirror * np.cos(angle), -np.sin(angle)], [mirror * np.sin(angle), np.cos(angle)]])
        centre = rng.uniform(0.15, 0.85, 2) * (width, height)
        place = np.eye(3)
        place[:2, :2], place[:2, 2] = turn, centre - turn @ np.array(labels.shape[::-1]) / 2
        # Its own walk turns about its own centre.
        about = np.eye(3)
        about[:2, 2] = centre - (width / 2, height / 2)
        walk = self.how.paste_motion.maps(rng, self.settings.frames, self.how.size)
        return _Layer(image, labels, about @ walk @ np.linalg.inv(about) @ place)

    def _compose(
        self, layers: list[_Layer], t: int, fields: list[NDArray[np.float32] | None]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
        """The picture at time t, from back to front; an object hides what lies behind it."""
        background, *pasted = layers
        image = _warp(background.image, background.maps[t], self.how.size, cv2.INTER_LINEAR, MEAN, fields[0])
        labels = _warp(background.labels, background.maps[t], self.how.size, cv2.INTER_NEAREST, 0, fields[0])
        for layer in pasted:
            inside = (layer.labels > 0).astype(np.float32)
            alpha = _warp(inside, layer.maps[t], self.how.size, cv2.INTER_LINEAR, 0, fields[1])
            colour = _warp(layer.image, layer.maps[t], self.how.size, cv2.INTER_LINEAR, None, fields[1])
            image = cv2.blendLinear(colour, image, alpha, 1 - alpha)
            labels[alpha >= 0.5] = layer.labels.max()
        return image, labels


def _shrunk(still: Still, zoom: float) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Image and labels, by area averaging made as small as `zoom` will show them, so that warping does not alias."""
    labels = still.labels.astype(np.int16)
    if zoom > 0.7:
        return still.image, labels
    size = tuple(max(1, round(length * zoom)) for length in labels.shape[::-1])
    image = cv2.resize(still.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return image, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int16)


def _inside(labels: NDArray[np.int16], rng: np.random.Generator) -> tuple[float, float]:
    """x, y of the centre of an object drawn at random, or of the picture."""
    ids = np.unique(labels[labels > 0])
    if not len(ids):
        return labels.shape[1] / 2, labels.shape[0] / 2
    y, x = np.nonzero(labels == rng.choice(ids))
    return float(x.mean()), float(y.mean())


def _warp(
    source: NDArray, place: Floats, size: tuple[int, int], how: int, fill: Any, bend: NDArray[np.float32] | None
) -> NDArray:
    """Bring a layer into the picture through its map, and bend it; `fill` None carries its border on."""
    height, width = size
    border = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    if bend is not None:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        points = (np.stack([x, y], 2) + bend).reshape(1, -1, 2)
        points = cv2.perspectiveTransform(points, np.linalg.inv(place)).reshape(height, width, 2)
        moved = cv2.remap(source, points[..., 0], points[..., 1], how, borderMode=border, borderValue=fill or 0)
    elif np.array_equal(place[2], [0, 0, 1]):
        moved = cv2.warpAffine(source, place[:2], (width, height), flags=how, borderMode=border, borderValue=fill or 0)
    else:
        moved = cv2.warpPerspective(source, place, (width, height), flags=how, borderMode=border, borderValue=fill or 0)
    return np.asarray(moved)
