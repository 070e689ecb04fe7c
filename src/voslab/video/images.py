"""Reads still images and masks, and checks them for damage and for values that cannot be object ids."""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from voslab.core import DataError
from voslab.video.palette import palette

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_COLOUR = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
_DEEP_GREY = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})
_ORIENTATION, _FIRST_TRANSPOSED = 0x0112, 5  # EXIF tag, and the first orientation that swaps height and width
_LOSSY = {".jpg", ".jpeg"}
_JPEG_TOLERANCE = 64
"""Pixels of a black and white mask in a JPEG are this close to black or white, except at edges."""
_MAX_GREY_FRACTION = 0.02
"""Maximum fraction of pixels of such a mask that are neither black nor white."""
# Masks may have this many objects that are nowhere 3 pixels wide. A larger number indicates anti-aliased edges.
_MAX_THIN_IDS = 8
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
    image = _load(path)
    if image.mode in _DEEP_GREY:
        grey = (np.clip(np.asarray(image, np.int64), 0, 65535) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode not in _COLOUR:
        raise DataError(f"{path}: images of mode {image.mode} are not read; save it as RGB with 8 bits")
    # Through RGBA, as Pillow warns when it drops a palette's alpha.
    return np.array((image.convert("RGBA") if "transparency" in image.info else image).convert("RGB"))


def read_mask(path: Path | str) -> NDArray[np.int32]:
    """Read a mask file as a label map.

    The ids are the indices of palette images, the values of grey images (1, 8, 16 or 32 bits), and the index of each
    palette colour in RGB images (0 and 255 for black and white). Transparent pixels are background. A JPEG can only
    be black and white.

    Args:
        path: image file.

    Returns:
        H W int32, 0 for background.

    Raises:
        DataError: see `read_image`; also if an RGB colour is not in the palette, edges are anti-aliased, or black is
            not entry 0 of the file's palette.
    """
    image = _load(path)
    if image.mode in {"RGB", "L"} and Path(path).suffix.lower() in _LOSSY:
        return _black_and_white(path, np.asarray(image.convert("L")))
    if image.mode in {"RGB", "RGBA"}:
        return _from_colours(path, np.asarray(image.convert("RGB")) * _opaque(image)[..., None])
    if image.mode not in {"1", "L", "LA", "P", "PA"} | _DEEP_GREY:
        raise DataError(f"{path}: an image of mode {image.mode} is no mask; save it as a palette or grey PNG")
    labels = np.asarray(image)
    labels = (labels[..., 0] if labels.ndim == 3 else labels) * _opaque(image)
    if image.mode in {"L", "LA"}:
        _check_edges(path, labels)
    if image.mode in {"P", "PA"}:
        _check_background(path, image, labels)
    if int(labels.min()) < 0:
        raise DataError(f"{path}: mask with the negative id {labels.min()}")
    return labels.astype(np.int32)


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
    files = [
        path
        for path in entries
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]
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


def _load(path: Path | str) -> Image.Image:
    """Decode an image and turn it upright."""
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


def _opaque(image: Image.Image) -> NDArray[np.bool_]:
    """Return H W, bool: pixels that are not fully transparent."""
    if image.mode in {"LA", "PA", "RGBA"}:
        return np.asarray(image.getchannel("A")) > 0
    return np.ones((image.height, image.width), np.bool_)


def _black_and_white(path: Path | str, grey: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Restore the ids 0 and 255 of a black and white mask after lossy compression."""
    fraction = ((grey >= _JPEG_TOLERANCE) & (grey <= 255 - _JPEG_TOLERANCE)).mean()
    if fraction > _MAX_GREY_FRACTION:
        raise DataError(
            f"{path}: a JPEG changes the ids of a mask, and {fraction:.0%} of this one is neither black nor white;"
            " save it as PNG"
        )
    return np.where(grey > 127, 255, 0).astype(np.int32)


def _check_background(path: Path | str, image: Image.Image, labels: NDArray[np.integer]) -> None:
    """Raise `DataError` for a palette in which black, the usual background, is another entry than 0."""
    colours = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
    black = [int(i) for i in np.unique(labels) if i < len(colours) and not colours[i].any()]
    if colours[0].any() and black:
        raise DataError(
            f"{path}: entry 0 of the palette, which stands for background, is the colour {colours[0].tolist()}, and"
            f" entry {black[0]} is black; save the mask with background as entry 0"
        )


def _check_edges(path: Path | str, labels: NDArray[np.uint8]) -> None:
    """Raise `DataError` for anti-aliased edges: most ids are then nowhere 3 pixels wide."""
    # OpenCV's histogram of bytes is ten times as fast as NumPy's.
    ids = np.flatnonzero(cv2.calcHist([labels], [0], None, [256], [0, 256])[1:]) + 1
    if len(ids) <= _MAX_THIN_IDS:
        return
    square = np.ones((3, 3), np.uint8)
    interior = labels[cv2.erode(labels, square) == cv2.dilate(labels, square)]
    thin = len(ids) - np.isin(ids, interior).sum()
    if thin > _MAX_THIN_IDS and 2 * thin > len(ids):
        raise DataError(
            f"{path}: {len(ids)} ids, {thin} of them nowhere 3 pixels wide: an anti-aliased mask?"
            " Save it without soft edges, as a palette PNG"
        )


def _from_colours(path: Path | str, image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Translate the colours of an RGB mask to ids."""
    codes = image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    colours, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if set(colours.tolist()) <= {0, 0xFFFFFF}:
        return np.where(codes, 255, 0).astype(np.int32)
    # Some copies of the DAVIS palette have 191 in place of 192.
    table = palette().astype(int)
    index = {tuple(c): i for t in (np.where(table == 192, 191, table), table) for i, c in enumerate(t.tolist())}
    ids = [index.get((code >> 16, code >> 8 & 255, code & 255), -1) for code in colours.tolist()]
    unknown = np.array(ids) < 0
    if unknown.any():
        worst = np.where(unknown, counts, 0).argmax()
        more = f" ({unknown.sum()} such colours)" if unknown.sum() > 1 else ""
        raise DataError(
            f"{path}: colour {image[codes == colours[worst]][0].tolist()} on {counts[worst]} pixels is not in the"
            f" DAVIS palette{more}; paint one object white on black, or save a palette PNG"
        )
    return np.array(ids, np.int32)[inverse].reshape(codes.shape)
