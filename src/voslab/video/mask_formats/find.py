"""Finds the masks of a video in a file or folder, whatever tool made them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voslab.core import DataError
from voslab.video.images import image_files, is_image_name
from voslab.video.mask_formats.annotations import AnnotatedImage, describe_objects, number_objects, read_object
from voslab.video.mask_formats.coco_json import is_coco, read_coco
from voslab.video.mask_formats.colours import ColourTable
from voslab.video.mask_formats.frame_names import FrameNames
from voslab.video.mask_formats.given import AnnotationMask, GivenMask, ImageMask, ObjectImages
from voslab.video.mask_formats.labelme import is_labelme, read_labelme
from voslab.video.mask_formats.options import MaskOptions, Warn
from voslab.video.mask_formats.yolo import read_yolo

_LAST_NUMBER = re.compile(r"(\d+)$")
_OBJECT_OF_FRAME = re.compile(r"^(?P<frame>.*?)[ _.-]+(?:(?:obj|object|id|instance|inst)[ _.-]*)(?P<object>\d+)$", re.I)
_OBJECT = re.compile(r"^(?:obj|object|id|instance|inst)[ _.-]*(?P<object>\d+)$", re.I)
_MAX_ID = 65535


def find_masks(path: Path, frames: FrameNames, options: MaskOptions, warn: Warn) -> dict[int, GivenMask]:
    """Find the masks of a video.

    A file is the mask of frame 0: an image, LabelMe annotations (`.json`) or YOLO polygons (`.txt`); COCO annotations
    may hold several frames. A folder holds a file per frame, or a folder of such files per object, or image files per
    object.

    Args:
        path: File or folder.
        frames: Names of the video's frames.
        options: How masks are understood.
        warn: Receives how they were understood.

    Returns:
        Masks by frame, in the order of the frames.

    Raises:
        DataError: If there is no mask, a mask belongs to no frame, two belong to the same frame, or an annotation file
            is malformed.
    """
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"{path}: no such mask file or folder")
        if path.suffix.lower() in {".json", ".txt"}:
            return _annotated([path], path, frames, warn)
        return {0: ImageMask(path, options, warn, ColourTable(options.void))}
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    images = {entry.stem for entry in entries if is_image_name(entry.name)}
    jsons = [entry for entry in entries if entry.suffix.lower() == ".json"]
    texts = [entry for entry in entries if entry.suffix.lower() == ".txt"]
    # LabelMe stores its files beside the images.
    if jsons and (not images or {entry.stem for entry in jsons} <= images):
        return _annotated(jsons, path, frames, warn)
    if texts and not images:
        return _annotated(texts, path, frames, warn)
    folders = [entry for entry in entries if entry.is_dir()]
    if folders and not images:
        return _object_folders(folders, frames, options, warn)
    return _images(image_files(path), frames, options, warn)


def _images(files: Sequence[Path], frames: FrameNames, options: MaskOptions, warn: Warn) -> dict[int, GivenMask]:
    by_object = _object_files(files, frames, warn)
    if by_object is not None:
        return {index: ObjectImages(found, options, warn) for index, found in sorted(by_object.items())}
    by_frame = {index: file for index, (file,) in _by_frame(files, frames).items()}
    table = ColourTable(options.void)
    masks = {index: ImageMask(file, options, warn, table) for index, file in by_frame.items()}
    if options.colors == "any":
        for mask in masks.values():  # now, so that ids do not depend on the order in which masks are accessed
            replace(mask, warn=_ignore).labels(None)
    return dict(masks)


def _by_frame(files: Sequence[Path], frames: FrameNames) -> dict[int, tuple[Path]]:
    found: dict[int, tuple[Path]] = {}
    for file in files:
        index = frames.index(file, file.stem)
        if index in found:
            raise DataError(f"{file}: a second mask for frame {index}, besides {found[index][0].name}")
        found[index] = (file,)
    return dict(sorted(found.items()))


def _object_files(files: Sequence[Path], frames: FrameNames, warn: Warn) -> dict[int, dict[int, Path]] | None:
    """Return files by frame and object if they are named by object, such as `00000_obj2` or `left hand`; else None."""
    if any(frames.find(file.stem) is not None for file in files):
        return None
    found: dict[int, dict[int, Path]] = {}
    for file in files:
        if match := _OBJECT.match(file.stem):
            index: int | None = 0
        elif match := _OBJECT_OF_FRAME.match(file.stem):
            index = frames.find(match["frame"])
        if match is None or index is None or not 1 <= int(match["object"]) <= _MAX_ID:
            break
        found.setdefault(index, {})[int(match["object"])] = file
    else:
        return found
    numbered = frames.names is not None and any(_LAST_NUMBER.search(name) for name in frames.names)
    if len(files) < 2 or any(_LAST_NUMBER.search(file.stem) for file in files) or numbered:
        return None
    named = dict(enumerate(files, 1))
    _describe(files[0].parent, [(number, file.stem) for number, file in named.items()], warn)
    return {0: named}


def _object_folders(
    folders: Sequence[Path], frames: FrameNames, options: MaskOptions, warn: Warn
) -> dict[int, GivenMask]:
    """Read a folder of masks per object; ids are the numbers at the end of the folders' names, if all have one."""
    endings = [_LAST_NUMBER.search(folder.name) for folder in folders]
    numbers = [0 if ending is None else int(ending[1]) for ending in endings]
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= _MAX_ID for number in numbers):
        numbers = list(range(1, len(folders) + 1))
    pairs = sorted(zip(numbers, folders, strict=True))
    _describe(folders[0].parent, [(number, folder.name) for number, folder in pairs], warn)
    found: dict[int, dict[int, Path]] = {}
    for number, folder in pairs:
        for index, (file,) in _by_frame(image_files(folder), frames).items():
            found.setdefault(index, {})[number] = file
    return {index: ObjectImages(files, options, warn) for index, files in sorted(found.items())}


