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

_LARGEST = 10**8


@dataclass(frozen=True)
class _Object:
    """An annotation: its id, and per frame what the file says of its mask; None where it is not seen."""

    identity: int
    segmentations: list[Any]


@dataclass(frozen=True)
class _Video:
    name: str
    size: tuple[int, int]
    files: tuple[str, ...]
    objects: tuple[_Object, ...]
    source: str

    def runs(self, thing: _Object, frame: int) -> bytes | None:
        """Packed runs of an object; None where it is not seen. Raises `DataError` if they are no mask."""
        segmentation = thing.segmentations[frame]
        return None if segmentation is None else pack(segmentation, self.size, self.at(thing, frame))

    def first(self, thing: _Object, frames: Iterable[int]) -> int | None:
        """The first of `frames` in which an object shows a pixel."""
        for frame in frames:
            runs = self.runs(thing, frame)
            if runs is not None and area(runs, self.at(thing, frame)):
                return frame
        return None

    def opening(self) -> tuple[_Object, ...]:
        """The objects that show in frame 0."""
        return tuple(thing for thing in self.objects if self.first(thing, (0,)) is not None)

    def at(self, thing: _Object, frame: int) -> str:
        return f"{self.source}: video {self.name}, annotation {thing.identity}, frame {frame}"


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
    """List the videos of a split, sorted by name, without reading a picture. Groups (`iscrowd`) are left out.

    The default with `videos=25` is the protocol of the key adaptation paper. Masks of videos that are not drawn are not
    looked at.

    Args:
        root: holds the frames in `<split>/` or `<split>/JPEGImages/`, and the annotations.
        split: only `train` has public annotations.
        annotations: the file, within `root` or its `annotations/`; None looks for the usual names.
        single: one sequence, `<video>_<annotation>`, with id 1 alone, for each object that shows in frame 0; the others
            do not exist. Else one sequence per video with all its objects, each given where it first shows, with ids
            from 1 in this order; no object is 255, which means white or void in mask files.
        videos: number of videos to draw from those with an object in frame 0; None: all that show an object.
        held_out: leave out the videos that `videos=held_out` draws.
        seed: of the draw, in which each video's chance depends on its name alone.
        only: names of videos (their folders) to pick before the draw.
        without: names of videos to leave out before the draw.

    Raises:
        DataError: a file or folder is missing, or the annotations are not what their format promises; the message names
            the file, the video and the annotation.
        ConfigError: a picked name that is not there, or a draw that makes no sense.
    """
    count = held_out if videos is None else videos
    if None not in (videos, held_out) or (count is not None and count < 1):
        raise ConfigError(f"OVIS: videos={videos}, held_out={held_out}: give at most one of them, a positive number")
    root = Path(root)
    path = _annotation_file(root, split, annotations)
    found = _read(path)
    names = set(select_names((video.name for video in found), only, without, path))
    found = tuple(video for video in found if video.name in names)
    if count is not None:
        drawn = _draw(found, count, seed, path)
        found = tuple(video for video in found if (video.name in drawn) == (videos is not None))
    folder = _frame_folder(root, split)
    listed = tuple(sequence for video in found for sequence in _sequences(video, folder, single))
    if not listed:
        raise DataError(f"{path}: no object {'in the first frame ' if single else ''}of any of {len(found)} videos")
    return listed


def _draw(videos: tuple[_Video, ...], count: int, seed: int, path: Path) -> frozenset[str]:
    """Names of `count` of the videos with an object in frame 0."""
    order = sorted(videos, key=lambda video: (generator(seed, "ovis", video.name).random(), video.name))
    drawn = frozenset(islice((video.name for video in order if video.opening()), count))
    if len(drawn) < count:
        raise DataError(f"{path}: {len(drawn)} videos have an object in frame 0, {count} cannot be drawn")
    return drawn


