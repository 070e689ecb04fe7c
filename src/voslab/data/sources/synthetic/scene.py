"""Renders a synthetic scene: textured objects of changing shape on a moving background, with exact masks.

Lengths are fractions of the image height and times are in frames, so that a scene looks the same at every image size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, generator
from voslab.data.sources.synthetic.textures import PATTERNS, Floats, noise, texture
from voslab.data.sources.synthetic.trajectories import excursion, random_walk, wave

_BUMPS = 4
_ATTEMPTS = 60
_MIN_VISIBLE = 0.6  # minimum visible fraction of an object in frame 0


@dataclass(frozen=True)
class SyntheticObject:
    """A moving object, or a distractor without label.

    Attributes:
        label: Id in the masks; 0 for a distractor.
        texture: RGB texture, S S 3 in [0, 255].
        centre: Centre (x, y) per frame, T 2.
        size: Radius per frame, T.
        angle: Rotation per frame in radians, T.
        stretch: Horizontal stretch; the vertical one is the inverse.
        bumps: Amplitude, phase and speed of K waves along the outline, 3 K.
    """

    label: int
    texture: Floats
    centre: Floats
    size: Floats
    angle: Floats
    stretch: float
    bumps: Floats


@dataclass(frozen=True)
class Scene:
    """A synthetic video.

    Attributes:
        background: RGB texture, larger than the image, H W 3 in [0, 255].
        view: Position (x, y) of the image on the background and its zoom per frame, T 3.
        layers: Objects and distractors, from back to front.
        noise: Key of the random generator of sensor noise.
    """

    background: Floats
    view: Floats
    layers: tuple[SyntheticObject, ...]
    noise: tuple[int | str, ...]


class _Appearance(NamedTuple):
    pattern: str
    first: Floats
    second: Floats


def make_scene(key: tuple[int | str, ...], frames: int, size: tuple[int, int], objects: tuple[int, int]) -> Scene:
    """Create a scene whose objects are all well visible in frame 0, with up to two distractors.

    Args:
        key: Key of the random generator; it determines the scene.
        frames: Number of frames T.
        size: H, W of the frames in pixels.
        objects: Minimum and maximum number of objects.

    Returns:
        The scene.

    Raises:
        ConfigError: If the image is too small for this number of objects.
    """
    for attempt in range(_ATTEMPTS):
        scene = _attempt((*key, attempt), frames, size, objects, shrink=0.95**attempt)
        visible = np.bincount(draw(scene, 0, size)[1].ravel(), minlength=objects[1] + 1)
        unoccluded = [
            (obj.label, np.count_nonzero(draw(_only(scene, obj), 0, size)[1])) for obj in scene.layers if obj.label
        ]
        if all(area > 0 and visible[label] >= _MIN_VISIBLE * area for label, area in unoccluded):
            return scene
    raise ConfigError(f"{objects[1]} objects do not fit side by side into {size[1]} x {size[0]} pixels")


def draw(scene: Scene, frame: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Render a frame.

    Args:
        scene: The scene.
        frame: Index of the frame.
        size: H, W in pixels.

    Returns:
        RGB image H W 3 uint8, and labels H W int32.
    """
    height, width = size
    x, y, zoom = scene.view[frame]
    step = scene.background.shape[0] / (2 * height) * zoom
    to_background = np.array(
        [[step, 0, x * scene.background.shape[1]], [0, step, y * scene.background.shape[0]]], np.float32
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(
        scene.background, to_background, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    labels = np.zeros(size, np.int32)
    for obj in scene.layers:
        _paint(obj, frame, image, labels)
    rng = generator(*scene.noise, frame)
    image = image * (1 + 0.05 * np.sin(frame / 5)) + rng.normal(0, 3, size)[..., None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), labels


def _paint(obj: SyntheticObject, frame: int, image: Floats, labels: NDArray[np.int32]) -> None:
    """Draw an object over the image and its labels, in place."""
    height, width = labels.shape
    radius = float(obj.size[frame]) * height
    cx, cy = obj.centre[frame] * height
    extent = radius * max(obj.stretch, 1 / obj.stretch) * (1 + float(np.abs(obj.bumps[0]).sum()))
    left, top = max(0, int(cx - extent) - 1), max(0, int(cy - extent) - 1)
    right, bottom = min(width, int(cx + extent) + 2), min(height, int(cy + extent) + 2)
    if left >= right or top >= bottom:
        return
    dx = (np.arange(left, right, dtype=np.float32) - cx)[None] / radius
    dy = (np.arange(top, bottom, dtype=np.float32) - cy)[:, None] / radius
    cos, sin = np.cos(obj.angle[frame]), np.sin(obj.angle[frame])
    u, v = (cos * dx + sin * dy) / obj.stretch, (cos * dy - sin * dx) * obj.stretch
    distance, direction = np.hypot(u, v), np.arctan2(v, u)
    edge = np.ones_like(distance)
    for waves, (amplitude, phase, speed) in enumerate(obj.bumps.T, 2):
        edge += amplitude * np.cos(waves * direction + phase + speed * frame)
    alpha = np.clip((edge - distance) * radius + 0.5, 0, 1)
    scale = 0.35 * obj.texture.shape[0]
    centre = obj.texture.shape[0] / 2
    colour = cv2.remap(
        obj.texture, u * scale + centre, v * scale + centre, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    colour *= (1.08 - 0.3 * np.minimum(distance / edge, 1) ** 3 - 0.08 * (dx + dy))[..., None]
    region = image[top:bottom, left:right]
    region += alpha[..., None] * (colour - region)
    labels[top:bottom, left:right][alpha >= 0.5] = obj.label


def _only(scene: Scene, obj: SyntheticObject) -> Scene:
    return Scene(scene.background, scene.view, (obj,), scene.noise)


def _attempt(
    key: tuple[int | str, ...], frames: int, size: tuple[int, int], objects: tuple[int, int], shrink: float
) -> Scene:
    rng = generator(*key)
    height, aspect = size[0], size[1] / size[0]
    low, high = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    cells = 2 * height, int(2 * height * aspect)
    blend = 1 / (1 + np.exp(-12 * (noise(rng, cells, 3, 3)[..., None] - 0.5)))
    patterns = [texture(rng, cells, low, high, PATTERNS[int(rng.integers(3))]) for _ in range(2)]
    background = np.asarray(blend * patterns[0] + (1 - blend) * patterns[1][:, ::-1], np.float32)
    drift = random_walk(rng, frames, np.array([0.25, 0.25]), 0.05, np.array([0.05, 0.05]), np.array([0.45, 0.45]))
    view = np.concatenate([drift, 1 + 0.12 * wave(rng, frames)[:, None]], 1)
    count = int(rng.integers(objects[0], objects[1] + 1))
    layers: list[SyntheticObject] = []
    appearances: list[_Appearance] = []
    mean = 0.5 * (low + high)
    for number in range(count + int(rng.integers(0, 3))):
        if number >= count and rng.random() < 0.6:
            similar = appearances[int(rng.integers(count))]
            appearance = _Appearance(similar.pattern, _near(rng, similar.first), _near(rng, similar.second))
        else:
            appearance = _choose_appearance(rng, mean, (low, high))
        appearances.append(appearance)
        starts = np.array([obj.centre[0] for obj in layers])
        layers.append(
            _make_object(rng, number + 1 if number < count else 0, appearance, frames, (height, aspect), starts, shrink)
        )
    order = rng.permutation(len(layers))
    return Scene(background, view.astype(np.float32), tuple(layers[i] for i in order), (*key, "noise"))


def _choose_appearance(rng: np.random.Generator, background: Floats, colours: tuple[Floats, Floats]) -> _Appearance:
    """Choose a pattern and two colours: one unlike the background, and one between it and a background colour."""
    first = max(rng.uniform(20, 235, (8, 3)), key=lambda colour: min(70.0, float(np.linalg.norm(colour - background))))
    second = first + rng.uniform(0.4, 0.7) * (colours[int(rng.integers(2))] - first)
    return _Appearance(PATTERNS[int(rng.integers(3))], first.astype(np.float32), second.astype(np.float32))


def _near(rng: np.random.Generator, colour: Floats) -> Floats:
    return np.clip(colour + rng.normal(0, 12, 3), 0, 255).astype(np.float32)


def _make_object(
    rng: np.random.Generator,
    label: int,
    appearance: _Appearance,
    frames: int,
    image: tuple[int, float],
    starts: NDArray[np.floating],
    shrink: float,
) -> SyntheticObject:
    height, aspect = image
    radius = shrink * rng.uniform(0.14, 0.22)
    low, high = np.array([0.15, 0.15]), np.array([aspect - 0.15, 0.85])
    candidates = rng.uniform(low, high, (24, 2))
    gaps = np.linalg.norm(candidates[:, None] - starts[None], axis=2).min(1) if len(starts) else np.zeros(24)
    centre = random_walk(rng, frames, candidates[int(gaps.argmax())], rng.uniform(0.17, 0.3), low, high)
    if rng.random() < 0.15:
        centre = excursion(rng, centre, aspect, 2 * radius)
    side = max(48, int(3 * radius * height))
    return SyntheticObject(
        label=label,
        texture=texture(rng, (side, side), appearance.first, appearance.second, appearance.pattern),
        centre=centre.astype(np.float32),
        size=(radius * (1 + 0.2 * wave(rng, frames))).astype(np.float32),
        angle=(rng.uniform(0, 2 * np.pi) + rng.uniform(-0.07, 0.07) * np.arange(frames)).astype(np.float32),
        stretch=float(rng.uniform(0.8, 1.25)),
        bumps=np.stack(
            [
                rng.uniform(0.3, 1, _BUMPS) * 0.22 / np.arange(2, _BUMPS + 2),
                rng.uniform(0, 2 * np.pi, _BUMPS),
                rng.uniform(-0.25, 0.25, _BUMPS),
            ]
        ).astype(np.float32),
    )
