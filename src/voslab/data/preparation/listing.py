"""Lists the files that sequence lists, annotations and folders name, without decoding images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voslab.core import DataError
from voslab.core.strict_json import read_json
from voslab.data.preparation.layout import VideoFolders

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def sequence_names(part: VideoFolders, root: Path) -> dict[str, frozenset[str] | None]:
    """Return the sequences of all lists that exist, with the frames that `meta.json` names for each.

    Args:
        part: Description of the videos.
        root: Folder of the data set.

    Raises:
        DataError: If a list cannot be read.
    """
    found: dict[str, frozenset[str] | None] = {}
    for names in part.lists:
        path = first_existing(root, names.paths)
        if path is not None:
            found.update(read_names(path))
    return found


def read_names(path: Path) -> dict[str, frozenset[str] | None]:
    """Return the sequences of a list of names, a list of frame paths (DAVIS 2016), or a `meta.json`.

    Raises:
        DataError: If the file has none of these formats.
    """
    try:
        if path.suffix == ".json":
            videos = read_json(path)["videos"]
            return {
                name: frozenset(frame for obj in video["objects"].values() for frame in obj.get("frames", ()))
                for name, video in videos.items()
            }
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    words = [line.split()[0] for line in text.splitlines() if line.strip()]
    return dict.fromkeys((Path(word).parent.name if "/" in word else word for word in words), None)


def read_annotated(path: Path) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Read the images that a COCO or OVIS annotation file lists.

    Returns:
        Size H W of every image by file name, the number of images or videos, and the number of objects.

    Raises:
        DataError: If the file has another format.
    """
    try:
        content = read_json(path)
        entries = content["videos"] if "videos" in content else content["images"]
        files = {
            str(name): (int(entry["height"]), int(entry["width"]))
            for entry in entries
            for name in (entry["file_names"] if "videos" in content else [entry["file_name"]])
        }
        return files, len(entries), len(content.get("annotations") or ())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be read as annotations ({type(error).__name__}: {error})") from error


def first_existing(root: Path, paths: Iterable[str]) -> Path | None:
    """Return the first of several paths below `root` that exists."""
    return next((root / path for path in paths if (root / path).exists()), None)


def stems(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Return the images of a folder by stem, sorted; empty if the folder does not exist."""
    return {path.stem: path for path in _visible(folder) if path.suffix.lower() in suffixes}


def folders(folder: Path | None) -> list[Path]:
    """Return the subfolders of a folder, sorted; empty if the folder does not exist."""
    return [] if folder is None else [path for path in _visible(folder) if path.is_dir()]


def images_below(folder: Path) -> frozenset[str]:
    """Return the images in a folder and its subfolders, as paths relative to the folder."""
    found = []
    for path in _visible(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path.name)
        elif path.is_dir():
            found += [f"{path.name}/{image.name}" for image in stems(path).values()]
    return frozenset(found)


def _visible(folder: Path) -> list[Path]:
    """Return the entries of a folder except hidden ones, sorted. Raises `DataError` if it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
