"""Lists the sequences of YouTube-VOS 2018 and 2019."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voslab.core import ConfigError, DataError, MissingDataSetError
from voslab.core.strict_json import read_json
from voslab.data.video_sequence import VideoSequence, select_names
from voslab.video.images import image_files
from voslab.video.mask_formats.label_image import read_mask
from voslab.video.mask_formats.options import LITERAL

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
    """List the videos of `root/[<year>/]<split>/{JPEGImages,Annotations,meta.json}`, sorted, without decoding images.

    `train`, `valid` and `test` have 6 frames per second, `…_all_frames` splits 30. The latter share `Annotations` and
    `meta.json` with the 6 fps split if they have none. The `outputs` of a sequence are its 6 fps frames from the first
    mask on: those of the 6 fps split, or every fifth frame by number if that does not exist. An object is given in the
    first frame that `meta.json` lists for it and whose mask has it. Masks of `valid` and `test` have new objects only,
    and cannot be scored.

    An object is unseen if its category is not in `train/meta.json` of any year. Without that file no object is unseen:
    all objects are scored together and there is no G.

    Args:
        root: Folder of the data set.
        split: `train`, `valid`, `test`, or one of these with `_all_frames`.
        year: 2018 or 2019 for `root/<year>/`; None for `root` itself, or the only year that has the split.
        only: Names of videos to use; None for all.
        without: Names of videos to exclude.
        min_frames: Minimum length of a video with ground truth, in frames. Submissions need all videos.
        held_out: True for every fiftieth video in the order of names, False for all others, None for all videos.
        truth: Whether masks are complete ground truth; None for the default of the split.

    Returns:
        The sequences.

    Raises:
        MissingDataSetError: If there is no folder of the split.
        DataError: If another folder, a frame or a mask is missing, or `meta.json` is damaged.
        ConfigError: If `only` or `without` has an unknown name, or several years have the split and none is chosen.
    """
    paths = _SplitPaths.find(Path(root), split, year)
    objects = _read_meta(paths.meta)
    selected = set(select_names(sorted(objects), only, without, f"YouTube-VOS {split}"))
    names = [
        name for n, name in enumerate(sorted(objects)) if name in selected and held_out in (None, n % _HELD_OUT == 0)
    ]
    if unlisted := sorted(path.name for path in paths.videos() if path.name not in objects):
        raise DataError(f"{paths.meta}: does not list video {unlisted[0]}, which is in {paths.frames}")
    truth = split.startswith("train") if truth is None else truth
    seen = _categories(Path(root), paths.base)
    videos = [_video(paths, name, objects[name], seen, truth) for name in names]
    if truth and (short := [video for video in videos if len(video) < min_frames]):
        log.info("%s: left out, fewer than %d frames: %s", paths.frames, min_frames, ", ".join(v.name for v in short))
        videos = [video for video in videos if len(video) >= min_frames]
    return tuple(videos)


@dataclass(frozen=True)
class _SplitPaths:
    """Folders and files of a split; `sparse` are the frames of the 6 fps split, None if it does not exist."""

    base: Path
    frames: Path
    annotations: Path
    meta: Path
    sparse: Path | None

    @staticmethod
    def find(root: Path, split: str, year: int | None) -> _SplitPaths:
        bases = [root / name for name in _YEARS] if year is None else [root / str(year)]
        bases = [root] if year is None and (root / split).is_dir() else bases
        found = [base for base in bases if (base / split / "JPEGImages").is_dir()]
        if len(found) > 1:
            raise ConfigError(f"{root}: has the split {split} of several years; choose year=2018 or year=2019")
        if not found:
            base = root if year is None else bases[0]
            existing = sorted(
                str(path.relative_to(base)) for path in (*base.glob("*"), *base.glob("*/*")) if path.is_dir()
            )
            holds = ", ".join(existing[:12]) or "nothing"
            message = f"{base / split / 'JPEGImages'}: no such folder; {base} holds {holds}"
            # Another year, or a folder without frames, is a mistake.
            if any((one / split).exists() for one in (root, *(root / name for name in _YEARS))):
                raise DataError(message)
            raise MissingDataSetError(message, root)
        base, sparse_split = found[0], found[0] / split.removesuffix(_ALL_FRAMES)
        candidates = [base / split, sparse_split]
        annotations = next((path / "Annotations" for path in candidates if (path / "Annotations").is_dir()), None)
        if annotations is None:
            raise DataError(f"{sparse_split / 'Annotations'}: no such folder")
        meta = next(
            (path / "meta.json" for path in candidates if (path / "meta.json").is_file()), sparse_split / "meta.json"
        )
        sparse = sparse_split / "JPEGImages"
        has_sparse = split.endswith(_ALL_FRAMES) and sparse.is_dir()
        return _SplitPaths(base, base / split / "JPEGImages", annotations, meta, sparse if has_sparse else None)

    def videos(self) -> list[Path]:
        return [path for path in self.frames.iterdir() if path.is_dir() and not path.name.startswith(".")]


@dataclass(frozen=True)
class _Object:
    identity: int
    category: str | None
    frames: tuple[str, ...]


@dataclass(frozen=True)
class _Starts(Mapping[int, int]):
    """Maps each object to the first frame whose mask has it, read on access; `meta.json` may list earlier frames."""

    listed: tuple[tuple[int, tuple[int, ...]], ...]
    masks: tuple[Path | None, ...]
    source: str

    def __getitem__(self, identity: int) -> int:
        frames = dict(self.listed)[identity]
        for frame in frames:
            mask = self.masks[frame]
            if mask is not None and (read_mask(mask, LITERAL) == identity).any():
                return frame
        raise DataError(f"{self.source}, object {identity}: is in no mask of the frames listed for it")

    def __iter__(self) -> Iterator[int]:
        return (identity for identity, _ in self.listed)

    def __len__(self) -> int:
        return len(self.listed)


def _video(
    paths: _SplitPaths, name: str, objects: tuple[_Object, ...], seen: frozenset[str] | None, truth: bool
) -> VideoSequence:
    frames, annotations, source = paths.frames / name, paths.annotations / name, f"{paths.meta}: video {name}"
    images = image_files(frames)
    indices = {image.stem: index for index, image in enumerate(images)}
    masks = {path.stem: path for path in annotations.glob("*.png") if not path.name.startswith(".")}
    if extra := sorted(masks.keys() - indices.keys()):
        raise DataError(f"{masks[extra[0]]}: there is no frame of that name in {frames}")
    for obj in objects:
        if unknown := [frame for frame in obj.frames if frame not in indices]:
            raise DataError(f"{source}, object {obj.identity}: frame {unknown[0]} is not in {frames}")
        if not masks.keys() & set(obj.frames):
            raise DataError(f"{source}, object {obj.identity}: none of its frames has a mask in {annotations}")
    frames_by_object = tuple((obj.identity, tuple(sorted(indices[frame] for frame in obj.frames))) for obj in objects)
    by_frame = tuple(masks.get(image.stem) for image in images)
    first = min(
        frame for _, listed_frames in frames_by_object for frame in listed_frames if by_frame[frame] is not None
    )
    outputs = _outputs(images, first, paths, name)
    required = (
        sorted({frame for _, listed_frames in frames_by_object for frame in listed_frames} & set(outputs))
        if truth
        else []
    )
    if unmasked := [images[frame] for frame in required if by_frame[frame] is None]:
        raise DataError(
            f"{annotations / unmasked[0].stem}.png: missing, the mask of {unmasked[0]} ({len(masks)} masks there)"
        )
    return VideoSequence(
        name,
        tuple(images),
        by_frame,
        starts=_Starts(frames_by_object, by_frame, source),
        truth=truth,
        outputs=outputs,
        scores_last=True,
        unseen=frozenset(obj.identity for obj in objects if seen is not None and obj.category not in (None, *seen)),
    )


def _outputs(images: list[Path], first: int, paths: _SplitPaths, name: str) -> tuple[int, ...]:
    """Return the 6 fps frames from `first` on."""
    candidates = range(first, len(images))
    if not paths.frames.parent.name.endswith(_ALL_FRAMES):
        return tuple(candidates)
    if paths.sparse is not None:
        sparse = {image.stem for image in image_files(paths.sparse / name)}
        if missing := sorted(sparse - {image.stem for image in images}):
            raise DataError(f"{paths.frames / name / missing[0]}.jpg: missing, {paths.sparse / name} has that frame")
        return tuple(index for index in candidates if images[index].stem in sparse)
    if unnumbered := [image for image in images if not image.stem.isdecimal()]:
        raise DataError(f"{unnumbered[0]}: frames of YouTube-VOS must be named by number")
    start = int(images[first].stem)
    return tuple(index for index in candidates if (int(images[index].stem) - start) % _STRIDE == 0)


def _categories(root: Path, base: Path) -> frozenset[str] | None:
    """Return the categories of the training split; None if it does not exist."""
    for folder in (base, root, *(root / year for year in _YEARS)):
        if (folder / "train" / "meta.json").is_file():
            videos = _read_meta(folder / "train" / "meta.json").values()
            return frozenset(obj.category for objects in videos for obj in objects if obj.category is not None)
    return None


def _read_meta(path: Path) -> dict[str, tuple[_Object, ...]]:
    """Read the objects of every video from `meta.json`."""
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
    entries = video.get("objects") if isinstance(video, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{source}: lists no objects")
    found = []
    for key, entry in entries.items():
        frames = entry.get("frames") if isinstance(entry, dict) else None
        category = entry.get("category") if isinstance(entry, dict) else None
        if not (key.isascii() and key.isdecimal() and 0 < int(key[:9]) <= _LARGEST_ID):
            raise DataError(f"{source}, object '{key}': ids go from 1 to {_LARGEST_ID}, as masks are palette PNGs")
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, str) for frame in frames):
            raise DataError(f"{source}, object {key}: lists no frames")
        if not isinstance(category, str | None):
            raise DataError(f"{source}, object {key}: its category is no name")
        found.append(_Object(int(key), category, tuple(frames)))
    if len({obj.identity for obj in found}) < len(found):
        raise DataError(f"{source}: has an object twice")
    return tuple(found)
