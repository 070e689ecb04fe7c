"""Augments the first frame of an object (section 3.2.2): the object, moved, over the background without it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Item = TypeVar("Item")

SPECS = 19
"""Number of moves that are drawn in a trial."""
TRIALS = 5
"""Maximum number of trials, for objects that are hardly ever seen after a move."""
ROTATIONS = tuple(sign * degrees for degrees in (5.0, 10.0, 20.0, 30.0, 45.0) for sign in (1, -1))
FLIPS = (True, False, False, False, False)
SCALES = (0.5, 0.7, 1.0, 1.5, 2.0, 2.5)
SKEWS = ((0.0, 0.0), (0.0, 0.0), (0.1, 0.1))
BLURS = (0.0, 0.0, 0.0, 2.0)
ANGLES = (0.0, 45.0, 90.0, 135.0)
BACKGROUND_SCALES = (1.0, 1.0, 1.2)
BACKGROUND_BLURS = (0.0, 0.0, 1.0, 2.0, 5.0)
MIN_SIDE = 10.0
"""Objects are not scaled below this number of pixels on their shorter side."""
THICKNESS = 0.1
"""Variance of the blur across its direction, in square pixels."""


class Box(NamedTuple):
    """Box of an object: centre and size, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Move:
    """Move of an object or of the background.

    Attributes:
        location: new centre as a part of the image's width and height.
        rotation: anticlockwise, in degrees.
        fliplr: whether to mirror left and right first.
        scale: factor.
        skew: shear along x and y.
        blur_size: variance of the blur in square pixels; 0: none.
        blur_angle: direction of the blur in degrees.
    """

    location: tuple[float, float] = (0.5, 0.5)
    rotation: float = 0.0
    fliplr: bool = False
    scale: float = 1.0
    skew: tuple[float, float] = (0.0, 0.0)
    blur_size: float = 0.0
    blur_angle: float = 0.0


def augmented(
    image: Image, mask: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> Iterator[tuple[Image, Image]]:
    """Draw augmented frames.

    Args:
        image: H W 3, RGB.
        mask: H W, the object.
        count: number of frames. There may be fewer, and there are none where the object is empty or fills the image.
        rng: source of random numbers.

    Yields:
        an image and its mask, H W of 0 and 1.
    """
    rows, columns = np.nonzero(mask)
    if not 0 < len(rows) < mask.size:
        return
    left, top, right, bottom = (float(x) for x in (columns.min(), rows.min(), columns.max(), rows.max()))
    box = Box((left + right) / 2, (top + bottom) / 2, right - left + 1, bottom - top + 1)
    label = mask.astype(np.uint8)
    hole = cv2.dilate(label, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2, 2)))
    background = cv2.inpaint(image, hole, 1, cv2.INPAINT_TELEA)
    size = (mask.shape[0], mask.shape[1])
    for _ in range(TRIALS):
        for move, behind in zip(object_moves(size, rng), background_moves(rng), strict=True):
            if count <= 0:
                return
            moved = move_matrix(move, box, size)
            inside = _warped(label, moved, cv2.INTER_NEAREST)
            if not 0 < int(inside.sum()) < inside.size:
                continue
            around = move_matrix(behind, Box(size[1] / 2, size[0] / 2, size[1], size[0]), size, limit=False)
            object_, rest = (
                _blurred(_warped(part, matrix, cv2.INTER_CUBIC), one)
                for part, matrix, one in ((image, moved, move), (background, around, behind))
            )
            yield np.where(inside[:, :, None] > 0, object_, rest), inside
            count -= 1


def object_moves(size: tuple[int, int], rng: np.random.Generator) -> list[Move]:
    """Draw the moves of an object in an image of size H, W for one trial."""
    parts = (ROTATIONS, FLIPS, SCALES, SKEWS, BLURS, ANGLES)
    drawn = zip(_grid(size, rng), *(_shuffled(part, rng) for part in parts), strict=True)
    return [Move(*each) for each in drawn]


def background_moves(rng: np.random.Generator) -> list[Move]:
    """Draw the moves of the background for one trial."""
    parts = (BACKGROUND_SCALES, BACKGROUND_BLURS, ANGLES)
    drawn = zip(*(_shuffled(part, rng) for part in parts), strict=True)
    return [Move(scale=scale, blur_size=blur, blur_angle=angle) for scale, blur, angle in drawn]


def move_matrix(move: Move, box: Box, size: tuple[int, int], limit: bool = True) -> NDArray[np.float64]:
    """Compute the matrix 3x3 that maps old to new positions (x, y, 1).

    Args:
        move: the move.
        box: of the object; its centre comes to `move.location`.
        size: H, W of the image.
        limit: whether the box must stay as small as the image, and as large as `MIN_SIDE` where the former allows it.
    """
    scale = move.scale
    if limit:
        scale = max(scale, MIN_SIDE / min(box.width, box.height))
        scale = min(scale, size[1] / box.width, size[0] / box.height)
    cos, sin = math.cos(math.radians(move.rotation)), math.sin(math.radians(move.rotation))
    rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    skew = np.array([[1, move.skew[0], 0], [move.skew[1], 1, 0], [0, 0, 1]])
    zoom = np.diag([-scale if move.fliplr else scale, scale, 1])
    target = _translation(move.location[0] * size[1], move.location[1] * size[0])
    matrix: NDArray[np.float64] = target @ skew @ rotation @ zoom @ _translation(-box.x, -box.y)
    return matrix


def blur_kernel(move: Move) -> NDArray[np.float64]:
    """Compute the kernel of a move's blur: a Gaussian along its direction, whose sum is 1."""
    if move.blur_size <= 0:
        return np.ones((1, 1))
    radius = math.ceil(move.blur_size / 2)
    cos, sin = math.cos(math.radians(move.blur_angle)), math.sin(math.radians(move.blur_angle))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along, across = cos * x - sin * y, sin * x + cos * y
    kernel: NDArray[np.float64] = np.exp(-(along**2 / move.blur_size + across**2 / THICKNESS) / 2)
    kernel /= kernel.sum()
    return kernel


def _grid(size: tuple[int, int], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Draw new centres: those of the cells of a grid, moved by an eighth of a cell (standard deviation)."""
    aspect = size[1] / size[0]
    rows = math.ceil(math.sqrt((SPECS + 1) / aspect))
    columns = math.ceil(aspect * rows)
    cells = [(column, row) for row in range(rows) for column in range(columns)]
    jitter = rng.normal(0, 1 / 8, (len(cells), 2))
    places = [
        ((column + 0.5 + dx) / columns, (row + 0.5 + dy) / rows)
        for (column, row), (dx, dy) in zip(cells, jitter.tolist(), strict=True)
    ]
    return _shuffled(places, rng)


def _shuffled(values: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Repeat values to at least `SPECS`, shuffle them and keep `SPECS`."""
    repeated = list(values) * math.ceil(SPECS / len(values))
    return [repeated[index] for index in rng.permutation(len(repeated))[:SPECS]]


def _translation(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def _warped(image: Image, matrix: NDArray[np.float64], interpolation: int) -> Image:
    warped: Any = cv2.warpAffine(image, matrix[:2], image.shape[1::-1], flags=interpolation)
    return warped  # type: ignore[no-any-return]


def _blurred(image: Image, move: Move) -> Image:
    blurred: Any = cv2.filter2D(image, -1, blur_kernel(move)) if move.blur_size > 0 else image
    return blurred  # type: ignore[no-any-return]
