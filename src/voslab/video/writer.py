"""Writes images and masks as PNG, and draws objects over an image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voslab.core import DataError, atomic_path
from voslab.video.palette import colour, palette


def write_png(path: Path | str, image: NDArray[np.uint8]) -> None:
    """Write an image as PNG, atomically and compressed lightly.

    Args:
        path: file to write.
        image: H W grey, H W 3 RGB or H W 4 RGBA.

    Raises:
        WriteError: if the file cannot be written.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=1)


def write_mask(path: Path | str, ids: NDArray[np.integer]) -> None:
    """Write a label map as PNG, atomically: with the DAVIS palette up to id 255, as 16-bit grey up to 65535.

    Args:
        path: file to write.
        ids: H W, 0 for background.

    Raises:
        DataError: if an id is negative or above 65535.
        WriteError: if the file cannot be written.
    """
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low < 0 or high > 65535:
        raise DataError(f"{path}: id {low if low < 0 else high} does not fit into a mask file (0 to 65535)")
    image = Image.fromarray(ids.astype(np.uint8 if high < 256 else np.uint16))
    if high < 256:
        image.putpalette(palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def overlay(image: NDArray[np.uint8], ids: NDArray[np.integer], alpha: float = 0.5) -> NDArray[np.uint8]:
    """Draw objects over an image: blended colours inside, and a white line along the edge.

    Args:
        image: H W 3, RGB; not changed.
        ids: H W, non-negative, 0 for background.
        alpha: weight of the colours, 0 to 1. The line is always opaque.

    Returns:
        a new image H W 3.
    """
    inside = ids != 0
    mixed = cv2.addWeighted(image, 1 - alpha, colour(ids), alpha, 0)
    edge = np.zeros_like(inside)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    drawn = np.where(inside[..., None], mixed, image)
    drawn[edge & inside] = 255
    return drawn