def _sequences(video: _Video, folder: Path, single: bool) -> Iterator[VideoSequence]:
    images = tuple(folder / file for file in video.files)
    there = [image.is_file() for image in images]
    if not all(there):
        lost = there.index(False)
        raise DataError(
            f"{images[lost]}: missing, frame {lost} of video {video.name} in {video.source} ({sum(there)} of"
            f" {len(images)} frames are there)"
        )
    count = len(images)
    if single:
        for thing in video.opening():
            masks = tuple(_labelled(video, [(1, thing)], frame, video.at(thing, frame)) for frame in range(count))
            yield VideoSequence(f"{video.name}_{thing.identity}", images, masks, scores_last=True)
        return
    firsts = [(frame, thing) for thing in video.objects if (frame := video.first(thing, range(count))) is not None]
    firsts.sort(key=lambda one: (one[0], one[1].identity))
    ids = [identity for identity in range(1, len(firsts) + 2) if identity != VOID][: len(firsts)]
    starts = {identity: frame for identity, (frame, _) in zip(ids, firsts, strict=True)}
    objects = [(identity, thing) for identity, (_, thing) in zip(ids, firsts, strict=True)]
    if objects:
        masks = tuple(
            _labelled(video, objects, frame, f"{video.source}: video {video.name}, frame {frame}")
            for frame in range(count)
        )
        yield VideoSequence(video.name, images, masks, starts=starts, scores_last=True)


def _labelled(video: _Video, objects: list[tuple[int, _Object]], frame: int, source: str) -> Runs:
    runs = ((identity, video.runs(thing, frame)) for identity, thing in objects)
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
    there = sorted(str(path.relative_to(root)) for path in (*root.glob("*.json"), *root.glob("*/*.json")))
    raise DataError(f"{candidates[0]}: no such annotations; {root} holds {', '.join(there) or 'no .json file'}")


def _frame_folder(root: Path, split: str) -> Path:
    for folder in (root / split / "JPEGImages", root / split):
        if folder.is_dir():
            return folder
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    raise DataError(f"{root / split}: no such folder of frames; {root} holds {', '.join(there) or 'no folder'}")


def _read(path: Path) -> tuple[_Video, ...]:
    """All videos of a file with their objects by id, sorted by name; no segmentation is looked into."""
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if isinstance(content, dict) and "videos" in content and content.get("annotations") is None:
        raise DataError(f"{path}: holds no annotations; those of OVIS and YouTube-VIS are public for `train` only")
    lengths: dict[int, int] = {}
    objects: dict[int, list[_Object]] = {}
    entries = _field(content, "videos", list, str(path))
    for place, entry in enumerate(entries):
        identity = _new_id(entry, lengths, f"{path}: video number {place}")
        lengths[identity] = len(_field(entry, "file_names", list, f"{path}: video {identity}"))
        objects[identity] = []
    seen: set[int] = set()
    for place, entry in enumerate(_field(content, "annotations", list, str(path))):
        identity = _new_id(entry, seen, f"{path}: annotation number {place}")
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
    for one, other in pairwise(videos):
        if one.name == other.name:
            raise DataError(f"{path}: two videos have their frames in {one.name}/")
    return tuple(videos)


def _video(entry: dict[str, Any], objects: list[_Object], path: Path) -> _Video:
    source = f"{path}: video {entry['id']}"
    height, width = (_field(entry, key, int, source) for key in ("height", "width"))
    if min(height, width) < 1 or height * width > _LARGEST:
        raise DataError(f"{source}: frames of {width} x {height} pixels")
    files = entry["file_names"]
    for file in files:
        if not isinstance(file, str) or not file or file[0] == "/" or ".." in PurePosixPath(file).parts:
            raise DataError(f"{source}: '{file}' is no file name within the folder of frames")
    if not files or len({PurePosixPath(file).stem for file in files}) < len(files):
        raise DataError(f"{source}: {len(files)} frames, {'the names of two are equal' if files else 'nothing to see'}")
    name = PurePosixPath(files[0]).parent.name or str(entry["id"])
    ordered = tuple(sorted(objects, key=lambda thing: thing.identity))
    return _Video(name, (height, width), tuple(files), ordered, str(path))


def _new_id(entry: Any, seen: Iterable[int], source: str) -> int:
    identity: int = _field(entry, "id", int, source)
    if identity in seen:
        raise DataError(f"{source}: the id {identity} is taken already")
    return identity


def _field(entry: Any, key: str, kind: type, source: str) -> Any:
    """`entry[key]`, which must be there and of a kind."""
    if not isinstance(entry, dict) or key not in entry:
        raise DataError(f"{source}: has no '{key}'")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{source}: '{key}' must be of type {kind.__name__}, not {type(value).__name__}")
    return value
