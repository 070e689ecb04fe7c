"""Reads a mask from an image file: label maps, white on black, alpha, and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voslab.core import DataError
from voslab.video.images import DEEP_GREY, load_image
from voslab.video.mask_formats.colours import (
    WHITE,
    ColourTable,
    encode,
    has_davis_colours,
    palette_ids,
    table_ids,
    unknown_colour,
)
from voslab.video.mask_formats.options import MaskOptions, Warn, log_warning
from voslab.video.mask_formats.scrutiny import check_labels
from voslab.video.mask_formats.soft_edges import DIM_WHITE, cut_soft

_LOSSY = {".jpg", ".jpeg"}
_JPEG_TOLERANCE = 64
"""Pixels of a black and white mask in a JPEG are this close to black or white, except at edges."""
_MAX_CHROMA = 64  # difference of the channels of such a pixel
_MAX_GREY = 0.02
"""Maximum fraction of pixels of such a mask that are neither black nor white, or coloured."""
_DEEP_WHITE = 65535
_MIN_SOFT_LEVELS = 32  # soft edges have more grey levels; fewer are ids of a data set or a prediction
_PHOTO_COLOURS = 64  # a mask that a person painted has fewer
_DEFAULT = MaskOptions()


def read_mask(
    path: Path | str,
    options: MaskOptions = _DEFAULT,
    warn: Warn = log_warning,
    table: ColourTable | None = None,
) -> NDArray[np.int32]:
    """Read a mask file as a label map.

    The ids are the indices of palette images, the values of grey images (1, 8, 16 or 32 bits), and the index of each
    palette colour in RGB images (255 for white on black). A white object with soft edges is cut at half. Pixels of
    less than half the alpha are background; where the colours say nothing, as in a cut-out, the rest is one object. A
    JPEG can only be black and white. A palette image in which every id has its colour of the DAVIS palette, as
    `write_mask` writes it, is taken as it is.

    Args:
        path: Image file.
        options: How colours are understood.
        warn: Receives what was done to the mask.
        table: Ids of colours that other masks of the video share, for `colors="any"`.

    Returns:
        H W int32, 0 for background. Void is not removed.

    Raises:
        DataError: See `read_image`; also if an RGB colour is not in the palette, black is not entry 0 of the file's
            palette, or, unless `options.literal` is set, edges are anti-aliased or colours are dithered.
    """
    image = load_image(path)
    if image.mode in {"RGB", "L"} and Path(path).suffix.lower() in _LOSSY:
        return _black_and_white(path, image, warn)
    if image.mode not in {"1", "L", "LA", "P", "PA", "RGB", "RGBA"} | DEEP_GREY:
        raise DataError(f"{path}: an image of mode {image.mode} is no mask; save it as a palette or grey PNG")
    opaque = _opaque(path, image, warn)
    if image.mode in {"RGB", "RGBA"}:
        return _from_colours(path, image, opaque, options, warn, ColourTable(options.void) if table is None else table)
    labels = np.asarray(image.getchannel(0) if image.mode in {"LA", "PA"} else image)
    labels = labels if opaque is None else labels * opaque
    if image.mode in {"P", "PA"}:
        return _from_palette(path, image, labels.astype(np.uint8), options, warn)
    return _from_grey(path, labels, opaque, options, warn)


def _opaque(path: Path | str, image: Image.Image, warn: Warn) -> NDArray[np.bool_] | None:
    """Return H W, bool: pixels of at least half the highest alpha; None if alpha is the same everywhere."""
    if image.mode in {"LA", "PA", "RGBA"}:
        alpha = np.asarray(image.getchannel("A"))
    elif image.mode == "P" and "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    else:
        return None
    low, high = int(alpha.min()), int(alpha.max())
    if low == high > 0:
        return None
    if ((alpha > low) & (alpha < high)).any():
        warn("soft alpha", f"{path}: soft alpha, cut at half")
    return np.asarray(2 * alpha.astype(np.int32) >= max(1, high))


def _black_and_white(path: Path | str, image: Image.Image, warn: Warn) -> NDArray[np.int32]:
    """Restore the ids 0 and 255 of a black and white mask after lossy compression."""
    coloured = (np.ptp(np.asarray(image.convert("RGB")), axis=2) > _MAX_CHROMA).mean()
    grey = np.asarray(image.convert("L"))
    fraction = ((grey >= _JPEG_TOLERANCE) & (grey <= 255 - _JPEG_TOLERANCE)).mean()
    found = np.asarray(grey > 127) if fraction <= _MAX_GREY else cut_soft(grey, lossy=True)
    if found is None or coloured > _MAX_GREY:
        what = "neither black nor white" if found is None else "coloured"
        raise DataError(
            f"{path}: a JPEG changes the ids of a mask, and {max(fraction, coloured):.0%} of this one is {what};"
            " save it as PNG"
        )
    if fraction > _MAX_GREY:
        _warn_soft(path, warn)
    return np.where(found, WHITE, 0).astype(np.int32)


def _from_grey(
    path: Path | str,
    labels: NDArray[np.integer],
    opaque: NDArray[np.bool_] | None,
    options: MaskOptions,
    warn: Warn,
) -> NDArray[np.int32]:
    """Translate grey levels to ids."""
    if int(labels.min()) < 0:
        raise DataError(f"{path}: mask with the negative id {labels.min()}")
    high = int(labels.max())
    if high > _DEEP_WHITE or labels.dtype == np.bool_:
        return labels.astype(np.int32)
    deep = high > 255
    grey = (labels.astype(np.int64) * 255 // _DEEP_WHITE if deep else labels).astype(np.uint8)
    # 8-bit levels in 16 bits are multiples of 257.
    if not deep or high == _DEEP_WHITE or (high > 257 * DIM_WHITE and not (labels % 257).any()):
        soft = _cut(path, grey, options, warn)
        if soft is not None:
            return soft
    try:
        _check(path, labels, np.arange(high + 1)[:, None], options)
    except DataError:
        if opaque is None or len(np.unique(labels)) < _PHOTO_COLOURS:
            raise
        return _one_object(path, opaque, warn)
    if opaque is not None and not labels.any():
        return _one_object(path, opaque, warn)
    return labels.astype(np.int32)


def _check(path: Path | str, labels: NDArray[np.integer], colours: NDArray[np.integer], options: MaskOptions) -> None:
    if not options.literal:
        check_labels(path, labels, colours)


def _cut(path: Path | str, grey: NDArray[np.uint8], options: MaskOptions, warn: Warn) -> NDArray[np.int32] | None:
    """Return the label map of one white object, hard or soft; None for anything else."""
    if options.literal and len(np.unique(grey)) < _MIN_SOFT_LEVELS:
        return None
    found = cut_soft(grey)
    if found is None:
        return None
    if ((grey > 0) & (grey < 255)).any():
        _warn_soft(path, warn)
    return np.where(found, WHITE, 0).astype(np.int32)


def _warn_soft(path: Path | str, warn: Warn) -> None:
    warn("soft edges", f"{path}: soft edges, cut at half into one object (id {WHITE})")


def _one_object(path: Path | str, opaque: NDArray[np.bool_], warn: Warn) -> NDArray[np.int32]:
    if opaque.any():
        warn("alpha", f"{path}: the opaque part is taken for one object (id {WHITE})")
    return np.where(opaque, WHITE, 0).astype(np.int32)


def _from_palette(
    path: Path | str, image: Image.Image, labels: NDArray[np.uint8], options: MaskOptions, warn: Warn
) -> NDArray[np.int32]:
    """Take the indices of a palette image for ids, unless its colours are a soft white object on black."""
    colours = np.zeros((256, 3), np.uint8)
    stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    colours[: len(stored)] = stored
    used = np.unique(labels)
    if has_davis_colours(used, colours[used]):
        return labels.astype(np.int32)
    # Two or three grey entries can be ids. White (255) at entry 255 is white anyway.
    if len(used) > 2 and not np.ptp(colours[used], axis=1).any():
        soft = _cut(path, colours[labels, 0], options, warn)
        if soft is not None:
            return soft
    if colours[0].any() and (black := [i for i in used.tolist() if i < len(stored) and not colours[i].any()]):
        raise DataError(
            f"{path}: entry 0 of the palette, which stands for background, is the colour {colours[0].tolist()}, and"
            f" entry {black[0]} is black; save the mask with background as entry 0"
        )
    _check(path, labels, colours, options)
    return labels.astype(np.int32)


def _from_colours(
    path: Path | str,
    image: Image.Image,
    opaque: NDArray[np.bool_] | None,
    options: MaskOptions,
    warn: Warn,
    table: ColourTable,
) -> NDArray[np.int32]:
    """Translate the colours of an RGB mask to ids."""
    rgb = np.asarray(image.convert("RGB"))
    rgb = rgb if opaque is None else rgb * opaque[..., None]
    codes = encode(rgb)
    if opaque is not None and not codes.any():
        return _one_object(path, opaque, warn)
    white = palette_ids(codes) if options.colors == "auto" or _is_white(codes) else None
    if white is not None:
        _check(path, white, _colours(white, rgb), options)
        return white
    if not np.ptp(rgb, axis=2).any():
        grey = np.ascontiguousarray(rgb[..., 0])
        soft = _cut(path, grey, options, warn)
        if soft is not None:
            return soft
        if options.colors == "auto":
            return _from_grey(path, grey, opaque, options, warn)
    if opaque is not None and _is_photo(codes, opaque):
        return _one_object(path, opaque, warn)
    if options.colors == "auto":
        raise unknown_colour(path, codes)
    labels = table_ids(path, codes, table)
    _check(path, labels, _colours(labels, rgb), options)
    warn(f"colours {table.describe()}", f"{path}: every colour is an object: {table.describe()}")
    return labels


def _is_white(codes: NDArray[np.int32]) -> bool:
    return not ((codes != 0) & (codes != 0xFFFFFF)).any()


def _is_photo(codes: NDArray[np.int32], opaque: NDArray[np.bool_]) -> bool:
    """Whether the opaque part is one colour, or has more colours than a mask."""
    colours = len(np.unique(codes[opaque]))
    return colours == 1 or colours > _PHOTO_COLOURS


def _colours(labels: NDArray[np.int32], rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colour of each id, N 3."""
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels.ravel()] = rgb.reshape(-1, 3)
    return colours
