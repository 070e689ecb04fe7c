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
    """Maps each object of a sequence to the first frame whose mask shows it. Masks are read on first access.

    Attributes:
        sequence: The sequence.

    Raises:
        DataError: On access, if a mask cannot be read or no mask has an object.
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
    """List the videos of a user folder, sorted by name, without reading any mask unless `annotated`.

    Frames are in `root/frames/<video>/`, or in `root/frames/` if there is a single video. Video files in
    `root/videos/`, of any format that FFmpeg reads, are decoded into `cache` once. Masks are PNG files in
    `root/masks/<video>/` with the names of their frames; masks of a video file are named by frame number, from 0.
    `root/masks/<video>.png` is the mask of the first frame. The folders may also have the names of DAVIS, `JPEGImages`
    and `Annotations`.

    Frames may lack a mask, but a mask must have all objects of its frame. Each object is given in the first mask that
    has it. All other masks are scored, including that of the last frame. Videos without masks are skipped.

    Args:
        root: The folder.
        split: Name of the list `root/<split>.txt` with one video per line; None for all videos. If no split has a list,
            all videos are used.
        only: Names of videos to use; None for all.
        without: Names of videos to exclude.
        void: Mask value of pixels to ignore.
        merge: Whether to merge all objects into one.
        annotated: Whether to use only frames that have a mask, for training.
        cache: Folder of decoded videos.

    Returns:
        The sequences.

    Raises:
        DataError: If a file is missing, or a mask belongs to no frame.
        VideoError: If a video is damaged.
        WriteError: If `cache` cannot be written.
        ConfigError: If `only` or `without` has an unknown name.
    """
    root = Path(root)
    videos = _videos(root)
    masks = _masks(root, videos)
    names = select_names(_names(root, split, videos), only, without, root)
    sequences = []
    for name in names:
        video, mask_path = videos[name], masks.get(name)
        if mask_path is None:
            _log.warning("%s: left out, it has no masks", video)
            continue
        files = _frames(video) if video.is_dir() else decode_to_cache(video, Path(cache))
        by_index = _masks_by_index(mask_path, files, video)
        indices = sorted(by_index) if annotated else range(len(files))
        sequence = VideoSequence(
            name,
            tuple(files[index] for index in indices),
            tuple(by_index.get(index) for index in indices),
            merge,
            void,
            truth=len(by_index) > 1,
            scores_last=True,
            file=video if video.is_file() and not annotated else None,
        )
        if annotated and not _has_object(sequence):
            _log.warning("%s: left out, none of its masks has an object", video)
            continue
        sequences.append(replace(sequence, starts=FirstFrames(sequence)))
    if not sequences:
        raise DataError(
            f"{root}: no masks for any of {len(names)} videos, or no object in them; expected are {_LAYOUT}"
        )
    return tuple(sequences)


def _has_object(sequence: VideoSequence) -> bool:
    """Return whether a mask has an object; also if a mask cannot be read, so that its own error is shown."""
    void = -1 if sequence.void is None else VOID
    try:
        masks = (sequence.labels(index) for index in range(len(sequence)))
        return any(labels is not None and bool(((labels != 0) & (labels != void)).any()) for labels in masks)
    except DataError:
        return True


def _videos(root: Path) -> dict[str, Path]:
    """Return the folder of frames, or the file, of every video by name."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected in it are {_LAYOUT}")
    frames, files = _existing_folder(root, "frames", "JPEGImages"), root / "videos"
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
        raise DataError(f"{root}: no videos; expected are {_LAYOUT}, there are {_first_names(_visible(root))}")
    return dict(sorted(found.items()))


def _masks(root: Path, videos: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of masks, or the mask of the first frame, by name of the video."""
    folder = _existing_folder(root, "masks", "Annotations")
    if folder is None:
        raise DataError(f"{root}: no masks; expected are {_LAYOUT}, there are {_first_names(_visible(root))}")
    single = [name for name, path in videos.items() if path.parent == root]
    if single:
        return {single[0]: folder}
    found: dict[str, Path] = {}
    for path in _visible(folder):
        if not path.is_dir() and path.suffix.lower() not in _IMAGE_SUFFIXES:
            continue
        name = path.name if path.is_dir() else path.stem
        if path.is_dir() and not _visible(path):
            continue
        if name not in videos:
            raise DataError(f"{path}: masks, but there is no video of that name (there are {_first_names(videos)})")
        if name in found:
            raise DataError(f"{path}: more masks of a video, besides {found[name]}")
        found[name] = path
    return found


def _names(root: Path, split: str | None, videos: Mapping[str, Path]) -> tuple[str, ...]:
    path = root / f"{split}.txt"
    if split is None:
        return tuple(videos)
    if not path.is_file():
        if others := [name for name in ("train.txt", "val.txt", "test.txt") if (root / name).is_file()]:
            raise DataError(f"{path}: no such list of videos, though there is {', '.join(others)}")
        _log.warning("%s: no such list of videos; all %d videos of %s are used", path, len(videos), root)
        return tuple(videos)
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    for number, name in enumerate(names, 1):
        if name and name not in videos:
            raise DataError(f"{path}: line {number}: there is no video '{name}' (there are {_first_names(videos)})")
    if not any(names):
        raise DataError(f"{path}: the list of videos is empty")
    return tuple(name for name in videos if name in names)


def _frames(folder: Path) -> list[Path]:
    try:
        return image_files(folder)
    except DataError as error:
        raise DataError(f"{error}; there are {_first_names(_visible(folder))}") from error


def _masks_by_index(path: Path, frames: Sequence[Path], video: Path) -> dict[int, Path]:
    """Return the masks in a folder, or the single mask of the first frame, by frame index."""
    files = _visible(path) if path.is_dir() else [path]
    for file in files:
        if file.suffix.lower() in _IMAGE_SUFFIXES - {".png"}:
            raise DataError(f"{file}: a mask must be a PNG, which keeps ids as they are")
    if not path.is_dir():
        return {0: path}
    indices = {frame.stem: index for index, frame in enumerate(frames)}
    masks: dict[int, Path] = {}
    for file in (file for file in files if file.suffix.lower() == ".png"):
        stem = f"{int(file.stem):05}" if not video.is_dir() and file.stem.isdecimal() else file.stem
        if stem not in indices:
            raise DataError(
                f"{file}: {video} has no frame of that name (they are {frames[0].stem} to {frames[-1].stem})"
            )
        if indices[stem] in masks:
            raise DataError(f"{file}: a second mask for the same frame, besides {masks[indices[stem]].name}")
        masks[indices[stem]] = file
    if not masks:
        raise DataError(f"{path}: no PNG in this folder of masks; there are {_first_names(files)}")
    return masks


def _existing_folder(root: Path, name: str, davis: str) -> Path | None:
    """Return the folder with the own name or that of DAVIS; None if neither exists."""
    existing = [root / folder for folder in (name, davis) if (root / folder).is_dir()]
    if len(existing) > 1:
        raise DataError(f"{root}: holds both {name}/ and {davis}/; keep one of them")
    return existing[0] if existing else None


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror or error})") from error


def _first_names(paths: Iterable[Path | str]) -> str:
    """List the names of the first five paths, for messages."""
    names = [f"{path.name}/" if isinstance(path, Path) and path.is_dir() else Path(path).name for path in paths]
    return ", ".join(names[:5] + ["…"] * (len(names) > 5)) or "none"
