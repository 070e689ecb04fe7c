"""Reads still images and masks of any supported format, with one clear error for each fault."""

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
_ORIENTATION, _FIRST_TURNED = 0x0112, 5  # EXIF orientations from here on swap height and width
_LOSSY = {".jpg", ".jpeg"}
_NEARLY = 64
"""Grey levels from black or white that a JPEG of a black and white mask stays within, but for its edges."""
_BETWEEN = 0.02
"""Share of the frame that those may take."""
# A real mask may hold this many objects that are too small to have an inside; more of them are an anti-aliased edge.
_THIN_IDS = 8
# What Pillow's decoders raise on damaged files, besides OSError; found by flipping bits.
_DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, struct.error, zlib.error),
)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read an image file as H W 3 RGB uint8, turned upright (EXIF). Alpha is dropped, 16-bit grey scaled to 8 bits.

    Raises:
        DataError: no such file, not an image, truncated, or too large to be honest.
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
    """Read a mask file as a label map, H W int32, 0 for background.

    Palette images give their indices, grey ones of 1, 8, 16 or 32 bits their values, RGB ones the index of each palette
    colour (or 0 and 255 for plain black and white); what is wholly transparent is background. A JPEG can only be black
    and white.

    Raises:
        DataError: as `read_image`; an RGB colour that is not in the palette; the soft edges of an anti-aliased mask;
            a palette whose black is another entry than 0.
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
        _refuse_soft_edges(path, labels)
    if image.mode in {"P", "PA"}:
        _refuse_swapped(path, image, labels)
    if int(labels.min()) < 0:
        raise DataError(f"{path}: mask with the negative id {labels.min()}")
    return labels.astype(np.int32)


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width of an image file, upright, from its header. Raises `DataError` as `read_image`."""
    with opened_image(path) as image:
        # Of a PNG without EXIF in front, Pillow would decode all to look for it at the end.
        has = image.format != "PNG" or "exif" in image.info
        turned = has and image.getexif().get(_ORIENTATION, 1) >= _FIRST_TURNED
        return (image.width, image.height) if turned else (image.height, image.width)


def image_files(folder: Path | str) -> list[Path]:
    """The image files of a folder in natural order (`2.jpg` before `10.jpg`). Hidden and other files are ignored.

    Raises:
        DataError: no such folder, no image in it, or two images that differ in their extension only.
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
    stem, times = Counter(path.stem for path in files).most_common(1)[0]
    if times > 1:
        raise DataError(f"{folder}: {times} images are named {stem}; keep one of them")
    return files


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that compares runs of digits as numbers, and puts them before letters."""
    return [
        (False, int(part), "") if part.isdecimal() else (True, 0, part) for part in re.split(r"(\d+)", name) if part
    ]


def _load(path: Path | str) -> Image.Image:
    """The decoded image, upright."""
    with opened_image(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def opened_image(path: Path | str) -> Iterator[Image.Image]:
    """An image of which only the header is read. Everything that Pillow has against the file is a `DataError`."""
    try:
        # A pipe or a device would be waited for; what a folder is, opening says.
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
    """H W, false where nothing would be seen."""
    if image.mode in {"LA", "PA", "RGBA"}:
        return np.asarray(image.getchannel("A")) > 0
    return np.ones((image.height, image.width), np.bool_)


def _black_and_white(path: Path | str, grey: NDArray[np.uint8]) -> NDArray[np.int32]:
    """0 and 255 of what a lossy format left of them."""
    between = ((grey >= _NEARLY) & (grey <= 255 - _NEARLY)).mean()
    if between > _BETWEEN:
        raise DataError(
            f"{path}: a JPEG changes the ids of a mask, and {between:.0%} of this one is neither black nor white;"
            " save it as PNG"
        )
    return np.where(grey > 127, 255, 0).astype(np.int32)


def _refuse_swapped(path: Path | str, image: Image.Image, labels: NDArray[np.integer]) -> None:
    """A frame that a program gave a palette of its own: background is where it is black, whatever its entry."""
    colours = np.array(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
    black = [int(i) for i in np.unique(labels) if i < len(colours) and not colours[i].any()]
    if colours[0].any() and black:
        raise DataError(
            f"{path}: entry 0 of the palette, which stands for background, is the colour {colours[0].tolist()}, and"
            f" entry {black[0]} is black; save the mask with background as entry 0"
        )


def _refuse_soft_edges(path: Path | str, labels: NDArray[np.uint8]) -> None:
    """Each grey of an anti-aliased edge would become an object; ids that are nowhere 3 pixels wide give it away."""
    # A histogram of bytes by OpenCV: NumPy would count in 64-bit numbers, ten times as long.
    ids = np.flatnonzero(cv2.calcHist([labels], [0], None, [256], [0, 256])[1:]) + 1
    if len(ids) <= _THIN_IDS:
        return
    square = np.ones((3, 3), np.uint8)
    inside = labels[cv2.erode(labels, square) == cv2.dilate(labels, square)]
    thin = len(ids) - np.isin(ids, inside).sum()
    if thin > _THIN_IDS and 2 * thin > len(ids):
        raise DataError(
            f"{path}: {len(ids)} ids, {thin} of them nowhere 3 pixels wide: an anti-aliased mask?"
            " Save it without soft edges, as a palette PNG"
        )


def _from_colours(path: Path | str, image: NDArray[np.uint8]) -> NDArray[np.int32]:
    codes = image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    found, pixel, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if set(found.tolist()) <= {0, 0xFFFFFF}:
        return np.where(codes, 255, 0).astype(np.int32)
    # Some copies of the DAVIS palette have 191 where the formula gives 192.
    table = palette().astype(int)
    index = {tuple(c): i for t in (np.where(table == 192, 191, table), table) for i, c in enumerate(t.tolist())}
    ids = [index.get((code >> 16, code >> 8 & 255, code & 255), -1) for code in found.tolist()]
    strange = np.array(ids) < 0
    if strange.any():
        worst = np.where(strange, counts, 0).argmax()
        more = f" ({strange.sum()} such colours)" if strange.sum() > 1 else ""
        raise DataError(
            f"{path}: colour {image[codes == found[worst]][0].tolist()} on {counts[worst]} pixels is not in the"
            f" DAVIS palette{more}; paint one object white on black, or save a palette PNG"
        )
    return np.array(ids, np.int32)[pixel].reshape(codes.shape)
