"""Small data sets in the official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voslab.data import VideoSequence
from voslab.video import palette


def labels(frame: int, size: tuple[int, int] = (24, 40), ids: tuple[int, ...] = (1, 2)) -> NDArray[np.uint8]:
    """8 x 8 squares side by side that move right by one pixel a frame."""
    out = np.zeros(size, np.uint8)
    for place, identity in enumerate(ids):
        out[4:12, 2 + 12 * place + frame : 10 + 12 * place + frame] = identity
    return out


def image(frame: int, size: tuple[int, int] = (24, 40)) -> NDArray[np.uint8]:
    return np.random.default_rng(frame).integers(0, 256, (*size, 3), dtype=np.uint8)


def save_mask(path: Path, mask: NDArray[np.uint8], mode: str = "P") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "RGB":
        out = Image.fromarray(palette()[mask])
    elif mode == "LA":
        out = Image.merge("LA", [Image.fromarray(mask), Image.new("L", mask.shape[::-1], 255)])
    else:
        out = Image.fromarray(mask)
        if mode == "P":
            out.putpalette(palette().tobytes())
    out.save(path)


def save_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def video(folder: Path, frames: int = 6, ids: tuple[int, ...] = (1, 2), **options: object) -> VideoSequence:
    """A lossless sequence, outside any data set."""
    for t in range(frames):
        save_image(folder / f"{t:05}.png", image(t))
        save_mask(folder / "masks" / f"{t:05}.png", labels(t, ids=ids))
    images = tuple(folder / f"{t:05}.png" for t in range(frames))
    masks = tuple(folder / "masks" / path.name for path in images)
    return VideoSequence(folder.name, images, masks, **options)


def davis_tree(
    root: Path, names: tuple[str, ...] = ("bear", "camel"), frames: int = 5, year: int = 2017, mode: str = "P"
) -> Path:
    """DAVIS as released for a year, one split `train`."""
    ids = (1, 2) if year == 2017 else (255,)
    lines = []
    for name in names:
        for t in range(frames):
            jpeg, png = f"JPEGImages/480p/{name}/{t:05}.jpg", f"Annotations/480p/{name}/{t:05}.png"
            save_image(root / jpeg, image(t))
            save_mask(root / png, labels(t, ids=ids), mode)
            lines.append(f"/{jpeg} /{png} \n")
    folder = root / "ImageSets" / ("2017" if year == 2017 else "480p")
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("".join(lines) if year == 2016 else "\n".join(names) + "\n")
    return root