def _annotated(files: Sequence[Path], path: Path, frames: FrameNames, warn: Warn) -> dict[int, GivenMask]:
    """Read annotation files; ids are the same in all of them."""
    images: list[AnnotatedImage] = []
    for file in files:
        if file.suffix.lower() == ".txt":
            images.append(read_yolo(file))
            continue
        content = read_object(file)
        if is_coco(content):
            images += read_coco(file, content)
        elif is_labelme(content):
            image = read_labelme(file, content, warn)
            # A file that is named by its frame need not be annotated on an image of that name.
            images.append(image if frames.find(file.stem) is None else replace(image, stem=file.stem))
        else:
            raise DataError(f"{file}: neither COCO nor LabelMe annotations (no list of annotations or shapes)")
    if not images:
        raise DataError(f"{path}: there is no object in it")
    placed: dict[int, AnnotatedImage] = {}
    for image in images:
        alone = len(images) == 1 and (frames.names is None or frames.find(image.stem) is None)
        index = 0 if alone and not path.is_dir() else frames.index(image.source, image.stem)
        if index in placed:
            raise DataError(f"{image.source}: a second mask for frame {index}, besides {placed[index].source}")
        placed[index] = image
    ordered = dict(sorted(placed.items()))
    ids = number_objects(list(ordered.values()))
    warn("objects", f"{path}: objects {describe_objects(list(ordered.values()), ids)}")
    return {index: AnnotationMask(image, own) for (index, image), own in zip(ordered.items(), ids, strict=True)}


def _ignore(kind: str, message: str) -> None:
    """Drop a warning that will be given again."""


def _describe(path: Path, objects: Sequence[tuple[int, str]], warn: Warn) -> None:
    shown = ", ".join(f"{number} = {name}" for number, name in objects[:8])
    more = f" and {len(objects) - 8} more" if len(objects) > 8 else ""
    warn("objects", f"{path}: one mask per object: {shown}{more}")
