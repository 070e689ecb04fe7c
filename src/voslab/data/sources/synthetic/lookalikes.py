"""Generates videos of two objects that differ only in hue or in stripe width, by a chosen amount."""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from voslab.core import ConfigError, generator
from voslab.core.parameters import Side
from voslab.data.sources.ovis import ovis
from voslab.data.sources.synthetic.build import build_once
from voslab.data.sources.synthetic.scene import Scene, SyntheticObject, draw
from voslab.data.sources.synthetic.textures import Floats, noise, texture
from voslab.data.sources.synthetic.trajectories import random_walk, wave
from voslab.data.video_sequence import VideoSequence
from voslab.video.mask_formats.rle import encode

By = Literal["hue", "stripes"]
_STRIPES = 26.0
"""Angular frequency of the first object's stripes, over the height of its texture."""
_STREAM = 4015470159
"""Part of the random key; a change would change the published data set."""


@dataclass(frozen=True)
class _Parameters:
    amount: float
    by: By
    videos: int
    frames: int
    size: tuple[int, int]
    seed: int
    version: int = 1

    def __post_init__(self) -> None:
        height, width = self.size
        if min(self.videos, self.frames) < 1 or height < 32 or width <= height:
            raise ConfigError(
                f"look-alikes: {self} needs at least one video, one frame, 32 rows, and a width above the height"
            )


def lookalikes(
    root: Path | str,
    amount: float,
    by: By = "hue",
    videos: int = 8,
    frames: int = 20,
    size: tuple[Side, Side] = (240, 416),
    seed: int = 0,
    single: bool = True,
) -> tuple[VideoSequence, ...]:
    """List videos of two similar objects, by default with one sequence per object, as key adaptation uses OVIS.

    The videos are generated on first use in the layout of OVIS, `root/train/<video>/` and
    `root/annotations_train.json`. Videos of the same seed differ only in the amount.

    Args:
        root: Folder of the data set, a different one for each combination of the other arguments.
        amount: Difference of the second object, 0 to 1; see `make_lookalikes`.
        by: Kind of the difference, `hue` or `stripes`.
        videos: Number of videos.
        frames: Number of frames per video.
        size: H, W of the frames in pixels.
        seed: Seed of all videos.
        single: Whether each object is a sequence of its own; otherwise both are objects of one sequence.

    Returns:
        The sequences.

    Raises:
        DataError: If `root` holds other files, or data generated with other parameters.
        ConfigError: If a parameter is out of range.
        WriteError: If the data set cannot be written.
    """
    parameters = _Parameters(amount, by, videos, frames, (size[0], size[1]), seed)
    return ovis(build_once(Path(root), parameters, partial(_write, parameters=parameters)), single=single)


def make_lookalikes(
    key: tuple[int | str, ...], frames: int, size: tuple[int, int], amount: float, by: By = "hue"
) -> Scene:
    """Make a scene of two striped objects, labels 1 and 2, that move on opposite sides of the image.

    Everything except the difference depends on the key alone. With `amount=0` both have the same texture.

    Args:
        key: key of the random generator.
        frames: number of frames.
        size: H W of the images; the width must exceed the height.
        amount: difference of the second object, 0 to 1: its hue turns by `amount` half circles, or its stripes are
            1 + `amount` times as fine.
        by: kind of the difference, `hue` or `stripes`.

    Returns:
        The scene.

    Raises:
        ConfigError: if the amount is out of range or the kind unknown.
    """
    if not 0 <= amount <= 1 or by not in ("hue", "stripes"):
        raise ConfigError(f"amount={amount}, by={by}: must be in [0, 1], and hue or stripes")
    rng = generator(*key, _STREAM)
    height, aspect = size[0], size[1] / size[0]
    background = texture(rng, (2 * height, int(2 * height * aspect)), *rng.uniform(60, 190, (2, 3)).astype(np.float32))
    view = np.concatenate([np.full((frames, 2), 0.2), 1 + 0.05 * wave(rng, frames)[:, None]], 1).astype(np.float32)
    hue, radius, angle = rng.uniform(), rng.uniform(0.16, 0.2), rng.uniform(0, np.pi)
    smooth_noise = noise(rng, (96, 96), 4, 4)
    layers = []
    for number in range(2):
        difference = amount * number
        colours = [_colour(hue + 0.5 * difference * (by == "hue"), value) for value in (0.9, 0.45)]
        stripes = _stripes(smooth_noise, angle, _STRIPES * (1 + difference * (by == "stripes")), *colours)
        layers.append(_make_object(rng, number, stripes, radius, frames, aspect))
    return Scene(background, view, tuple(layers), (*key, "noise"))


def _colour(hue: float, value: float) -> Floats:
    return np.array(colorsys.hsv_to_rgb(hue % 1, 0.75, value), np.float32) * 255


def _stripes(smooth_noise: Floats, angle: float, frequency: float, one: Floats, two: Floats) -> Floats:
    y, x = np.mgrid[: smooth_noise.shape[0], : smooth_noise.shape[1]].astype(np.float32) / smooth_noise.shape[0]
    pattern = 0.5 + 0.5 * np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)) + 3 * smooth_noise)
    return np.asarray(one + pattern[..., None] * (two - one), np.float32)


def _make_object(
    rng: np.random.Generator, number: int, stripes: Floats, radius: float, frames: int, aspect: float
) -> SyntheticObject:
    """Create an object that stays on its own side of the image."""
    middle = aspect * (0.25 + 0.5 * number)
    low, high = np.array([middle - 0.2, 0.3]), np.array([middle + 0.2, 0.7])
    centre = random_walk(rng, frames, np.array([middle, 0.5]), 0.15, low, high)
    return SyntheticObject(
        label=number + 1,
        texture=stripes,
        centre=centre.astype(np.float32),
        size=(radius * (1 + 0.1 * wave(rng, frames))).astype(np.float32),
        angle=(rng.uniform(-0.03, 0.03) * np.arange(frames)).astype(np.float32),
        stretch=1.0,
        bumps=np.stack([0.1 / np.arange(2, 6), rng.uniform(0, 2 * np.pi, 4), rng.uniform(-0.2, 0.2, 4)]).astype(
            np.float32
        ),
    )


def _write(root: Path, parameters: _Parameters) -> None:
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    height, width = parameters.size
    for number in range(1, parameters.videos + 1):
        name = f"alike_{number:03}"
        key = (parameters.seed, _STREAM, number)
        scene = make_lookalikes(key, parameters.frames, parameters.size, parameters.amount, parameters.by)
        files = [f"{name}/img_{frame + 1:07}.jpg" for frame in range(parameters.frames)]
        (root / "train" / name).mkdir(parents=True)
        masks = []
        for frame, file in enumerate(files):
            image, labels = draw(scene, frame, parameters.size)
            Image.fromarray(image).save(root / "train" / file, quality=92)
            masks.append(labels)
        videos.append({"id": number, "width": width, "height": height, "length": len(files), "file_names": files})
        for label in (1, 2):
            runs = [{"size": [height, width], "counts": encode(mask == label)} for mask in masks]
            annotations.append({"id": len(annotations) + 1, "video_id": number, "iscrowd": 0, "segmentations": runs})
    (root / "annotations_train.json").write_text(json.dumps({"videos": videos, "annotations": annotations}))
