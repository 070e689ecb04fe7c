"""Verifies the images of a data set: readable, and masks of the same size as their frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, singledispatch
from itertools import islice
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.layout import (
    AnnotatedImages,
    Component,
    DataSet,
    Generated,
    ImageMaskPairs,
    UserFolder,
    VideoFolders,
)
from voslab.data.preparation.listing import first_existing, folders, read_annotated, sequence_names, stems
from voslab.data.sources.stills import stills
from voslab.video.images import image_size, read_image
from voslab.video.mask_formats.label_image import read_mask
from voslab.video.mask_formats.options import LITERAL

_BATCH = 512


@dataclass(frozen=True, slots=True)
class _ImageFile:
    """An image with its mask, if any, and its size H W, if annotations declare it."""

    image: Path
    mask: Path | None = None
    size: tuple[int, int] | None = None


def verify(data_set: DataSet, decode: bool, progress: Callable[[int], None] = lambda done: None) -> tuple[str, ...]:
    """Verify the existing images of a data set. Missing images are reported by `tree.check`.

    Args:
        data_set: The data set.
        decode: Whether to decode every image and mask, instead of reading only the header.
        progress: Called with the number of images verified so far.

    Returns:
        One line per fault, in the order of file names.
    """
    faults: list[str] = []
    image_files = (image_file for part in data_set.components for image_file in _image_files(part, data_set.root))
    check, done = partial(_fault, decode=decode), 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while batch := list(islice(image_files, _BATCH)):
            faults += [fault for fault in pool.map(check, batch) if fault is not None]
            done += len(batch)
            progress(done)
    return tuple(faults)


def _fault(image_file: _ImageFile, decode: bool) -> str | None:
    try:
        size = image_size(image_file.image)
        if image_file.size is not None and image_file.size != size:
            return f"{image_file.image}: {_by(size)} pixels, its annotations say {_by(image_file.size)}"
        if image_file.mask is not None and (other := image_size(image_file.mask)) != size:
            return f"{image_file.mask}: {_by(other)} pixels, its frame {_by(size)}"
        if decode:
            read_image(image_file.image)
            if image_file.mask is not None:
                read_mask(image_file.mask, LITERAL)
    except DataError as error:
        return str(error)
    return None


def _by(size: tuple[int, int]) -> str:
    """Format a size H W as width x height."""
    return f"{size[1]} x {size[0]}"


@singledispatch
def _image_files(part: Component, root: Path) -> Iterator[_ImageFile]:
    raise TypeError(part)


@_image_files.register
def _(part: VideoFolders, root: Path) -> Iterator[_ImageFile]:
    for name in sequence_names(part, root):
        masks = stems(root / part.masks / name, {".png"}) if part.masks else {}
        for stem, image in stems(root / part.frames / name).items():
            yield _ImageFile(image, masks.get(stem))


@_image_files.register
def _(part: AnnotatedImages, root: Path) -> Iterator[_ImageFile]:
    path, folder = first_existing(root, part.annotations), first_existing(root, part.folders)
    if path is None or folder is None:
        return
    for name, size in read_annotated(path)[0].items():
        if (folder / name).is_file():
            yield _ImageFile(folder / name, size=size)


@_image_files.register
def _(part: ImageMaskPairs, root: Path) -> Iterator[_ImageFile]:
    try:
        yield from (_ImageFile(image, mask) for image, mask in stills(root).pairs)
    except DataError:
        return  # the folder has no image


@_image_files.register
def _(part: UserFolder, root: Path) -> Iterator[_ImageFile]:
    frames, masks = first_existing(root, ("frames", "JPEGImages")), first_existing(root, ("masks", "Annotations"))
    for folder in [*folders(frames), *([frames] if frames else [])]:
        found = stems((masks or root / "masks") / (folder.name if folder != frames else ""), {".png"})
        yield from (_ImageFile(image, found.get(stem)) for stem, image in stems(folder).items())


@_image_files.register
def _(part: Generated, root: Path) -> Iterator[_ImageFile]:
    return iter(())
