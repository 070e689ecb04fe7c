"""Reads given masks from LabelMe annotations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from voslab.core import DataError
from voslab.video.mask_formats.annotations import AnnotatedImage, Annotation, plain_name
from voslab.video.mask_formats.options import Warn

_CORNERS = 64  # of a circle


def is_labelme(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has the shapes of LabelMe.

    Args:
        content: The object.
    """
    return "shapes" in content


def read_labelme(path: Path, content: Mapping[str, Any], warn: Warn) -> AnnotatedImage:
    """Read LabelMe annotations: polygons, rectangles and circles. Shapes with one label and group are one object.

    Args:
        path: File, for messages.
        content: Its content.
        warn: Receives the shapes that are left out.

    Returns:
        The image; the key of an object is its label and group.

    Raises:
        DataError: If the content is malformed.
    """
    polygons: dict[tuple[Any, ...], list[list[float]]] = {}
    others: set[str] = set()
    try:
        for number, shape in enumerate(content["shapes"]):
            polygon = _polygon(shape.get("shape_type", "polygon"), shape["points"])
            if polygon is None:
                others.add(plain_name(shape["shape_type"]))
                continue
            label, group = plain_name(shape["label"]), shape.get("group_id")
            key = (label, number, None) if group is None else (label, -1, plain_name(group))
            polygons.setdefault(key, []).append(polygon)
        size = (_pixels(content["imageHeight"]), _pixels(content["imageWidth"]))
        stem = PurePosixPath(str(content.get("imagePath") or path.name).replace("\\", "/")).stem
    except KeyError as error:
        raise DataError(f"{path}: a shape or the file lacks {error}") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: not LabelMe annotations ({type(error).__name__}: {error})") from None
    if others:
        warn("shapes", f"{path}: shapes of type {', '.join(sorted(others))} are left out")
    objects = (Annotation(label, parts, f"{label} {group}") for (label, _, group), parts in polygons.items())
    return AnnotatedImage(str(path), stem, size, tuple(objects))


def _polygon(kind: Any, points: Sequence[Sequence[float]]) -> list[float] | None:
    """Return [x0, y0, x1, ...]; None for shapes without area."""
    corners = [(float(x), float(y)) for x, y in points]
    if kind == "polygon":
        return [value for corner in corners for value in corner]
    if kind == "rectangle":
        xs, ys = zip(*corners, strict=True)
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        return [left, top, right, top, right, bottom, left, bottom]
    if kind == "circle":
        (x, y), (edge_x, edge_y) = corners
        radius = math.hypot(edge_x - x, edge_y - y)
        angles = [2 * math.pi * corner / _CORNERS for corner in range(_CORNERS)]
        return [value for a in angles for value in (x + radius * math.cos(a), y + radius * math.sin(a))]
    return None


def _pixels(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"the image size {plain_name(value)}")
    return value
