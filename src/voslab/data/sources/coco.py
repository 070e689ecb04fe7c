"""Lists COCO images with their instances, from an index that is built once and cached."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError, atomic_path, cache_key
from voslab.core.strict_json import read_json
from voslab.data.sources.stills import VOID_STILL, Still
from voslab.video.images import read_image
from voslab.video.mask_formats.rle import area, decode, pack

_VERSION = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class COCOIndex:
    """Objects of N images as flat arrays, which loader processes share in memory.

    Attributes:
        names: File names of the images, N.
        sizes: H, W of the images, N 2.
        first: Objects of image i are `first[i]` to `first[i + 1]`, N + 1.
        areas: Areas of the K objects in pixels, K.
        crowd: Whether an annotation covers a group of objects (COCO `iscrowd`), K.
        ids: Ids of the annotations, for messages, K.
        offsets: Compressed run lengths of object k are `runs[offsets[k] : offsets[k + 1]]`, K + 1.
        runs: Compressed run lengths of all objects, concatenated, as bytes.
    """

    names: NDArray[np.str_]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]
    areas: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    runs: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class COCOStills:
    """Annotated images of COCO; see `coco`.

    Attributes:
        folder: Folder of the images.
        index: Objects of all images.
        images: Positions of the used images in the index.
    """

    folder: Path
    index: COCOIndex
    images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> Still:
        """Read an image and its labels. Smaller objects cover larger ones; groups are void.

        Args:
            index: Index of the image.

        Returns:
            Image and labels.

        Raises:
            DataError: If the image is missing, damaged, or of another size than annotated.
        """
        table, position = self.index, int(self.images[index])
        path = self.folder / str(table.names[position])
        image = read_image(path)
        size = (int(table.sizes[position, 0]), int(table.sizes[position, 1]))
        if image.shape[:2] != size:
            raise DataError(
                f"{path}: {image.shape[1]} x {image.shape[0]} pixels, its annotations say {size[1]} x {size[0]}"
            )
        objects = np.arange(table.first[position], table.first[position + 1])
        labels = np.zeros(size, np.int32)
        back_to_front = np.lexsort((-table.areas[objects], ~table.crowd[objects]))
        for number in back_to_front:
            k = int(objects[number])
            runs = table.runs[table.offsets[k] : table.offsets[k + 1]].tobytes()
            mask = decode(runs, size, f"annotation {table.ids[k]}")
            labels[mask] = VOID_STILL if table.crowd[k] else number + 1
        return Still(image, labels, path.stem)


def coco(
    root: Path | str,
    split: str = "train2017",
    min_area: int = 1000,
    cache: Path | str | None = None,
    subset: bool = False,
) -> COCOStills:
    """List the images of `root/<split>` with the objects of `root/annotations/instances_<split>.json`.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        min_area: Minimum area in pixels of the largest object of an image. Groups (`iscrowd`) do not count.
        cache: Folder of the index, which takes minutes to build for all of COCO; None to build it every time.
        subset: Whether to skip images that are missing from the folder instead of raising an error.

    Returns:
        The images with an object of `min_area` pixels.

    Raises:
        DataError: If annotations are missing or damaged, images are missing, or no image has a large enough object.
    """
    folder, annotations = Path(root) / split, Path(root) / "annotations" / f"instances_{split}.json"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the images of COCO {split} are expected there")
    index = _cached(annotations, Path(cache)) if cache is not None else build_index(annotations)
    counts = np.where(index.crowd, 0, index.areas) >= min_area
    images = np.flatnonzero(np.add.reduceat(np.append(counts, False), index.first[:-1]) * (np.diff(index.first) > 0))
    existing = {path.name for path in folder.iterdir()}
    missing = [image for image in images if str(index.names[image]) not in existing]
    if missing and not subset:
        raise DataError(
            f"{folder / str(index.names[missing[0]])}: missing, and {len(missing) - 1} more of the {len(images)} images"
            f" in {annotations.name}; subset=true trains on the existing ones"
        )
    if missing:
        _log.warning("%s: %d of %d annotated images are missing and skipped", folder, len(missing), len(images))
    images = np.setdiff1d(images, np.array(missing, np.int64))
    if not len(images):
        raise DataError(f"{folder}: no image with an object of {min_area} pixels")
    return COCOStills(folder, index, images)


def build_index(annotations: Path) -> COCOIndex:
    """Read an instances file and compress its polygons and run lengths.

    Args:
        annotations: The file, in COCO format.

    Returns:
        The index of its images and objects.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        content = read_json(annotations)
        images = {int(image["id"]): image for image in content["images"]}
        positions = {identity: position for position, identity in enumerate(images)}
        names = [_plain_name(image["file_name"]) for image in images.values()]
        sizes = np.array([(int(image["height"]), int(image["width"])) for image in images.values()]).reshape(-1, 2)
        objects = sorted(content["annotations"], key=lambda obj: (positions[int(obj["image_id"])], int(obj["id"])))
        ids = np.array([int(obj["id"]) for obj in objects], np.int64)
    except FileNotFoundError:
        raise DataError(f"{annotations}: no such file") from None
    except KeyError as error:
        raise DataError(f"{annotations}: an image or annotation lacks {error}, or belongs to no image") from None
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{annotations}: not a COCO instances file ({type(error).__name__}: {error})") from None
    if len(images) != len(content["images"]):
        raise DataError(f"{annotations}: two images have the same id")
    owners, packed = [], []
    for obj in objects:
        position = positions[int(obj["image_id"])]
        source = f"{annotations}: annotation {obj['id']}"
        packed.append(_pack(obj, (int(sizes[position, 0]), int(sizes[position, 1])), source))
        owners.append(position)
    return COCOIndex(
        names=np.array(names, np.str_),
        sizes=sizes.astype(np.int64),
        first=np.searchsorted(np.array(owners, np.int64), np.arange(len(names) + 1)),
        areas=np.array([area(runs, str(annotations)) for runs in packed], np.int64),
        crowd=np.array([bool(obj.get("iscrowd", 0)) for obj in objects], bool),
        ids=ids,
        offsets=np.concatenate([[0], np.cumsum([len(runs) for runs in packed])]).astype(np.int64),
        runs=np.frombuffer(b"".join(packed), np.uint8),
    )


def _pack(annotation: dict[str, Any], size: tuple[int, int], source: str) -> bytes:
    if "segmentation" not in annotation:
        raise DataError(f"{source}: no segmentation")
    return pack(annotation["segmentation"], size, source)


def _plain_name(name: str) -> str:
    if not name or Path(name).name != name:
        raise ValueError(f"file name '{name}' must not have a folder")
    return name


def _cached(annotations: Path, cache: Path) -> COCOIndex:
    """Read the index from its file in `cache`; build and write it if the file is missing, damaged or out of date."""
    try:
        path = cache / f"{annotations.stem}_{cache_key(annotations, _VERSION)}.npz"
    except OSError as error:
        raise DataError(f"{annotations}: cannot be read ({error.strerror})") from error
    try:
        with np.load(path) as stored:
            return COCOIndex(**stored)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        _log.info("%s: building the index of %s", path, annotations)
    index = build_index(annotations)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **vars(index))
    return index
