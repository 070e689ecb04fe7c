"""Pairs the videos of a folder with the masks of another folder by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from voslab.core import DataError, VOSError
from voslab.video import image_files
from voslab.video.decode import read_header
from voslab.video.images import is_image_name

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv"),
        *(".asf", ".ogv", ".ogg", ".mxf", ".gif", ".h264", ".264", ".hevc", ".265", ".ivf", ".y4m"),
    }
)
_ANNOTATIONS = frozenset({".json", ".txt"})


@dataclass(frozen=True)
class VideoPair:
    """A video and its mask.

    Attributes:
        name: name of the video's folder, or of its file without the extension.
        video: a video file or a folder of images.
        mask: a mask file, annotations, or a folder of masks.
    """

    name: str
    video: Path
    mask: Path


@dataclass(frozen=True)
class VideoPairs:
    """The content of a folder of videos and a folder of masks.

    Attributes:
        pairs: videos with a mask, sorted by name.
        videos: videos without a mask.
        masks: masks without a video.
    """

    pairs: tuple[VideoPair, ...]
    videos: tuple[Path, ...]
    masks: tuple[Path, ...]


def has_many_videos(path: Path) -> bool:
    """Return whether a path is a folder of videos. A folder that has images itself is one video.

    Args:
        path: file or folder.
    """
    entries = _entries(path)
    return not any(_is_image(entry) for entry in entries) and any(map(_is_video, entries))


def find_pairs(videos: Path, masks: Path) -> VideoPairs:
    """Pair videos and masks of the same name.

    Args:
        videos: folder of video files and folders of images.
        masks: folder of mask files, annotations and folders of masks.

    Returns:
        the pairs, and what has no partner.

    Raises:
        DataError: if `masks` is no folder, two videos or two masks have the same name, or there is no pair.
    """
    if not masks.is_dir():
        raise DataError(f"{masks}: not a folder; many videos need mask=FOLDER with a mask or a folder for each video")
    found = _by_name(entry for entry in _entries(videos) if _is_video(entry))
    given = _by_name(entry for entry in _entries(masks) if _is_mask(entry) and entry not in found.values())
    pairs = tuple(VideoPair(name, found[name], given[name]) for name in sorted(found.keys() & given.keys()))
    if not pairs:
        first = min(found)
        raise DataError(f"{masks}: no mask has the name of a video, such as {first}.png or {first}/ for {found[first]}")
    return VideoPairs(
        pairs,
        tuple(found[name] for name in sorted(found.keys() - given.keys())),
        tuple(given[name] for name in sorted(given.keys() - found.keys())),
    )


def video_length(path: Path) -> int:
    """Return the number of frames that a video declares; 0 if it is unknown or the video cannot be read.

    Args:
        path: a video file or a folder of images.
    """
    try:
        return len(image_files(path)) if path.is_dir() else read_header(path).count or 0
    except VOSError:
        return 0


def _by_name(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise DataError(f"{path}: has the same name as {found[name].name}; keep one of them")
        found[name] = path
    return found


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def _is_image(path: Path) -> bool:
    return is_image_name(path.name) and path.is_file()


def _is_video(path: Path) -> bool:
    if path.is_dir():
        return any(map(_is_image, _entries(path)))
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _is_mask(path: Path) -> bool:
    return path.is_dir() or is_image_name(path.name) or path.suffix.lower() in _ANNOTATIONS
