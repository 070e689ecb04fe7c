"""Stores an annotation session in a folder, file by file as it goes, so that nothing is lost when the process ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from voslab.core import DataError, atomic_path, atomic_write
from voslab.engine import Prediction
from voslab.studio.frame_files import append_value, frame_path, read_values, stored_frames, stored_mask
from voslab.video import write_mask

LARGEST_ID = 254
"""Masks of the page have 8 bits, and 255 is often void."""
_NAME_LENGTH = 80


@dataclass(frozen=True)
class AnnotatedObject:
    """An object of the session.

    Attributes:
        id: Its id in masks, from 1 to `LARGEST_ID`.
        name: Its name.
    """

    id: int
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.id, int) or not 1 <= self.id <= LARGEST_ID:
            raise DataError(f"object {self.id}: ids are whole numbers from 1 to {LARGEST_ID}")
        if not isinstance(self.name, str) or not 0 < len(self.name) <= _NAME_LENGTH:
            raise DataError(f"object {self.id}: its name must have 1 to {_NAME_LENGTH} characters")


class GivenMasks(Mapping[int, NDArray[np.integer]]):
    """The masks that the user made, by frame, each read on access.

    Args:
        folder: Their folder.
        size: H, W of the video.

    Raises:
        DataError: On access, if a mask is damaged, has another size, or was discarded since.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self._folder, self._size = folder, size
        self._frames = dict.fromkeys(stored_frames(folder))

    def __getitem__(self, frame: int) -> NDArray[np.integer]:
        if frame not in self._frames:
            raise KeyError(frame)
        mask = stored_mask(self._folder, frame, self._size)
        if mask is None:
            raise DataError(f"frame {frame}: its mask was discarded while masks were propagated; propagate again")
        return mask

    def __iter__(self) -> Iterator[int]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


class Project:
    """Folder of a session.

    `session.json` names the video and the objects. `given/` holds the masks that the user made, `predicted/` those of
    all frames so far, `soft/` the probabilities of their objects, and `uncertainty.csv` a line per predicted frame.

    Args:
        folder: The folder; created if it does not exist.
        video: Path of the video.
        size: H, W of the video.

    Raises:
        DataError: If the folder holds a session on another video, or is damaged.
        WriteError: If it cannot be written.
    """

    def __init__(self, folder: Path, video: Path, size: tuple[int, int]) -> None:
        self.folder = folder
        self.size = size
        self._video = str(video.resolve())
        self.objects: dict[int, AnnotatedObject] = {}
        self.uncertainty: dict[int, float] = {}
        self._load()

    def given(self) -> list[int]:
        """Frames with a mask that the user made, sorted."""
        return stored_frames(self.folder / "given")

    def given_masks(self) -> GivenMasks:
        """The masks that the user made, read when they are needed."""
        return GivenMasks(self.folder / "given", self.size)

    def predicted(self) -> list[int]:
        """Frames with a predicted mask, sorted."""
        return stored_frames(self.folder / "predicted")

    def mask(self, frame: int) -> NDArray[np.integer] | None:
        """Return the mask of a frame: the one that the user made, else the predicted one, else None.

        Args:
            frame: Frame number, from 0.

        Raises:
            DataError: If the file is damaged or has another size than the video.
        """
        given = stored_mask(self.folder / "given", frame, self.size)
        return stored_mask(self.folder / "predicted", frame, self.size) if given is None else given

    def set_objects(self, objects: Sequence[AnnotatedObject]) -> None:
        """Replace the list of objects.

        Args:
            objects: The objects.

        Raises:
            DataError: If an id occurs twice.
        """
        if len({one.id for one in objects}) < len(objects):
            raise DataError("two objects have the same id")
        self.objects = {one.id: one for one in objects}
        self._write()

    def give(self, frame: int, mask: NDArray[np.integer]) -> None:
        """Store a mask that the user made.

        Args:
            frame: Frame number, from 0.
            mask: Label map H W.

        Raises:
            DataError: If the mask has another size than the video, or an id that is no object.
        """
        if mask.shape != self.size:
            raise DataError(f"the mask is {mask.shape[0]}x{mask.shape[1]}, the video {self.size[0]}x{self.size[1]}")
        if unknown := sorted(set(np.unique(mask).tolist()) - {0, *self.objects}):
            raise DataError(f"the mask has pixels of object {unknown[0]}, which is not in the list of objects")
        write_mask(frame_path(self.folder / "given", frame), mask)

    def forget(self, frame: int) -> None:
        """Delete a mask that the user made; the predicted one remains.

        Args:
            frame: Frame number, from 0.

        Raises:
            DataError: If there is none.
        """
        try:
            frame_path(self.folder / "given", frame).unlink()
        except FileNotFoundError as error:
            raise DataError(f"frame {frame} has no mask that was made by hand") from error

    def predict(self, prediction: Prediction) -> float:
        """Store a prediction.

        Args:
            prediction: With probabilities.

        Returns:
            Its uncertainty.
        """
        write_mask(frame_path(self.folder / "predicted", prediction.index), prediction.ids)
        _write_soft(frame_path(self.folder / "soft", prediction.index), prediction)
        value = self.uncertainty[prediction.index] = uncertainty(prediction)
        append_value(self.folder / "uncertainty.csv", prediction.index, value)
        return value

    def stored(self, frame: int, image: NDArray[np.uint8], time: Fraction | None = None) -> Prediction:
        """Return the stored mask of a frame as a prediction, with probabilities of 8 bits.

        Args:
            frame: Frame number, from 0.
            image: The frame's image.
            time: Presentation time of the frame in seconds; None if the video has no times.

        Raises:
            DataError: If the frame has no mask, or its file is damaged.
        """
        mask = self.mask(frame)
        if mask is None:
            raise DataError(f"frame {frame} has no mask")
        ids = mask.astype(np.int64)
        if frame_path(self.folder / "given", frame).is_file():
            objects = tuple(sorted(self.objects))
            maps = np.stack([ids == one for one in objects]) if objects else np.zeros((0, *ids.shape))
        else:
            maps, objects = _read_soft(frame_path(self.folder / "soft", frame), self.size)
        return Prediction(frame, image, ids, 0.0, True, maps.astype(np.float32), objects, time)

    def _load(self) -> None:
        path = self.folder / "session.json"
        if not path.is_file():
            self._write()
            return
        try:
            content = json.loads(path.read_text())
            video, size = content["video"], tuple(content["size"])
            self.objects = {one["id"]: AnnotatedObject(**one) for one in content["objects"]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path}: not the session of an annotation ({error})") from error
        if size != self.size:
            raise DataError(f"{path}: a session on {video} ({size[0]}x{size[1]}); give another output folder")
        if video != self._video:
            self._write()  # the video was moved
        self.uncertainty = read_values(self.folder / "uncertainty.csv")

    def _write(self) -> None:
        objects = [asdict(one) for one in self.objects.values()]
        content = {"video": self._video, "size": list(self.size), "objects": objects}
        atomic_write(self.folder / "session.json", json.dumps(content, indent=2) + "\n")


