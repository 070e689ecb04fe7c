"""A generated data set in DAVIS 2017 layout: for demos, tests and first experiments, made in seconds."""

from __future__ import annotations

import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from src.core import ConfigError, DataError, WriteError
from src.data.davis import davis
from src.data.sequence import Sequence
from src.data.world import draw, make_world
from src.video.writer import write_mask

_VERSION = 1
_NOTE = "generated.json"


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
        (least, most), (height, width) = self.objects, self.size
        if (
            min(self.train, self.val, self.frames, least) < 1
            or min(self.size) < 32
            or not least <= most < 255
            or height > 2 * width
        ):
            raise ConfigError(
                f"generated data: {self} needs at least one sequence per split, one frame, 32 x 32 pixels"
                ", a width of half the height, and objects=(least, most) from 1 to 254"
            )


def generate(
    root: Path | str,
    seed: int = 0,
    train: int = 24,
    val: int = 6,
    frames: int = 24,
    size: tuple[int, int] = (160, 256),
    objects: tuple[int, int] = (1, 3),
) -> Path:
    """Make the data set in `root` unless it is there: `train` and `val` sequences of `frames` frames of `size` H W.

    It appears whole or not at all, whoever else is making it at the same time. Its parameters are in `generated.json`.

    Returns:
        `root`.

    Raises:
        DataError: `root` holds something else, or data made with other parameters.
        ConfigError: parameters that make no data.
        WriteError: it cannot be written.
    """
    root = Path(root)
    height, width = size
    parameters = _Parameters(seed, train, val, frames, (height, width), (objects[0], objects[1]))
    if _exists(root, parameters):
        return root
    building = root.with_name(f".{root.name}.{secrets.token_hex(6)}")
    try:
        building.mkdir(parents=True)
        for split, count in (("train", train), ("val", val)):
            names = [f"{split}_{number:03}" for number in range(count)]
            for name in names:
                _write_sequence(building, name, parameters)
            for year in ("2016", "2017"):
                target = building / "ImageSets" / year / f"{split}.txt"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        (building / _NOTE).write_text(json.dumps(asdict(parameters), indent=1) + "\n", encoding="utf-8")
        _publish(building, root, parameters)
    except OSError as error:
        raise WriteError(f"{root}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def generated(
    root: Path | str,
    split: str = "train",
    year: int = 2017,
    seed: int = 0,
    train: int = 24,
    val: int = 6,
    frames: int = 24,
    size: tuple[int, int] = (160, 256),
    objects: tuple[int, int] = (1, 3),
) -> tuple[Sequence, ...]:
    """A split of the generated data set, made when it is not there; see `generate` and `davis`."""
    return davis(generate(root, seed, train, val, frames, size, objects), year, split)


def _exists(root: Path, parameters: _Parameters) -> bool:
    """Whether the data set is there. Raises `DataError` if anything else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / _NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{root}: exists and is no generated data set ({_NOTE} cannot be read); choose another"
        ) from error
    wanted = json.loads(json.dumps(asdict(parameters)))
    if found != wanted:
        found = found if isinstance(found, dict) else {}
        other = ", ".join(
            f"{key} {found.get(key)} not {value}" for key, value in wanted.items() if found.get(key) != value
        )
        raise DataError(f"{root}: generated with other parameters ({other}); delete it or choose another folder")
    return True


def _publish(building: Path, root: Path, parameters: _Parameters) -> None:
    try:
        building.rename(root)
    except OSError:
        # Another process was first: a folder with files in it cannot be renamed over.
        if not _exists(root, parameters):
            raise


def _write_sequence(root: Path, name: str, parameters: _Parameters) -> None:
    world = make_world((parameters.seed, "generated", name), parameters.frames, parameters.size, parameters.objects)
    images, masks = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for frame in range(parameters.frames):
        image, labels = draw(world, frame, parameters.size)
        Image.fromarray(image).save(images / f"{frame:05}.jpg", quality=92)
        write_mask(masks / f"{frame:05}.png", labels)
