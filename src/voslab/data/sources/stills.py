"""Lists annotated still images, the input of pseudo-clips, in flat folders of image and mask pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video.images import opened_image, read_image
from voslab.video.mask_formats.label_image import read_mask
from voslab.video.mask_formats.options import LITERAL

VOID_STILL = -1
"""Label of void pixels of a still image."""
PAIRS = (
    ("DUTS-TR-Image", "DUTS-TR-Mask"),
    ("DUTS-TE-Image", "DUTS-TE-Mask"),
    ("images", "ground_truth_mask"),
    ("images", "masks"),
    ("image", "mask"),
    ("Imgs", "GT"),
    ("JPEGImages", "Annotations"),
)
"""Names of image and mask folders in published data sets (DUTS, ECSSD, …)."""
_IMAGES = (".jpg", ".jpeg")


class Still(NamedTuple):
    """An annotated still image.

    Attributes:
        image: RGB image, H W 3 uint8.
        labels: Label map, H W int32: 0 for background, ids from 1, and `VOID_STILL`.
        name: Name, for messages.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    name: str


class Stills(Protocol):
    """A data set of annotated still images."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> Still:
        """Read an image and its labels.

        Args:
            index: Index of the image.

        Raises:
            DataError: If a file is missing or damaged.
        """
        ...


@dataclass(frozen=True)
class PairedStills:
    """Pairs of image and mask files; see `stills`.

    Attributes:
        pairs: Paths of image and mask.
    """

    pairs: tuple[tuple[Path, Path], ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, index: int) -> Still:
        """Read an image and its labels. A palette mask has ids; a grey mask is one object, thresholded at half.

        Args:
            index: Index of the pair.

        Returns:
            Image and labels.

        Raises:
            DataError: If a file is missing or damaged, or the sizes differ.
        """
        path, mask = self.pairs[index]
        image = read_image(path)
        labels = read_mask(mask, LITERAL) if _has_palette(mask) else (read_image(mask)[..., 0] > 127).astype(np.int32)
        if labels.shape != image.shape[:2]:
            raise DataError(
                f"{mask}: the mask is {labels.shape[1]} x {labels.shape[0]} pixels, its image {path} is"
                f" {image.shape[1]} x {image.shape[0]}"
            )
        return Still(image, labels, f"{path.parent.name}/{path.stem}")


def stills(root: Path | str) -> PairedStills:
    """List all pairs of `name.jpg` and `name.png` below a folder.

    The mask is in the folder of its image (FSS-1000, flat data sets), or in the mask folder of `PAIRS`. Images without
    a mask are skipped.

    Args:
        root: The folder.

    Returns:
        The pairs.

    Raises:
        DataError: If the folder does not exist or has no pair.
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
    mask_folders = [folder, *(folder.parent / masks for name, masks in PAIRS if folder.name == name)]
    for image in images:
        candidates = (mask_folder / f"{image.stem}.png" for mask_folder in mask_folders)
        mask = next((path for path in candidates if path.is_file()), None)
        if mask is not None:
            yield image, mask


def _has_palette(path: Path) -> bool:
    try:
        with opened_image(path) as image:
            return image.mode in {"P", "PA"}
    except DataError:
        return False  # reading the mask raises the same error
