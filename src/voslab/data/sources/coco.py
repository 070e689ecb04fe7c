"""Lists COCO images with their instances, through an index that is built once."""

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
    """Where every object of every image is: flat arrays, so that loader processes share them.

    Attributes:
        names: file name of every image.
        sizes: H, W of every image; N 2.
        first: objects of image i are `first[i]` to `first[i + 1]`; N + 1.
        areas: pixels of every object.
        crowd: whether an annotation covers a group of objects (COCO `iscrowd`).
        ids: of every annotation, for messages.
        offsets: packed runs of object k are `runs[offsets[k] : offsets[k + 1]]`.
        runs: all packed runs, one behind the other, as bytes.
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
    """Images with an object of `min_area` pixels; see `coco`."""

    folder: Path
    index: COCOIndex
    images: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, place: int) -> Still:
        """Decode an image and its objects, the smaller before the larger; groups are void.

        Raises:
            DataError: the image is missing, damaged, or of another size than the annotations say.
        """
        index, at = self.index, int(self.images[place])
        path = self.folder / str(index.names[at])
        image = read_image(path)
        size = (int(index.sizes[at, 0]), int(index.sizes[at, 1]))
        if image.shape[:2] != size:
            raise DataError(
                f"{path}: {image.shape[1]} x {image.shape[0]} pixels, its annotations say {size[1]} x {size[0]}"
            )
        objects = np.arange(index.first[at], index.first[at + 1])
        labels = np.zeros(size, np.int32)
        behind = np.lexsort((-index.areas[objects], ~index.crowd[objects]))
        for number in behind:
            k = int(objects[number])
            mask = decode(
                index.runs[index.offsets[k] : index.offsets[k + 1]].tobytes(), size, f"annotation {index.ids[k]}"
            )
            labels[mask] = VOID_STILL if index.crowd[k] else number + 1
        return Still(image, labels, path.stem)


def coco(
    root: Path | str,
    split: str = "train2017",
    min_area: int = 1000,
    cache: Path | str | None = None,
    subset: bool = False,
) -> COCOStills:
    """The images of `root/<split>` with the objects of `root/annotations/instances_<split>.json`.

    Args:
        root: the folder that holds both.
        split: name of the image folder and end of the file name.
        min_area: an image is used if one of its objects, crowds excluded, has at least this number of pixels.
        cache: folder of the index, which takes minutes to build for all of COCO; None builds it anew.
        subset: leave out images that are not in the folder, instead of refusing.

    Raises:
        DataError: the annotations are missing or damaged, images are missing, or no image counts.
    """
    folder, annotations = Path(root) / split, Path(root) / "annotations" / f"instances_{split}.json"
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; the images of COCO {split} are expected there")
    index = _cached(annotations, Path(cache)) if cache is not None else build_index(annotations)
    counts = np.where(index.crowd, 0, index.areas) >= min_area
    images = np.flatnonzero(np.add.reduceat(np.append(counts, False), index.first[:-1]) * (np.diff(index.first) > 0))
    there = {path.name for path in folder.iterdir()}
    missing = [image for image in images if str(index.names[image]) not in there]
    if missing and not subset:
        raise DataError(
            f"{folder / str(index.names[missing[0]])}: missing, and {len(missing) - 1} more of the {len(images)} images"
            f" in {annotations.name}; subset=true trains on those that are there"
        )
    if missing:
        _log.warning("%s: %d of %d annotated images are missing and left out", folder, len(missing), len(images))
    images = np.setdiff1d(images, np.array(missing, np.int64))
    if not len(images):
        raise DataError(f"{folder}: no image with an object of {min_area} pixels")
    return COCOStills(folder, index, images)


def build_index(annotations: Path) -> COCOIndex:
    """Read an instances file and encode polygons and runs as RLE.

    Raises:
        DataError: naming the file, and the annotation where there is one to blame.
    """
    try:
        content = read_json(annotations)
        images = {int(image["id"]): image for image in content["images"]}
        places = {identity: place for place, identity in enumerate(images)}
        names = [_plain_name(image["file_name"]) for image in images.values()]
        sizes = np.array([(int(image["height"]), int(image["width"])) for image in images.values()]).reshape(-1, 2)
        objects = sorted(content["annotations"], key=lambda one: (places[int(one["image_id"])], int(one["id"])))
        ids = np.array([int(one["id"]) for one in objects], np.int64)
    except FileNotFoundError:
        raise DataError(f"{annotations}: no such file") from None
    except KeyError as error:
        raise DataError(f"{annotations}: an image or annotation lacks {error}, or belongs to no image") from None
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{annotations}: not a COCO instances file ({type(error).__name__}: {error})") from None
    if len(images) != len(content["images"]):
        raise DataError(f"{annotations}: two images have the same id")
    owners, packed = [], []
    for one in objects:
        place = places[int(one["image_id"])]
        source = f"{annotations}: annotation {one['id']}"
        packed.append(_pack(one, (int(sizes[place, 0]), int(sizes[place, 1])), source))
        owners.append(place)
    return COCOIndex(
        names=np.array(names, np.str_),
        sizes=sizes.astype(np.int64),
        first=np.searchsorted(np.array(owners, np.int64), np.arange(len(names) + 1)),
        areas=np.array([area(runs, str(annotations)) for runs in packed], np.int64),
        crowd=np.array([bool(one.get("iscrowd", 0)) for one in objects], bool),
        ids=ids,
        offsets=np.concatenate([[0], np.cumsum([len(runs) for runs in packed])]).astype(np.int64),
        runs=np.frombuffer(b"".join(packed), np.uint8),
    )


def _pack(one: dict[str, Any], size: tuple[int, int], source: str) -> bytes:
    if "segmentation" not in one:
        raise DataError(f"{source}: no segmentation")
    return pack(one["segmentation"], size, source)


def _plain_name(name: str) -> str:
    if not name or Path(name).name != name:
        raise ValueError(f"file name '{name}' is no plain name")
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
