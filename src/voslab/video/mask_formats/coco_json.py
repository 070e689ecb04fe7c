"""Reads given masks from COCO annotations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from voslab.core import DataError
from voslab.video.mask_formats.annotations import AnnotatedImage, Annotation, plain_name

_TRACKS = ("track_id", "instance_id")


def is_coco(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has the lists of COCO annotations.

    Args:
        content: The object.
    """
    return "images" in content and "annotations" in content


def read_coco(path: Path, content: Mapping[str, Any]) -> list[AnnotatedImage]:
    """Read the images of COCO annotations that have objects; annotations without a segmentation are left out.

    Args:
        path: File, for messages.
        content: Its content.

    Returns:
        The images. `track_id` or `instance_id` of an annotation, or of its `attributes`, is the id of the object; the
        category is its key.

    Raises:
        DataError: If the content is malformed.
    """
    try:
        names = {_whole(one["id"]): plain_name(one["name"]) for one in content.get("categories", ())}
        images = {_whole(one["id"]): one for one in content["images"]}
        found: dict[int, list[Annotation]] = {identity: [] for identity in images}
        for one in content["annotations"]:
            category = one.get("category_id")
            name = names.get(category, f"category {plain_name(category)}")
            if one.get("segmentation"):
                annotation = Annotation(name, one["segmentation"], plain_name(category), _track(one))
                found[_whole(one["image_id"])].append(annotation)
        return [
            AnnotatedImage(f"{path}: {plain_name(one['file_name'])}", _stem(one["file_name"]), _size(one), objects)
            for identity, one in images.items()
            if (objects := tuple(found[identity]))
        ]
    except KeyError as error:
        raise DataError(f"{path}: an image or annotation lacks {error}, or belongs to no image") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: not COCO annotations ({type(error).__name__}: {error})") from None


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{plain_name(value)} is not an id")
    return value


def _track(one: Mapping[str, Any]) -> int | None:
    attributes = one.get("attributes")
    for source in (one, attributes if isinstance(attributes, dict) else {}):
        for name in _TRACKS:
            if isinstance(value := source.get(name), int) and not isinstance(value, bool):
                return value
    return None


def _stem(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError("a file_name is not a text")
    return PurePosixPath(name.replace("\\", "/")).stem


def _size(one: Mapping[str, Any]) -> tuple[int, int]:
    return _whole(one["height"]), _whole(one["width"])
