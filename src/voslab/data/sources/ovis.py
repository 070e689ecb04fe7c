"""Lists the videos of OVIS and YouTube-VIS, whose masks are run lengths in one JSON file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from voslab.core import VOID, ConfigError, DataError, generator
from voslab.core.strict_json import read_json
from voslab.data.video_sequence import VideoSequence, select_names
from voslab.video.mask_formats.rle import Runs, area, pack

_MAX_PIXELS = 10**8


@dataclass(frozen=True)
class _Object:
    """An annotated object.

    Attributes:
        identity: Id of the annotation.
        segmentations: Segmentation in each frame; None if the object is not visible.
    """

    identity: int
    segmentations: list[Any]


@dataclass(frozen=True)
class _Video:
    name: str
    size: tuple[int, int]
    files: tuple[str, ...]
    objects: tuple[_Object, ...]
    source: str

    def runs(self, obj: _Object, frame: int) -> bytes | None:
        """Return the run lengths of an object, compressed; None if it is not visible."""
        segmentation = obj.segmentations[frame]
        return None if segmentation is None else pack(segmentation, self.size, self.location(obj, frame))

    def first(self, obj: _Object, frames: Iterable[int]) -> int | None:
        """Return the first of `frames` in which an object has a pixel."""
        for frame in frames:
            runs = self.runs(obj, frame)
            if runs is not None and area(runs, self.location(obj, frame)):
                return frame
        return None

    def first_frame_objects(self) -> tuple[_Object, ...]:
        """Return the objects that are visible in frame 0."""
        return tuple(obj for obj in self.objects if self.first(obj, (0,)) is not None)

    def location(self, obj: _Object, frame: int) -> str:
        """Return the location of a segmentation, for messages."""
        return f"{self.source}: video {self.name}, annotation {obj.identity}, frame {frame}"


def ovis(
    root: Path | str,
    split: str = "train",
    annotations: str | None = None,
    single: bool = True,
    videos: int | None = None,
    held_out: int | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> tuple[VideoSequence, ...]:
    """List the videos of a split, sorted by name, without reading images. Groups (`iscrowd`) are ignored.

    The defaults with `videos=25` are the protocol of the key adaptation paper.

    Args:
        root: Folder of the data set, with frames in `<split>/` or `<split>/JPEGImages/`.
        split: Name of the split. Only `train` has public annotations.
        annotations: Annotation file in `root` or `root/annotations/`; None for the usual names.
        single: Whether each object that is visible in frame 0 is a sequence of its own, `<video>_<annotation>`, with
            id 1. Otherwise each video is one sequence with all its objects. Each is given in the first frame that shows
            it; ids are in this order, from 1, and skip 255, which is void or white in mask files.
        videos: Number of videos to sample from those with an object in frame 0; None for all videos with an object.
        held_out: Use the videos that `videos=held_out` would not sample.
        seed: Seed of the sampling, which depends on the names of the videos only.
        only: Names of videos (their folders) to sample from; None for all.
        without: Names of videos to exclude from sampling.

    Returns:
        The sequences.

    Raises:
        DataError: If a file or folder is missing, or the annotations are malformed.
        ConfigError: If `only` or `without` has an unknown name, or `videos` and `held_out` are invalid.
    """
    count = held_out if videos is None else videos
    if None not in (videos, held_out) or (count is not None and count < 1):
        raise ConfigError(f"OVIS: videos={videos}, held_out={held_out}: give at most one of them, a positive number")
    root = Path(root)
    path = _annotation_file(root, split, annotations)
    all_videos = _read(path)
    names = set(select_names((video.name for video in all_videos), only, without, path))
    selected = tuple(video for video in all_videos if video.name in names)
    if count is not None:
        sampled = _sample(selected, count, seed, path)
        selected = tuple(video for video in selected if (video.name in sampled) == (videos is not None))
    folder = _frame_folder(root, split)
    sequences = tuple(sequence for video in selected for sequence in _sequences(video, folder, single))
    if not sequences:
        raise DataError(f"{path}: no object {'in the first frame ' if single else ''}of any of {len(selected)} videos")
    return sequences


def _sample(videos: tuple[_Video, ...], count: int, seed: int, path: Path) -> frozenset[str]:
    """Sample the names of `count` videos with an object in frame 0."""
    order = sorted(videos, key=lambda video: (generator(seed, "ovis", video.name).random(), video.name))
    sampled = frozenset(islice((video.name for video in order if video.first_frame_objects()), count))
    if len(sampled) < count:
        raise DataError(f"{path}: {len(sampled)} videos have an object in frame 0, {count} cannot be drawn")
    return sampled


def _sequences(video: _Video, folder: Path, single: bool) -> Iterator[VideoSequence]:
    images = tuple(folder / file for file in video.files)
    exists = [image.is_file() for image in images]
    if not all(exists):
        missing = exists.index(False)
        raise DataError(
            f"{images[missing]}: missing, frame {missing} of video {video.name} in {video.source} ({sum(exists)} of"
            f" {len(images)} frames are there)"
        )
    count = len(images)
    if single:
        for obj in video.first_frame_objects():
            masks = tuple(_runs(video, [(1, obj)], frame, video.location(obj, frame)) for frame in range(count))
            yield VideoSequence(f"{video.name}_{obj.identity}", images, masks, scores_last=True)
        return
    firsts = [(frame, obj) for obj in video.objects if (frame := video.first(obj, range(count))) is not None]
    firsts.sort(key=lambda first: (first[0], first[1].identity))
    ids = [identity for identity in range(1, len(firsts) + 2) if identity != VOID][: len(firsts)]
    starts = {identity: frame for identity, (frame, _) in zip(ids, firsts, strict=True)}
    objects = [(identity, obj) for identity, (_, obj) in zip(ids, firsts, strict=True)]
    if objects:
        masks = tuple(
            _runs(video, objects, frame, f"{video.source}: video {video.name}, frame {frame}") for frame in range(count)
        )
        yield VideoSequence(video.name, images, masks, starts=starts, scores_last=True)


def _runs(video: _Video, objects: list[tuple[int, _Object]], frame: int, source: str) -> Runs:
    runs = ((identity, video.runs(obj, frame)) for identity, obj in objects)
    return Runs(video.size, tuple((identity, packed) for identity, packed in runs if packed is not None), source)


def _annotation_file(root: Path, split: str, annotations: str | None) -> Path:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; OVIS or YouTube-VIS is expected there")
    inside = root / "annotations"
    if annotations is not None:
        candidates = [root / annotations, inside / annotations]
    else:
        names = [f"annotations_{split}.json", f"{split}.json", f"instances_{split}_sub.json"]
        candidates = [folder / name for name in names for folder in (root, inside)]
        candidates.append(root / split / "instances.json")
    for path in candidates:
        if path.is_file():
            return path
    existing = sorted(str(path.relative_to(root)) for path in (*root.glob("*.json"), *root.glob("*/*.json")))
    raise DataError(f"{candidates[0]}: no such annotations; {root} holds {', '.join(existing) or 'no .json file'}")


def _frame_folder(root: Path, split: str) -> Path:
    for folder in (root / split / "JPEGImages", root / split):
        if folder.is_dir():
            return folder
    existing = sorted(path.name for path in root.iterdir() if path.is_dir())
    raise DataError(f"{root / split}: no such folder of frames; {root} holds {', '.join(existing) or 'no folder'}")


def _read(path: Path) -> tuple[_Video, ...]:
    """Read all videos of a file, sorted by name. Segmentations are not checked."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if isinstance(content, dict) and "videos" in content and content.get("annotations") is None:
        raise DataError(f"{path}: holds no annotations; those of OVIS and YouTube-VIS are public for `train` only")
    lengths: dict[int, int] = {}
    objects: dict[int, list[_Object]] = {}
    entries = _field(content, "videos", list, str(path))
    for number, entry in enumerate(entries):
        identity = _new_id(entry, lengths, f"{path}: video number {number}")
        lengths[identity] = len(_field(entry, "file_names", list, f"{path}: video {identity}"))
        objects[identity] = []
    seen: set[int] = set()
    for number, entry in enumerate(_field(content, "annotations", list, str(path))):
        identity = _new_id(entry, seen, f"{path}: annotation number {number}")
        seen.add(identity)
        owner = _field(entry, "video_id", int, f"{path}: annotation {identity}")
        if owner not in lengths:
            raise DataError(f"{path}: annotation {identity}: there is no video {owner}")
        source = f"{path}: video {owner}, annotation {identity}"
        segmentations = _field(entry, "segmentations", list, source)
        if len(segmentations) != lengths[owner]:
            raise DataError(f"{source}: {len(segmentations)} segmentations for {lengths[owner]} frames")
        if not entry.get("iscrowd"):
            objects[owner].append(_Object(identity, segmentations))
    videos = [_video(entry, objects[entry["id"]], path) for entry in entries]
    videos.sort(key=lambda video: video.name)
    for video, other in pairwise(videos):
        if video.name == other.name:
            raise DataError(f"{path}: two videos have their frames in {video.name}/")
    return tuple(videos)


