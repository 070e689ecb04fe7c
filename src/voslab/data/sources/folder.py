"""Lists the videos of a user folder: folders of frames, or video files, with their masks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from voslab.core import VOID, DataError
from voslab.data.frame_cache import decode_to_cache
from voslab.data.video_sequence import VideoSequence, select_names
from voslab.video.images import image_files

_LAYOUT = "frames/<video>/ or videos/<video>.mp4, and masks/<video>/<frame>.png"
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FirstFrames(Mapping[int, int]):
    """The frame in which each object of a sequence first shows, by id; its masks are read when that is first asked.

    Raises:
        DataError: when asked, for a mask that cannot be read, or if no mask shows an object.
    """

    sequence: VideoSequence

    @cached_property
    def _frames(self) -> dict[int, int]:
        frames: dict[int, int] = {}
        for index in range(len(self.sequence)):
            labels = self.sequence.labels(index)
            for identity in () if labels is None else np.unique(labels).tolist():
                if identity != 0 and (identity != VOID or self.sequence.void is None):
                    frames.setdefault(identity, index)
        if not frames:
            raise DataError(f"sequence {self.sequence.name}: no object in any of its masks")
        return frames

    def __getitem__(self, identity: int) -> int:
        return self._frames[identity]

    def __iter__(self) -> Iterator[int]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


def folder(
    root: Path | str,
    split: str | None = None,
    only: Sequence[str] | None = None,
    without: Sequence[str] = (),
    void: int | None = None,
    merge: bool = False,
    annotated: bool = False,
    cache: Path | str = ".cache/frames",
) -> tuple[VideoSequence, ...]:
    """List your own videos, sorted by name; no mask is read.

    Frames are in `root/frames/<video>/`, or `root/videos/<video>.mp4` (or whatever FFmpeg reads) is decoded once into
    `cache`; the images of a single video may also lie in `frames/` itself. Masks are in `root/masks/<video>/`, each a
    PNG named as its frame, or by the number of its frame, from 0, where the video is a file. `masks/<video>.png` is the
    mask of the first frame. The names that DAVIS uses, JPEGImages and Annotations, do as well.

    Not every frame needs a mask, but a mask shows all objects of its frame. Each object is given where it first shows;
    all other masks are scored, the last frame's too. A video without masks is left out.

    Args:
        root: the folder.
        split: the videos named in `root/<split>.txt`, one a line; None, or no such list for any split: all.
        only: names of videos to pick.
        without: names of videos to leave out.
        void: the value in masks that means "do not look here".
        merge: all objects count as one.
        annotated: keep only the frames that have a mask; clips for training then show nothing else.
        cache: where decoded videos are kept, as PNG.

    Raises:
        DataError: something is missing, or a mask belongs to no frame; the message names the file.
        VideoError: a video is damaged.
        WriteError: `cache` cannot be written.
        ConfigError: a picked name that is not there.
    """
    root = Path(root)
    videos = _videos(root)
    masks = _masks(root, videos)
    names = select_names(_listed(root, split, videos), only, without, root)
    listed = []
    for name in names:
        video, where = videos[name], masks.get(name)
        if where is None:
            _log.warning("%s: left out, it has no masks", video)
            continue
        files = _frames(video) if video.is_dir() else decode_to_cache(video, Path(cache))
        placed = _placed(where, files, video)
        kept = sorted(placed) if annotated else range(len(files))
        images, of_frames = tuple(files[index] for index in kept), tuple(placed.get(index) for index in kept)
        file = video if video.is_file() and not annotated else None
        plain = VideoSequence(name, images, of_frames, merge, void, truth=len(placed) > 1, scores_last=True, file=file)
        listed.append(replace(plain, starts=FirstFrames(plain)))
    if not listed:
        raise DataError(f"{root}: no masks for any of {len(names)} videos; expected are {_LAYOUT}")
    return tuple(listed)


def _videos(root: Path) -> dict[str, Path]:
    """Folder of frames or file of every video, by name."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected in it are {_LAYOUT}")
    frames, files = _either(root, "frames", "JPEGImages"), root / "videos"
    found: dict[str, Path] = {}
    if frames is not None:
        entries = _visible(frames)
        found = {path.name: path for path in entries if path.is_dir()}
        if entries and not found:
            found = {root.resolve().name: frames}
    for file in _visible(files) if files.is_dir() else ():
        if file.stem in found:
            raise DataError(f"{file}: a second video of that name, besides {found[file.stem]}")
        found[file.stem] = file
    if not found:
        raise DataError(f"{root}: no videos; expected are {_LAYOUT}, there are {_some(_visible(root))}")
    return dict(sorted(found.items()))


