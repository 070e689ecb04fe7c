"""Turns the annotations of label tools into label maps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.core.strict_json import read_json
from voslab.video.mask_formats.rle import area, decode, pack

_MAX_ID = 65535
_SHOWN = 8
_MAX_BYTES = 1 << 30  # of an annotation file


@dataclass(frozen=True)
class Annotation:
    """One annotated object of an image.

    Attributes:
        name: Category or label, for messages.
        segmentation: Polygons or runs; see `rle.pack`.
        key: The same for the same object in other images; None if it is not known.
        identity: Id of the object, if the file states it.
    """

    name: str
    segmentation: Any
    key: str | None = None
    identity: int | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """The annotated objects of an image.

    Attributes:
        source: File and image, for messages.
        stem: Name of the image without folder and extension; empty if it is not known.
        size: H, W of the image; None if polygons are in fractions of it.
        objects: The objects, in the order of the file.
    """

    source: str
    stem: str
    size: tuple[int, int] | None
    objects: tuple[Annotation, ...]

    def labels(self, ids: Sequence[int], size: tuple[int, int]) -> NDArray[np.int32]:
        """Draw the objects, the smaller in front of the larger.

        Args:
            ids: Id of each object.
            size: H, W of the video, for polygons in fractions of the image.

        Returns:
            Label map H W.

        Raises:
            DataError: If a segmentation is malformed or has another size.
        """
        size = self.size or size
        packed = []
        for number, (one, identity) in enumerate(zip(self.objects, ids, strict=True), 1):
            source = f"{self.source}: object {number} ({one.name})"
            runs = pack(one.segmentation if self.size else _scaled(one.segmentation, size), size, source)
            packed.append((area(runs, source), number, identity, runs, source))
        out = np.zeros(size, np.int32)
        for _, _, identity, runs, source in sorted(packed, key=lambda item: (-item[0], item[1])):
            out[decode(runs, size, source)] = identity
        return out


def number_objects(images: Sequence[AnnotatedImage]) -> list[list[int]]:
    """Give ids to the objects of the images of one video.

    Ids that the files state are used if all objects have one. Otherwise objects of a single image are numbered from 1
    in the order of the file, and those of several images by their keys.

    Args:
        images: The images.

    Returns:
        The id of every object of every image.

    Raises:
        DataError: If there is no object, or it is not known which objects are the same in different images.
    """
    objects = [one for image in images for one in image.objects]
    if not objects:
        raise DataError(f"{images[0].source}: there is no object in it")
    if all(one.identity is not None and 1 <= one.identity <= _MAX_ID for one in objects):
        return [[one.identity or 0 for one in image.objects] for image in images]
    used = [image for image in images if image.objects]
    if len(used) == 1:
        return [list(range(1, len(image.objects) + 1)) for image in images]
    for image in used:
        keys = [one.key for one in image.objects]
        if None in keys or len(set(keys)) < len(keys):
            raise DataError(
                f"{image.source}: several objects of one category, and nothing says which of them are the same in"
                " different frames; give them a track_id (COCO) or group_id (LabelMe), or keep the masks of one frame"
            )
    numbers: dict[str | None, int] = {}
    return [[numbers.setdefault(one.key, len(numbers) + 1) for one in image.objects] for image in images]


def describe_objects(images: Sequence[AnnotatedImage], ids: Sequence[Sequence[int]]) -> str:
    """Return ids and names, such as `1 = dog, 2 = person`.

    Args:
        images: The images.
        ids: The id of every object of every image.
    """
    names: dict[int, str] = {}
    for image, numbers in zip(images, ids, strict=True):
        for one, number in zip(image.objects, numbers, strict=True):
            names.setdefault(number, one.name)
    shown = ", ".join(f"{number} = {name}" for number, name in sorted(names.items())[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.

    Raises:
        DataError: If the file is missing, too large or invalid, or holds something else.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: more than {_MAX_BYTES >> 20} MiB, too much for the masks of one video")
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, MemoryError) as error:
        raise DataError(f"{path}: invalid JSON ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: a {type(content).__name__}, neither COCO nor LabelMe annotations")
    return content


def plain_name(value: Any) -> str:
    """Return a value of a file as a short text for a message.

    Args:
        value: Anything that JSON can hold.

    Example:
        >>> plain_name("a dog"), plain_name(3)
        ('a dog', '3')
    """
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if text.isprintable() else ascii(text)
    return text[:40]


def _scaled(polygons: Any, size: tuple[int, int]) -> list[list[float]]:
    return [(np.asarray(p, np.float64).reshape(-1, 2) * size[::-1]).ravel().tolist() for p in polygons]
