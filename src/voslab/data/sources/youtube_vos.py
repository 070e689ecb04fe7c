"""Lists the sequences of YouTube-VOS 2018 and 2019."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voslab.core import ConfigError, DataError
from voslab.core.strict_json import read_json
from voslab.data.video_sequence import VideoSequence, select_names
from voslab.video.images import image_files, read_mask

log = logging.getLogger(__name__)

_YEARS = ("2018", "2019")
_ALL_FRAMES = "_all_frames"
_STRIDE = 5  # 6 of 30 frames a second are annotated
_HELD_OUT = 50
_LARGEST_ID = 254


def youtube_vos(
    root: Path | str,
    split: str = "train",
    year: int | None = None,
    only: Sequence[str] | None = None,
    without: Sequence[str] = (),
    min_frames: int = 3,
    held_out: bool | None = None,
    truth: bool | None = None,
) -> tuple[VideoSequence, ...]:
    """List the videos of `root/[<year>/]<split>/{JPEGImages,Annotations,meta.json}`, sorted, without decoding anything.

    `train`, `valid` and `test` hold 6 frames a second, `…_all_frames` 30; the latter take `Annotations` and `meta.json`
    from their 6 fps twin where they have none. `outputs` are the 6 fps frames from the first labelled one on: those of
    the twin, or every fifth by number where there is none. An object starts in the first frame that `meta.json` lists
    for it and whose mask shows it. In `valid` and `test` masks hold new objects only, and nothing can be scored.

    An object is unseen if its category is not in `train/meta.json`, of whichever year there is. Without that file none
    is, so that all objects are scored together and there is no G.

    Args:
        root: folder of the data set.
        split: `train`, `valid`, `test`, or one of these with `_all_frames`.
        year: 2018 or 2019 for `root/<year>/`; None: `root` itself, or the only year in it that has the split.
        only: names of the videos to take; None: all.
        without: names of videos to leave out.
        min_frames: shorter videos are left out where there is truth; a server wants them all.
        held_out: every fiftieth video, in the order of names (True), or the others (False); None: all.
        truth: whether masks say everything; None: those of `train…` do.

    Raises:
        DataError: a folder, frame or mask is missing, or `meta.json` is damaged; the message names file and video.
        ConfigError: a picked name that is not in `meta.json`, or a year that is not said where there are several.
    """
    place = _Place.find(Path(root), split, year)
    listed = _read_meta(place.meta)
    kept = set(select_names(sorted(listed), only, without, f"YouTube-VOS {split}"))
    names = [name for n, name in enumerate(sorted(listed)) if name in kept and held_out in (None, n % _HELD_OUT == 0)]
    if strange := sorted(path.name for path in place.videos() if path.name not in listed):
        raise DataError(f"{place.meta}: does not know video {strange[0]}, which lies in {place.frames}")
    truth = split.startswith("train") if truth is None else truth
    seen = _categories(Path(root), place.base)
    videos = [_video(place, name, listed[name], seen, truth) for name in names]
    if truth and (short := [video for video in videos if len(video) < min_frames]):
        log.info(
            "%s: left out, with fewer than %d frames: %s", place.frames, min_frames, ", ".join(v.name for v in short)
        )
        videos = [video for video in videos if len(video) >= min_frames]
    return tuple(videos)


@dataclass(frozen=True)
class _Place:
    """Where a split lies; `sparse` are the frames of its 6 fps twin, None where there is none."""

    base: Path
    frames: Path
    annotations: Path
    meta: Path
    sparse: Path | None

    @staticmethod
    def find(root: Path, split: str, year: int | None) -> _Place:
        bases = [root / name for name in _YEARS] if year is None else [root / str(year)]
        bases = [root] if year is None and (root / split).is_dir() else bases
        found = [base for base in bases if (base / split / "JPEGImages").is_dir()]
        if len(found) > 1:
            raise ConfigError(f"{root}: has the split {split} of several years; say year=2018 or year=2019")
        if not found:
            base = root if year is None else bases[0]
            there = sorted(
                str(path.relative_to(base)) for path in (*base.glob("*"), *base.glob("*/*")) if path.is_dir()
            )
            holds = ", ".join(there[:12]) or "nothing"
            raise DataError(f"{base / split / 'JPEGImages'}: no such folder; {base} holds {holds}")
        base, twin = found[0], found[0] / split.removesuffix(_ALL_FRAMES)
        both = [base / split, twin]
        annotations = next((path / "Annotations" for path in both if (path / "Annotations").is_dir()), None)
        if annotations is None:
            raise DataError(f"{twin / 'Annotations'}: no such folder")
        meta = next((path / "meta.json" for path in both if (path / "meta.json").is_file()), twin / "meta.json")
        sparse = twin / "JPEGImages"
        has_twin = split.endswith(_ALL_FRAMES) and sparse.is_dir()
        return _Place(base, base / split / "JPEGImages", annotations, meta, sparse if has_twin else None)

    def videos(self) -> list[Path]:
        return [path for path in self.frames.iterdir() if path.is_dir() and not path.name.startswith(".")]


@dataclass(frozen=True)
class _Object:
    identity: int
    category: str | None
    frames: tuple[str, ...]


@dataclass(frozen=True)
class _Starts(Mapping[int, int]):
    """First frame in which each object shows, read from the masks when asked for: `meta.json` is early at times."""

    listed: tuple[tuple[int, tuple[int, ...]], ...]
    masks: tuple[Path | None, ...]
    source: str

    def __getitem__(self, identity: int) -> int:
        frames = dict(self.listed)[identity]
        for frame in frames:
            mask = self.masks[frame]
            if mask is not None and (read_mask(mask) == identity).any():
                return frame
        raise DataError(f"{self.source}, object {identity}: shows in no mask of the frames that are listed for it")

    def __iter__(self) -> Iterator[int]:
        return (identity for identity, _ in self.listed)

    def __len__(self) -> int:
        return len(self.listed)


def _video(
    place: _Place, name: str, objects: tuple[_Object, ...], seen: frozenset[str] | None, truth: bool
) -> VideoSequence:
    frames, annotations, source = place.frames / name, place.annotations / name, f"{place.meta}: video {name}"
    images = image_files(frames)
    places = {image.stem: index for index, image in enumerate(images)}
    masks = {path.stem: path for path in annotations.glob("*.png") if not path.name.startswith(".")}
    if lost := sorted(masks.keys() - places.keys()):
        raise DataError(f"{masks[lost[0]]}: there is no frame of that name in {frames}")
    for thing in objects:
        if unknown := [frame for frame in thing.frames if frame not in places]:
            raise DataError(f"{source}, object {thing.identity}: frame {unknown[0]} is not in {frames}")
        if not masks.keys() & set(thing.frames):
            raise DataError(f"{source}, object {thing.identity}: none of its frames has a mask in {annotations}")
    listed = tuple((thing.identity, tuple(sorted(places[frame] for frame in thing.frames))) for thing in objects)
    by_frame = tuple(masks.get(image.stem) for image in images)
    first = min(frame for _, shown in listed for frame in shown if by_frame[frame] is not None)
    outputs = _outputs(images, first, place, name)
    needed = sorted({frame for _, shown in listed for frame in shown} & set(outputs)) if truth else []
    if bare := [images[frame] for frame in needed if by_frame[frame] is None]:
        raise DataError(f"{annotations / bare[0].stem}.png: missing, the mask of {bare[0]} ({len(masks)} masks there)")
    return VideoSequence(
        name,
        tuple(images),
        by_frame,
        starts=_Starts(listed, by_frame, source),
        truth=truth,
        outputs=outputs,
        scores_last=True,
        unseen=frozenset(t.identity for t in objects if seen is not None and t.category not in (None, *seen)),
    )


def _outputs(images: list[Path], first: int, place: _Place, name: str) -> tuple[int, ...]:
    """The 6 fps frames from `first` on."""
    rest = range(first, len(images))
    if not place.frames.parent.name.endswith(_ALL_FRAMES):
        return tuple(rest)
    if place.sparse is not None:
        wanted = {image.stem for image in image_files(place.sparse / name)}
        if lost := sorted(wanted - {image.stem for image in images}):
            raise DataError(f"{place.frames / name / lost[0]}.jpg: missing, {place.sparse / name} has that frame")
        return tuple(index for index in rest if images[index].stem in wanted)
    if odd := [image for image in images if not image.stem.isdecimal()]:
        raise DataError(f"{odd[0]}: a frame of YouTube-VOS is named by its number")
    start = int(images[first].stem)
    return tuple(index for index in rest if (int(images[index].stem) - start) % _STRIDE == 0)


def _categories(root: Path, base: Path) -> frozenset[str] | None:
    """Categories of the training split; None where it is not there."""
    for folder in (base, root, *(root / year for year in _YEARS)):
        if (folder / "train" / "meta.json").is_file():
            videos = _read_meta(folder / "train" / "meta.json").values()
            return frozenset(t.category for objects in videos for t in objects if t.category is not None)
    return None


def _read_meta(path: Path) -> dict[str, tuple[_Object, ...]]:
    """The objects of every video."""
    try:
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise DataError(f"{path}: lists no videos")
    return {name: _objects(f"{path}: video {name}", video) for name, video in videos.items()}


def _objects(source: str, video: Any) -> tuple[_Object, ...]:
    things = video.get("objects") if isinstance(video, dict) else None
    if not isinstance(things, dict) or not things:
        raise DataError(f"{source}: lists no objects")
    found = []
    for key, thing in things.items():
        frames = thing.get("frames") if isinstance(thing, dict) else None
        category = thing.get("category") if isinstance(thing, dict) else None
        if not (key.isascii() and key.isdecimal() and 0 < int(key[:9]) <= _LARGEST_ID):
            raise DataError(f"{source}, object '{key}': ids go from 1 to {_LARGEST_ID}, as masks are palette PNGs")
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
            raise DataError(f"{source}, object {key}: lists no frames")
        if not isinstance(category, str | None):
            raise DataError(f"{source}, object {key}: its category is no name")
        found.append(_Object(int(key), category, tuple(frames)))
    if len({thing.identity for thing in found}) < len(found):
        raise DataError(f"{source}: has an object twice")
    return tuple(found)
