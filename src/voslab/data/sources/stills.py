"""Lists annotated still images, the input of pseudo-clips, in flat folders of image and mask pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video.images import opened_image, read_image, read_mask

VOID_STILL = -1
"""Void in the labels of a still."""
PAIRS = (
    ("DUTS-TR-Image", "DUTS-TR-Mask"),
    ("DUTS-TE-Image", "DUTS-TE-Mask"),
    ("images", "ground_truth_mask"),
    ("images", "masks"),
    ("image", "mask"),
    ("Imgs", "GT"),
    ("JPEGImages", "Annotations"),
)
"""Folders of images and of their masks that lie side by side in published sets (DUTS, ECSSD, …)."""
_IMAGES = (".jpg", ".jpeg")


class Still(NamedTuple):
    """Image H W 3 uint8, labels H W int32 (0 background, ids from 1, `VOID_STILL`), name."""

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    name: str


class Stills(Protocol):
    """A set of annotated stills."""

    def __len__(self) -> int: ...

    def load(self, place: int) -> Still:
        """Decode one. Raises `DataError` naming the file."""
        ...


@dataclass(frozen=True)
class PairedStills:
    """Images and masks by path; see `stills`."""

    pairs: tuple[tuple[Path, Path], ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, place: int) -> Still:
        """Decode a pair. A palette mask holds ids; a grey one is an object where it is above half.

        Raises:
            DataError: missing, damaged, or of different sizes.
        """
        path, mask = self.pairs[place]
        image = read_image(path)
        labels = read_mask(mask) if _has_palette(mask) else (read_image(mask)[..., 0] > 127).astype(np.int32)
        if labels.shape != image.shape[:2]:
            raise DataError(
                f"{mask}: the mask is {labels.shape[1]} x {labels.shape[0]} pixels, its image {path} is"
                f" {image.shape[1]} x {image.shape[0]}"
            )
        return Still(image, labels, f"{path.parent.name}/{path.stem}")


def stills(root: Path | str) -> PairedStills:
    """All pairs below a folder: `name.jpg` with `name.png` beside it (FSS-1000, flat sets), or in one of `PAIRS`.

    Images without a mask are left out where others in their folder have one.

    Raises:
        DataError: no folder, or no pair in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    folders = [root, *sorted(path for path in root.rglob("*") if path.is_dir() and not path.name.startswith("."))]
    pairs = tuple(pair for folder in folders for pair in _pairs(folder))
    if not pairs:
        beside = ", ".join(f"{images}/ + {masks}/" for images, masks in PAIRS)
        raise DataError(f"{root}: no pairs of image and mask; looked for name.jpg + name.png, and for {beside}")
    return PairedStills(pairs)


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES and path.name[0] != ".")
    if not images:
        return
    places = [folder, *(folder.parent / masks for name, masks in PAIRS if folder.name == name)]
    for image in images:
        found = next((mask for place in places if (mask := place / f"{image.stem}.png").is_file()), None)
        if found is not None:
            yield image, found


def _has_palette(path: Path) -> bool:
    try:
        with opened_image(path) as image:
            return image.mode in {"P", "PA"}
    except DataError:
        return False  # reading it gives the clear error
