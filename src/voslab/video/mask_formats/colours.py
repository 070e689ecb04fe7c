"""Translates the colours of masks to ids."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video.palette import palette

WHITE = 255
"""Id of the object of a white on black mask."""
_WHITE_CODE = 0xFFFFFF
_MAX_COLOURS = 4096  # of a mask in which every colour is an object
_FEW = 64  # colours that a person can have painted
_SHOWN = 8


class ColourTable:
    """Ids of colours: 1, 2, … in the order of their first use; within one file in the order of the RGB values.

    Args:
        void: Id of void pixels, whose colour in the palette is that id; None if there is none.

    Example:
        >>> table = ColourTable()
        >>> table.add([0xFF0000, 0x0000FF, 0])
        >>> table.ids
        {0: 0, 255: 1, 16711680: 2}
        >>> table.describe()
        '1 = [0, 0, 255], 2 = [255, 0, 0]'
    """

    def __init__(self, void: int | None = None) -> None:
        self.ids: dict[int, int] = {0: 0}
        if void is not None and void < len(palette()):
            self.ids[int(encode(palette()[void]))] = void
        self._void = void

    def add(self, codes: Iterable[int]) -> None:
        """Give ids to the colours that have none.

        Args:
            codes: Colours, red x 65536 + green x 256 + blue.
        """
        used = set(self.ids.values())
        following = (i for i in range(1, len(used) + 2**24) if i not in used and i != self._void)
        for code in sorted(set(codes) - set(self.ids)):
            self.ids[code] = next(following)

    def describe(self) -> str:
        """Return the ids and their colours."""
        pairs = sorted((i, code) for code, i in self.ids.items() if code and i != self._void)
        shown = ", ".join(f"{i} = {decode(code)}" for i, code in pairs[:_SHOWN])
        return shown + (f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else "")


def encode(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Encode colours ... 3 as red x 65536 + green x 256 + blue.

    Example:
        >>> int(encode(np.array([0, 1, 2], np.uint8)))
        258
    """
    codes: NDArray[np.int32] = image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return codes


def decode(code: int) -> list[int]:
    """Return the red, green and blue of a code.

    Example:
        >>> decode(258)
        [0, 1, 2]
    """
    return [code >> 16, code >> 8 & 255, code & 255]


@cache
def _palette_ids() -> dict[int, int]:
    # Some copies of the DAVIS palette have 191 in place of 192.
    table = palette()
    copies = (np.where(table == 192, 191, table).astype(np.uint8), table)
    return {code: i for colours in copies for i, code in enumerate(encode(colours).tolist())}


def palette_ids(codes: NDArray[np.int32]) -> NDArray[np.int32] | None:
    """Return ids of a mask with the colours of the DAVIS palette, or white on black.

    Args:
        codes: Colours H W; see `encode`.

    Returns:
        Label map H W; None if a colour is not in the palette.

    Example:
        >>> palette_ids(np.array([[0, 0x800000]], np.int32)).tolist(), palette_ids(np.array([[0, 1]], np.int32))
        ([[0, 1]], None)
    """
    colours, inverse = np.unique(codes, return_inverse=True)
    if set(colours.tolist()) <= {0, _WHITE_CODE}:
        return np.where(codes, WHITE, 0).astype(np.int32)
    ids = [_palette_ids().get(code, -1) for code in colours.tolist()]
    return None if min(ids) < 0 else np.array(ids, np.int32)[inverse].reshape(codes.shape)


def has_davis_colours(ids: NDArray[np.integer], colours: NDArray[np.uint8]) -> bool:
    """Return whether every id has its colour of the DAVIS palette, or of the copies with 191 in place of 192.

    Args:
        ids: Ids from 0 to 255, N.
        colours: Their colours, N 3.

    Example:
        >>> ids = np.array([0, 3])
        >>> has_davis_colours(ids, palette()[ids]), has_davis_colours(ids, palette()[ids + 1])
        (True, False)
    """
    expected = palette()[ids]
    return any(bool((colours == table).all()) for table in (expected, np.where(expected == 192, 191, expected)))


def table_ids(path: Path | str, codes: NDArray[np.int32], table: ColourTable) -> NDArray[np.int32]:
    """Return ids of a mask in which every distinct colour is an object.

    Args:
        path: File, for the message.
        codes: Colours H W; see `encode`.
        table: Ids of the colours; new colours are added.

    Raises:
        DataError: If there are too many colours for a mask.
    """
    colours, inverse = np.unique(codes, return_inverse=True)
    if len(colours) > _MAX_COLOURS:
        raise DataError(f"{path}: {len(colours)} colours: a photo, or a mask that was compressed with loss")
    table.add(colours.tolist())
    return np.array([table.ids[code] for code in colours.tolist()], np.int32)[inverse].reshape(codes.shape)


def unknown_colour(path: Path | str, codes: NDArray[np.int32]) -> DataError:
    """Return the error for a mask with colours that are not in the DAVIS palette.

    Args:
        path: File, for the message.
        codes: Colours H W; see `encode`.
    """
    colours, counts = np.unique(codes, return_counts=True)
    unknown = np.array([code not in _palette_ids() for code in colours.tolist()])
    worst = np.where(unknown, counts, 0).argmax()
    more = f" ({unknown.sum()} such colours)" if unknown.sum() > 1 else ""
    any_colour = "take every colour for an object with mask_colors=any, " if len(colours) <= _FEW else ""
    return DataError(
        f"{path}: colour {decode(int(colours[worst]))} on {counts[worst]} pixels is not in the DAVIS palette{more};"
        f" {any_colour}paint one object white on black, or save a palette PNG"
    )