def _masks(root: Path, videos: Mapping[str, Path]) -> dict[str, Path]:
    """Folder of masks, or mask of the first frame, of every video that has masks."""
    folder = _either(root, "masks", "Annotations")
    if folder is None:
        raise DataError(f"{root}: no masks; expected are {_LAYOUT}, there are {_some(_visible(root))}")
    alone = [name for name, path in videos.items() if path.parent == root]
    if alone:
        return {alone[0]: folder}
    found: dict[str, Path] = {}
    for path in _visible(folder):
        if not path.is_dir() and path.suffix.lower() not in _IMAGE_SUFFIXES:
            continue
        name = path.name if path.is_dir() else path.stem
        if path.is_dir() and not _visible(path):
            continue
        if name not in videos:
            raise DataError(f"{path}: masks, but there is no video of that name (there are {_some(videos)})")
        if name in found:
            raise DataError(f"{path}: more masks of a video, besides {found[name]}")
        found[name] = path
    return found


def _listed(root: Path, split: str | None, videos: Mapping[str, Path]) -> tuple[str, ...]:
    path = root / f"{split}.txt"
    if split is None:
        return tuple(videos)
    if not path.is_file():
        if others := [name for name in ("train.txt", "val.txt", "test.txt") if (root / name).is_file()]:
            raise DataError(f"{path}: no such list of videos, though there is {', '.join(others)}")
        _log.warning("%s: no such list of videos; all %d of %s are taken", path, len(videos), root)
        return tuple(videos)
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    for number, name in enumerate(names, 1):
        if name and name not in videos:
            raise DataError(f"{path}: line {number}: there is no video '{name}' (there are {_some(videos)})")
    if not any(names):
        raise DataError(f"{path}: the list of videos is empty")
    return tuple(name for name in videos if name in names)


def _frames(folder: Path) -> list[Path]:
    try:
        return image_files(folder)
    except DataError as error:
        raise DataError(f"{error}; there are {_some(_visible(folder))}") from error


def _placed(where: Path, frames: Sequence[Path], video: Path) -> dict[int, Path]:
    """Masks by index of their frames, from the place that `_masks` found."""
    files = _visible(where) if where.is_dir() else [where]
    for file in files:
        if file.suffix.lower() in _IMAGE_SUFFIXES - {".png"}:
            raise DataError(f"{file}: a mask must be a PNG, which keeps ids as they are")
    if not where.is_dir():
        return {0: where}
    indices = {frame.stem: index for index, frame in enumerate(frames)}
    placed: dict[int, Path] = {}
    for file in (file for file in files if file.suffix.lower() == ".png"):
        number = f"{int(file.stem):05}" if not video.is_dir() and file.stem.isdecimal() else file.stem
        if number not in indices:
            raise DataError(
                f"{file}: {video} has no frame of that name (they are {frames[0].stem} to {frames[-1].stem})"
            )
        if indices[number] in placed:
            raise DataError(f"{file}: a second mask for the same frame, besides {placed[indices[number]].name}")
        placed[indices[number]] = file
    if not placed:
        raise DataError(f"{where}: no PNG in this folder of masks; there are {_some(files)}")
    return placed


def _either(root: Path, name: str, davis: str) -> Path | None:
    there = [root / one for one in (name, davis) if (root / one).is_dir()]
    if len(there) > 1:
        raise DataError(f"{root}: holds both {name}/ and {davis}/; keep one of them")
    return there[0] if there else None


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def _some(things: Iterable[Path | str]) -> str:
    """The first few names."""
    names = [f"{one.name}/" if isinstance(one, Path) and one.is_dir() else Path(one).name for one in things]
    return ", ".join(names[:5] + ["…"] * (len(names) > 5)) or "none"
