"""Draws panels of an inspection video: frames with tinted areas, arrows and captions, put side by side."""

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
    """H W of a panel that shows frames of H W: both even, the shorter side `shorter` at most."""
    scale = min(1.0, shorter / min(size))
    height, width = (max(2, 2 * round(extent * scale / 2)) for extent in size)
    return height, width


def resized(image: Image, size: tuple[int, int]) -> Image:
    """A frame H W 3 at another size."""
    found: Image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return found


def dimmed(image: Image) -> Image:
    """The frame in a darker grey, H W 3, for something to be drawn on."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    dark: Image = np.repeat((grey // 2 + 20).astype(np.uint8)[..., None], 3, axis=2)
    return dark


def tint(image: Image, where: NDArray[np.bool_], colour: Colour, alpha: float = 0.7) -> Image:
    """The frame H W 3 with a colour mixed in where H W says so."""
    mixed = cv2.addWeighted(image, 1 - alpha, np.full_like(image, colour), alpha, 0)
    drawn: Image = np.where(where[..., None], mixed, image).astype(np.uint8, copy=False)
    return drawn


def arrows(image: Image, motion: NDArray[np.floating], used: NDArray[np.bool_], colour: Colour) -> None:
    """Draw displacements into a picture: a dot where each begins, an arrow to where it leads.

    Args:
        image: H W 3; changed.
        motion: 2 H W (x, y), in its pixels.
        used: H W, where there is one.
        colour: of all of them.
    """
    rows, columns = used[SPACING // 2 :: SPACING, SPACING // 2 :: SPACING].nonzero()
    rows, columns = SPACING * rows + SPACING // 2, SPACING * columns + SPACING // 2
    # Whatever leads further would only leave the frame.
    reach = max(image.shape)
    shifts = np.clip(np.rint(motion[:, rows, columns].astype(np.float64)), -reach, reach).astype(int).T.tolist()
    for y, x, (right, down) in zip(rows.tolist(), columns.tolist(), shifts, strict=True):
        length = max(abs(right), abs(down))
        if length > 1:
            tip = min(0.5, 5 / length)
            cv2.arrowedLine(image, (x, y), (x + right, y + down), colour, 1, cv2.LINE_AA, tipLength=tip)
        cv2.circle(image, (x, y), 1, colour, -1, cv2.LINE_AA)


def caption(image: Image, *parts: str | tuple[str, Colour]) -> None:
    """Write a line into the upper left corner of a frame H W 3, which is changed; white where no colour is said.

    It is made smaller where it would not fit.
    """
    words = [(part, WHITE) if isinstance(part, str) else part for part in parts]
    font, line = cv2.FONT_HERSHEY_SIMPLEX, " ".join(text for text, _ in words)
    scale = 0.55
    width = cv2.getTextSize(line, font, scale, 1)[0][0]
    if width + 16 > image.shape[1]:
        scale *= (image.shape[1] - 16) / width
    strip = round(44 * scale)
    image[:strip, : min(width + 16, image.shape[1])] //= 4
    left = 8
    for text, colour in words:
        cv2.putText(image, text, (left, round(0.7 * strip)), font, scale, colour, 1, cv2.LINE_AA)
        left += cv2.getTextSize(f"{text} ", font, scale, 1)[0][0]


def tiled(panels: Sequence[Image], columns: int = 3) -> Image:
    """Panels of one size, row after row; their number is a multiple of `columns`."""
    rows = [np.hstack(panels[start : start + columns]) for start in range(0, len(panels), columns)]
    return np.vstack(rows)
