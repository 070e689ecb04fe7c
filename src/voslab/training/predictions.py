"""Reads existing masks of a data set for scoring, and warns of what is odd about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError, object_ids
from voslab.core.prefetch import prefetch_map
from voslab.data import VideoSequence
from voslab.engine import Prediction
from voslab.video import image_files, read_mask
from voslab.video.images import image_size, is_image_name
from voslab.video.mask_formats.options import LITERAL, Warn, log_warning

_WHITE = 255
_LAST_NUMBER = re.compile(r"(\d+)$")
_SHOWN = 5


def read_predictions(
    folder: Path, video: VideoSequence, warn: Warn = log_warning, alone: bool = False
) -> Iterator[Prediction]:
    """Read existing masks `folder/<sequence>/<frame>.png`, written by any tool; white on black is object 1.

    They may also lie in `masks/` inside the folder of the sequence or around it, as the programs write them.

    Only masks of frames that the data set asks for are required and read. Masks with other names are matched by the
    numbers in their names, or by their order if there is one per frame. The mask of the first frame, which is given and
    not scored, may be missing.

    Args:
        folder: folder of the masks of all sequences.
        video: the sequence.
        warn: receives what is odd about the masks: other names, a missing first mask, ids that are no objects, white
            masks of several objects.
        alone: whether the data set has no other sequence, so that the masks may lie in `folder` or `folder/masks`.

    Returns:
        Predictions in the order of the frames.

    Raises:
        DataError: for the first mask that is missing or has another size than its frame.
    """
    files = _find_files(_find_folder(folder, video.name, alone), video, warn)
    objects = sorted({i for labels in video.given_masks().values() for i in object_ids(labels)})
    empty = np.zeros((0, 0, 3), np.uint8)

    frames = [index for index in video.output_frames if index in files]

    def read(index: int) -> NDArray[np.int32]:
        # From the header, so that a mask of another size is refused before it is decoded.
        if (size := image_size(files[index])) != (wanted := video.mask_size(index)):
            raise DataError(f"{video.images[index]}: its mask is {wanted}, the prediction {size}")
        return read_mask(files[index], LITERAL, warn)

    # Checked in the order of the frames, not in the threads that read.
    for index, labels in zip(frames, prefetch_map(read, frames), strict=True):
        if not video.merge:
            _check_ids(files[index], labels, objects, warn)
        yield Prediction(index, empty, video.as_predicted(labels).astype(np.int64), 0.0)


def _find_folder(folder: Path, name: str, alone: bool) -> Path:
    """Return the folder of a sequence's masks: the usual one, unless masks lie only in another one."""
    usual = folder / name
    others = [usual / "masks", folder / "masks" / name, *((folder, folder / "masks") if alone else ())]
    return next((one for one in (usual, *others) if _has_image(one)), usual)


def _has_image(folder: Path) -> bool:
    """Return whether a folder exists and has an image."""
    return folder.is_dir() and any(is_image_name(path.name) and path.is_file() for path in folder.iterdir())


def _check_ids(path: Path, labels: NDArray[np.int32], objects: Sequence[int], warn: Warn) -> None:
    """Warn of a white mask of several objects, and of ids that are no objects."""
    surplus = sorted(set(object_ids(labels)) - set(objects))
    if not surplus:
        return
    known = _listed(objects)
    white = not ((labels != 0) & (labels != _WHITE)).any()
    if white and len(objects) > 1:
        warn(
            "white",
            f"{path}: the truth has the objects {known}, the prediction one id {_WHITE} (white), which is scored as"
            " object 1; save a mask with the ids of the objects",
        )
    elif not white:
        what = "id" if len(surplus) == 1 else "ids"
        warn("ids", f"{path}: {what} {_listed(surplus)} of no object, scored as background (the truth has {known})")


def _find_files(folder: Path, video: VideoSequence, warn: Warn) -> dict[int, Path]:
    """Return the mask of every frame that the data set asks for; that of the first frame may be missing.

    Raises:
        DataError: for the first missing mask.
    """
    files = {index: folder / f"{video.images[index].stem}.png" for index in video.output_frames}
    missing = [index for index, path in files.items() if not path.is_file()]
    if len(missing) == len(files) and _has_image(folder):
        other = _match_names(image_files(folder), video)
        if other:
            first = next(iter(other))
            warn(
                "names",
                f"{folder}: masks are named otherwise than the frames; {other[first].name} is taken for frame"
                f" {video.images[first].stem}, and so on",
            )
            files = other
            missing = [index for index in video.output_frames if index not in files]
    if missing == [0] and len(video.output_frames) > 1:
        name = video.images[0].stem
        warn("first", f"{folder}: no mask of the first frame ({name}), which is given and therefore not scored")
        return {index: path for index, path in files.items() if index != 0}
    if missing:
        index = missing[0]
        path = folder / f"{video.images[index].stem}.png"
        there = [file.name for file in image_files(folder)] if _has_image(folder) else []
        known = f"; there are {there[0]} to {there[-1]}" if there else ""
        raise DataError(f"{path}: no such mask (sequence {video.name}, frame {index} of {len(video)}{known})")
    return files


def _match_names(files: Sequence[Path], video: VideoSequence) -> dict[int, Path]:
    """Match masks to frames by the last number in their names, or by order; empty if that is ambiguous."""
    numbers = [_number(path.stem) for path in files]
    frames = {_number(image.stem): index for index, image in enumerate(video.images)}
    if None in numbers or None in frames or len(set(numbers)) < len(files) or len(frames) < len(video):
        return dict(enumerate(files)) if len(files) == len(video) else {}
    by_number = {frames[n]: path for n, path in zip(numbers, files, strict=True) if n in frames}
    if set(video.output_frames) - {0} <= set(by_number):
        return by_number
    ordered = sorted(zip(numbers, files, strict=True), key=lambda pair: pair[0] or 0)
    return {index: path for index, (_, path) in enumerate(ordered)} if len(files) == len(video) else {}


def _number(stem: str) -> int | None:
    found = _LAST_NUMBER.search(stem)
    return int(found[1]) if found else None


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:_SHOWN])) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