def _video(entry: dict[str, Any], objects: list[_Object], path: Path) -> _Video:
    source = f"{path}: video {entry['id']}"
    height, width = (_field(entry, key, int, source) for key in ("height", "width"))
    if min(height, width) < 1 or height * width > _MAX_PIXELS:
        raise DataError(f"{source}: frames of {width} x {height} pixels")
    files = entry["file_names"]
    for file in files:
        if not isinstance(file, str) or not file or file[0] == "/" or ".." in PurePosixPath(file).parts:
            raise DataError(f"{source}: '{file}' is no file name within the folder of frames")
    if not files or len({PurePosixPath(file).stem for file in files}) < len(files):
        raise DataError(f"{source}: {len(files)} frames, {'the names of two are equal' if files else 'noobj to see'}")
    name = PurePosixPath(files[0]).parent.name or str(entry["id"])
    ordered = tuple(sorted(objects, key=lambda obj: obj.identity))
    return _Video(name, (height, width), tuple(files), ordered, str(path))


def _new_id(entry: Any, seen: Iterable[int], source: str) -> int:
    identity: int = _field(entry, "id", int, source)
    if identity in seen:
        raise DataError(f"{source}: the id {identity} is taken already")
    return identity


def _field(entry: Any, key: str, kind: type, source: str) -> Any:
    """Return `entry[key]`. Raises `DataError` if it is missing or of another type."""
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(f"{source}: has no '{key}'")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{source}: '{key}' must be of type {kind.__name__}, not {type(value).__name__}")
    return value
