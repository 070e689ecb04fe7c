"""Renders procedural textures: smooth noise, stripes and spots in two colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PATTERNS = ("noise", "stripes", "spots")


def noise(rng: np.random.Generator, size: tuple[int, int], cells: int, octaves: int) -> Floats:
    """Sample smooth noise.

    Args:
        rng: Random generator.
        size: H, W in pixels.
        cells: Number of cells along the height in the coarsest octave.
        octaves: Number of octaves, each twice as fine and 0.6 times as strong as the one before.

    Returns:
        Noise in [0, 1], H W.
    """
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        rows = cells * 2**octave
        coarse = rng.random((rows + 1, max(2, round(rows * width / height)) + 1), np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def texture(
    rng: np.random.Generator, size: tuple[int, int], first: Floats, second: Floats, kind: str = "noise"
) -> Floats:
    """Render a pattern that varies between two colours, with fine grain.

    Args:
        rng: Random generator.
        size: H, W in pixels.
        first: RGB colour, 3 in [0, 255].
        second: RGB colour, 3 in [0, 255].
        kind: One of `PATTERNS`.

    Returns:
        Texture, H W 3 in [0, 255].
    """
    base = noise(rng, size, 4, 4)
    if kind == "stripes":
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32) / size[0]
        angle = rng.uniform(0, np.pi)
        pattern = 0.5 + 0.5 * np.sin(rng.uniform(30, 55) * (x * np.cos(angle) + y * np.sin(angle)) + 3 * base)
    elif kind == "spots":
        pattern = 1 / (1 + np.exp(-18 * (noise(rng, size, 7, 1) - 0.5)))
    else:
        pattern = base
    grain = 36 * (noise(rng, size, 12, 2) - 0.5)
    colours = first + pattern[..., None] * (second - first) + grain[..., None]
    return np.asarray(np.clip(colours, 0, 255), np.float32)
