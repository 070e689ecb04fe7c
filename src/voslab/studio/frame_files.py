"""Reads and writes what a session stores per frame: masks as PNG, and values as lines of a CSV file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video import read_mask


def frame_path(folder: Path, frame: int) -> Path:
    """Return the path of the mask of a frame.

    Args:
        folder: Folder of masks.
        frame: Frame number, from 0.
    """
    return folder / f"{frame:05d}.png"


def stored_frames(folder: Path) -> list[int]:
    """Return the numbers of the frames that have a mask in a folder, sorted.

    Args:
        folder: Folder of masks; it need not exist.
    """
    return sorted(int(path.stem) for path in folder.glob("*.png") if path.stem.isdecimal())


def stored_mask(folder: Path, frame: int, size: tuple[int, int]) -> NDArray[np.integer] | None:
    """Read the mask of a frame.

    Args:
        folder: Folder of masks.
        frame: Frame number, from 0.
        size: H, W of the video.

    Returns:
        Label map H W; None if there is none.

    Raises:
        DataError: If the file is damaged or has another size than the video.
    """
    path = frame_path(folder, frame)
    if not path.is_file():
        return None
    mask = read_mask(path)
    if mask.shape != size:
        raise DataError(f"{path}: {mask.shape[0]}x{mask.shape[1]}, the video is {size[0]}x{size[1]}")
    return mask


def read_values(path: Path) -> dict[int, float]:
    """Read a value per frame; the latest line of a frame counts.

    Args:
        path: File of lines `frame,value`; it need not exist. A line without a value, or one that was not finished,
            means that the frame has none.
    """
    values: dict[int, float] = {}
    with suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            frame, _, value = line.partition(",")
            with suppress(ValueError):
                values.pop(int(frame), None)
                values[int(frame)] = float(value)
    return values


def append_value(path: Path, frame: int, value: float | None) -> None:
    """Append the value of a frame.

    Args:
        path: See `read_values`.
        frame: Frame number, from 0.
        value: The value; None: it has none any more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"{frame},\n" if value is None else f"{frame},{value:.4f}\n")
