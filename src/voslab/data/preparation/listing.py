"""What lists, annotations and folders name; nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voslab.core import DataError
from voslab.data.preparation.layout import Videos
from voslab.data.sources.strict_json import read_json

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def sequence_names(part: Videos, root: Path) -> dict[str, frozenset[str] | None]:
    """Sequences of all lists that are there, and the frames that `meta.json` names for each.

    Raises:
        DataError: a list that cannot be read.
    """
    found: dict[str, frozenset[str] | None] = {}
    for names in part.lists:
        place = first(root, names.places)
        if place is not None:
            found.update(read_names(place))
    return found


def read_names(path: Path) -> dict[str, frozenset[str] | None]:
    """Sequences of a list: names, paths of frames (DAVIS 2016), or `meta.json`. Raises `DataError` for any other."""
    try:
        if path.suffix == ".json":
            videos = read_json(path)["videos"]
            return {
                name: frozenset(frame for thing in video["objects"].values() for frame in thing.get("frames", ()))
                for name, video in videos.items()
            }
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    words = [line.split()[0] for line in text.splitlines() if line.strip()]
    return dict.fromkeys((Path(word).parent.name if "/" in word else word for word in words), None)


def read_annotated(path: Path) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Pictures that a JSON file lists, with their size H W; its entries (images or videos); its objects.

    Raises:
        DataError: not such a file.
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


def first(root: Path, places: Iterable[str]) -> Path | None:
    """The first of several places that is there."""
    return next((root / place for place in places if (root / place).exists()), None)


def stems(folder: Path, suffixes: Iterable[str] = PICTURES) -> dict[str, Path]:
    """The pictures of a folder by their names without suffix, in order; none if there is no such folder."""
    return {path.stem: path for path in _visible(folder) if path.suffix.lower() in suffixes}


def folders(folder: Path | None) -> list[Path]:
    """The folders in a folder, by name; none if there is no such folder."""
    return [] if folder is None else [path for path in _visible(folder) if path.is_dir()]


def pictures_below(folder: Path) -> frozenset[str]:
    """Pictures in a folder and in the folders in it, as annotations name them."""
    found = []
    for path in _visible(folder):
        if path.suffix.lower() in PICTURES:
            found.append(path.name)
        elif path.is_dir():
            found += [f"{path.name}/{picture.name}" for picture in stems(path).values()]
    return frozenset(found)


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, hidden files aside. Raises `DataError` if it may not be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error
