"""Looks into the pictures of a data set: are they whole, and do masks have the size of their frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, singledispatch
from itertools import islice
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.layout import Annotated, DataSet, Made, Own, Pairs, Part, Videos
from voslab.data.preparation.listing import first, folders, read_annotated, sequence_names, stems
from voslab.data.sources.stills import stills
from voslab.video.images import image_size, read_image, read_mask

_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture, its mask if it has one, and its size H W if something declares it."""

    image: Path
    mask: Path | None = None
    size: tuple[int, int] | None = None


def verify(data_set: DataSet, decode: bool, progress: Callable[[int], None] = lambda done: None) -> tuple[str, ...]:
    """Everything that is wrong with the pictures that are there, one line each, in the order of their names.

    Args:
        data_set: pictures that are missing are not looked for.
        decode: decode all of every picture and mask, not just its header.
        progress: told how many pictures are done.
    """
    faults: list[str] = []
    pictures = (picture for part in data_set.parts for picture in _pictures(part, data_set.root))
    check, done = partial(_fault, decode=decode), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(pictures, _AT_ONCE)):
            faults += [fault for fault in pool.map(check, batch) if fault is not None]
            done += len(batch)
            progress(done)
    return tuple(faults)


def _fault(picture: _Picture, decode: bool) -> str | None:
    try:
        size = image_size(picture.image)
        if picture.size is not None and picture.size != size:
            return f"{picture.image}: {_by(size)} pixels, its annotations say {_by(picture.size)}"
        if picture.mask is not None and (other := image_size(picture.mask)) != size:
            return f"{picture.mask}: {_by(other)} pixels, its frame {_by(size)}"
        if decode:
            read_image(picture.image)
            if picture.mask is not None:
                read_mask(picture.mask)
    except DataError as error:
        return str(error)
    return None


def _by(size: tuple[int, int]) -> str:
    """Width x height, as people say it."""
    return f"{size[1]} x {size[0]}"


@singledispatch
def _pictures(part: Part, root: Path) -> Iterator[_Picture]:
    raise TypeError(part)


@_pictures.register
def _(part: Videos, root: Path) -> Iterator[_Picture]:
    for name in sequence_names(part, root):
        masks = stems(root / part.masks / name, {".png"}) if part.masks else {}
        for stem, image in stems(root / part.frames / name).items():
            yield _Picture(image, masks.get(stem))


@_pictures.register
def _(part: Annotated, root: Path) -> Iterator[_Picture]:
    path, folder = first(root, part.annotations), first(root, part.folders)
    if path is None or folder is None:
        return
    for name, size in read_annotated(path)[0].items():
        if (folder / name).is_file():
            yield _Picture(folder / name, size=size)


@_pictures.register
def _(part: Pairs, root: Path) -> Iterator[_Picture]:
    try:
        yield from (_Picture(image, mask) for image, mask in stills(root).pairs)
    except DataError:
        return  # nothing is there


@_pictures.register
def _(part: Own, root: Path) -> Iterator[_Picture]:
    frames, masks = first(root, ("frames", "JPEGImages")), first(root, ("masks", "Annotations"))
    for folder in [*folders(frames), *([frames] if frames else [])]:
        found = stems((masks or root / "masks") / (folder.name if folder != frames else ""), {".png"})
        yield from (_Picture(image, found.get(stem)) for stem, image in stems(folder).items())


@_pictures.register
def _(part: Made, root: Path) -> Iterator[_Picture]:
    return iter(())
