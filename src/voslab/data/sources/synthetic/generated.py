"""Generates a data set in DAVIS 2017 layout within seconds, for demos and tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from voslab.core import ConfigError
from voslab.core.parameters import Side
from voslab.data.sources.davis import davis
from voslab.data.sources.synthetic.build import build_once
from voslab.data.sources.synthetic.scene import draw, make_scene
from voslab.data.video_sequence import VideoSequence
from voslab.video.writer import write_mask

_VERSION = 1


@dataclass(frozen=True)
class _Parameters:
    seed: int
    train: int
    val: int
    frames: int
    size: tuple[int, int]
    objects: tuple[int, int]
    version: int = _VERSION

    def __post_init__(self) -> None:
        (min_objects, max_objects), (height, width) = self.objects, self.size
        if (
            min(self.train, self.val, self.frames, min_objects) < 1
            or min(self.size) < 32
            or not min_objects <= max_objects < 255
            or height > 2 * width
        ):
            raise ConfigError(
                f"generated data: {self} needs at least one sequence per split, one frame, 32 x 32 pixels"
                ", a width of half the height, and objects=(minimum, maximum) from 1 to 254"
            )


def generate(
    root: Path | str,
    seed: int = 0,
    train: int = 24,
    val: int = 6,
    frames: int = 24,
    size: tuple[Side, Side] = (160, 256),
    objects: tuple[int, int] = (1, 3),
) -> Path:
    """Generate the data set atomically, unless it exists.

    Args:
        root: Folder of the data set.
        seed: Seed of all sequences.
        train: Number of training sequences.
        val: Number of validation sequences.
        frames: Number of frames per sequence.
        size: H, W of the frames in pixels.
        objects: Minimum and maximum number of objects per sequence.

    Returns:
        `root`.

    Raises:
        DataError: If `root` holds other files, or data generated with other parameters.
        ConfigError: If a parameter is out of range.
        WriteError: If the data set cannot be written.
    """
    height, width = size
    parameters = _Parameters(seed, train, val, frames, (height, width), (objects[0], objects[1]))
    return build_once(Path(root), parameters, partial(_write, parameters=parameters))


def generated(
    root: Path | str,
    split: str = "train",
    year: int = 2017,
    seed: int = 0,
    train: int = 24,
    val: int = 6,
    frames: int = 24,
    size: tuple[Side, Side] = (160, 256),
    objects: tuple[int, int] = (1, 3),
) -> tuple[VideoSequence, ...]:
    """List the sequences of the generated data set; generate it first if it does not exist.

    Args:
        root: Folder of the data set.
        split: `train` or `val`.
        year: 2016, which merges all objects into one, or 2017.
        seed: See `generate`, like the following arguments.
        train: Number of training sequences.
        val: Number of validation sequences.
        frames: Number of frames per sequence.
        size: H, W of the frames in pixels.
        objects: Minimum and maximum number of objects per sequence.

    Returns:
        The sequences.

    Raises:
        DataError: See `generate`.
        ConfigError: See `generate`.
        WriteError: See `generate`.
    """
    return davis(generate(root, seed, train, val, frames, size, objects), year, split)


def _write(root: Path, parameters: _Parameters) -> None:
    for split, count in (("train", parameters.train), ("val", parameters.val)):
        names = [f"{split}_{number:03}" for number in range(count)]
        for name in names:
            _write_sequence(root, name, parameters)
        for year in ("2016", "2017"):
            target = root / "ImageSets" / year / f"{split}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write_sequence(root: Path, name: str, parameters: _Parameters) -> None:
    scene = make_scene((parameters.seed, "generated", name), parameters.frames, parameters.size, parameters.objects)
    images, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for frame in range(parameters.frames):
        image, labels = draw(scene, frame, parameters.size)
        Image.fromarray(image).save(images / f"{frame:05}.jpg", quality=92)
        write_mask(masks / f"{frame:05}.png", labels)
