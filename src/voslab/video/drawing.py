"""Draws panels of an inspection video: frames with tinted areas, arrows and captions, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
SPACING = 20
"""Pixels from one arrow to the next."""


def panel_size(size: tuple[int, int], shorter: int = 480) -> tuple[int, int]:
    """Size of the panel for a frame.

    Args:
        size: H W of the frame.
        shorter: maximum length of the panel's shorter side.

    Returns:
        H W of the panel, both even.
    """
    scale = min(1.0, shorter / min(size))
    height, width = (max(2, 2 * round(extent * scale / 2)) for extent in size)
    return height, width


def resized(image: Image, size: tuple[int, int]) -> Image:
    """Resize an image H W 3 to `size` (H W) by area averaging."""
    small: Image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return small


def dimmed(image: Image) -> Image:
    """Return the image H W 3 in dark grey, as a background to draw on."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    dark: Image = np.repeat((grey // 2 + 20).astype(np.uint8)[..., None], 3, axis=2)
    return dark


def tint(image: Image, region: NDArray[np.bool_], colour: Colour, alpha: float = 0.7) -> Image:
    """Blend a colour into a region of an image.

    Args:
        image: H W 3; not changed.
        region: H W, the pixels to tint.
        colour: RGB.
        alpha: weight of the colour, 0 to 1.

    Returns:
        the tinted image, H W 3.
    """
    mixed = cv2.addWeighted(image, 1 - alpha, np.full_like(image, colour), alpha, 0)
    tinted: Image = np.where(region[..., None], mixed, image).astype(np.uint8, copy=False)
    return tinted


def arrows(image: Image, motion: NDArray[np.floating], used: NDArray[np.bool_], colour: Colour) -> None:
    """Draw displacements into an image: a dot at the start and an arrow to the end.

    Args:
        image: H W 3; changed in place.
        motion: 2 H W, displacements (x, y) in pixels of the image.
        used: H W, pixels that have a displacement.
        colour: colour of the arrows.
    """
    rows, columns = used[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING].nonzero()
    rows, columns = SPACING * rows + SPACING // 2, SPACING * columns + SPACING // 2
    # A longer displacement leaves the image anyway.
    reach = max(image.shape)
    shifts = np.clip(np.rint(motion[:, rows, columns].astype(np.float64)), -reach, reach).astype(int).T.tolist()
    for y, x, (right, down) in zip(rows.tolist(), columns.tolist(), shifts, strict=True):
        length = max(abs(right), abs(down))
        if length > 1:
            tip = min(0.5, 5 / length)
            cv2.arrowedLine(image, (x, y), (x + right, y + down), colour, 1, cv2.LINE_AA, tipLength=tip)
        cv2.circle(image, (x, y), 1, colour, -1, cv2.LINE_AA)


def caption(image: Image, *parts: str | tuple[str, Colour]) -> None:
    """Write one line of text into the upper left corner of an image, in a smaller font if it would not fit.

    Args:
        image: H W 3; changed in place.
        parts: texts, each white or with its own colour.
    """
    coloured = [(part, WHITE) if isinstance(part, str) else part for part in parts]
    font, line = cv2.FONT_HERSHEY_SIMPLEX, " ".join(text for text, _ in coloured)
    scale = 0.55
    width = cv2.getTextSize(line, font, scale, 1)[0][0]
    if width + 16 > image.shape[1]:
        scale *= (image.shape[1] - 16) / width
    strip = round(44 * scale)
    image[:strip, : min(width + 16, image.shape[1])] //= 4
    left = 8
    for text, colour in coloured:
        cv2.putText(image, text, (left, round(0.7 * strip)), font, scale, colour, 1, cv2.LINE_AA)
        left += cv2.getTextSize(f"{text} ", font, scale, 1)[0][0]


def tiled(panels: Sequence[Image], columns: int = 3) -> Image:
    """Tile panels into one image.

    Args:
        panels: images of one size; their number is a multiple of `columns`.
        columns: number of panels in a row.

    Returns:
        the tiled image, row by row.
    """
    rows = [np.hstack(panels[start : start + columns]) for start in range(0, len(panels), columns)]
    return np.vstack(rows)
