"""Reads still images, and checks them for damage."""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from voslab.core import DataError

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_COLOUR = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
DEEP_GREY = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
"""Modes of grey images with more than 8 bits."""
_ORIENTATION, _FIRST_TRANSPOSED = 0x0112, 5  # EXIF tag, and the first orientation that swaps height and width
# Errors of Pillow's decoders on damaged files, besides OSError; found by flipping bits.
_DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, struct.error, zlib.error),
)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read an image file as upright RGB. The EXIF orientation is applied, alpha is dropped, 16-bit grey becomes 8-bit.

    Args:
        path: JPEG, PNG, BMP, TIFF or WebP file.

    Returns:
        H W 3 uint8.

    Raises:
        DataError: if the file does not exist, is not an image, is truncated, or has too many pixels.
    """
    image = load_image(path)
    if image.mode in DEEP_GREY:
        grey = (np.clip(np.asarray(image, np.int64), 0, 65535) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode not in _COLOUR:
        raise DataError(f"{path}: images of mode {image.mode} are not read; save it as RGB with 8 bits")
    # Through RGBA, as Pillow warns when it drops a palette's alpha.
    return np.array((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """Read the size of an image from its header.

    Args:
        path: image file.

    Returns:
        H, W of the upright image.

    Raises:
        DataError: see `read_image`.
    """
    with opened_image(path) as image:
        # `getexif` would decode a whole PNG to find EXIF data at its end.
        has_exif = image.format != "PNG" or "exif" in image.info
        transposed = has_exif and image.getexif().get(_ORIENTATION, 1) >= _FIRST_TRANSPOSED
        return (image.width, image.height) if transposed else (image.height, image.width)


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of an image format and is not hidden.

    Args:
        name: name of the file.

    Example:
        >>> is_image_name("a.PNG"), is_image_name(".a.png"), is_image_name("a.txt")
        (True, False, False)
    """
    return Path(name).suffix.lower() in _SUFFIXES and not name.startswith(".")


def image_files(folder: Path | str) -> list[Path]:
    """List the image files of a folder in natural order (`2.jpg` before `10.jpg`); hidden files are ignored.

    Args:
        folder: the folder.

    Returns:
        its files with the extension of an image format.

    Raises:
        DataError: if the folder does not exist, has no image, or has two images that differ only in the extension.
    """
    folder = Path(folder)
    try:
        entries = sorted(folder.iterdir(), key=lambda path: (_natural(path.stem), path.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
    files = [path for path in entries if is_image_name(path.name) and not path.is_dir()]
    if not files:
        raise DataError(f"{folder}: no image in this folder (looked for {', '.join(sorted(_SUFFIXES))})")
    stem, count = Counter(path.stem for path in files).most_common(1)[0]
    if count > 1:
        raise DataError(f"{folder}: {count} images are named {stem}; keep one of them")
    return files


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that compares runs of digits as numbers, before letters."""
    return [
        (False, int(part), "") if part.isdecimal() else (True, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def load_image(path: Path | str) -> Image.Image:
    """Decode an image and turn it upright.

    Args:
        path: image file.

    Returns:
        the image in the mode of the file.

    Raises:
        DataError: see `read_image`.
    """
    with opened_image(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def opened_image(path: Path | str) -> Iterator[Image.Image]:
    """Open an image file and read its header, until the block ends.

    Args:
        path: image file.

    Yields:
        the image; its pixels are decoded when they are accessed.

    Raises:
        DataError: see `read_image`; also for errors of Pillow inside the block.
    """
    try:
        # Opening a pipe or a device would block. A folder passes, because `open` has a clear error for it.
        if not (stat.S_ISREG(mode := Path(path).stat().st_mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{path}: not a file")
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise Image.DecompressionBombError
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not an image, or a damaged one (read are {', '.join(_FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels, too many for a frame") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        raise DataError(f"{path}: damaged image ({' '.join(str(error).split()) or type(error).__name__})") from error