def uncertainty(prediction: Prediction) -> float:
    """Estimate the error of a prediction from its probabilities.

    With p_k(x) the probability of label k at pixel x and background k = 0, it is the expected number of wrong pixels
    over the expected number of object pixels, Σ_x (1 - max_k p_k(x)) / Σ_x (1 - p_0(x)), at most 1.

    Args:
        prediction: With probabilities.

    Returns:
        From 0 (certain) to 1; 0 without objects.

    Example:
        >>> import numpy as np
        >>> from voslab.engine import Prediction
        >>> from voslab.studio.project import uncertainty
        >>> ids, image = np.ones((1, 2), np.int64), np.zeros((1, 2, 3), np.uint8)
        >>> maps = np.array([[[1.0, 0.5]]], np.float32)
        >>> round(uncertainty(Prediction(0, image, ids, 0.0, True, maps, (1,))), 4)
        0.3333
    """
    maps = prediction.probabilities
    if maps is None or not len(maps):
        return 0.0
    objects = maps.sum(0)
    wrong = 1 - np.maximum(maps.max(0), 1 - objects)
    total = float(objects.sum())
    return 1.0 if total < 1 else min(1.0, float(wrong.sum()) / total)


def _write_soft(path: Path, prediction: Prediction) -> None:
    """Write the maps of the objects below each other, with their ids in the PNG's text."""
    maps = prediction.probabilities
    if maps is None or not len(maps):
        maps = np.zeros((1, *prediction.ids.shape), np.float32)
    text = PngInfo()
    text.add_text("objects", json.dumps(list(map(int, prediction.object_ids))))
    pixels = np.rint(maps * 255).astype(np.uint8).reshape(-1, maps.shape[-1])
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, pnginfo=text, compress_level=1)


def _read_soft(path: Path, size: tuple[int, int]) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            objects = tuple(int(one) for one in json.loads(image.info["objects"]))
            if image.size != (size[1], size[0] * max(1, len(objects))):
                raise ValueError("its size is wrong")
            pixels = np.asarray(image, np.float32) / np.float32(255)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: damaged probabilities ({error})") from error
    maps: NDArray[np.float32] = pixels.reshape(-1, *size)[: len(objects)].astype(np.float32)
    return maps, objects
