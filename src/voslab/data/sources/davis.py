"""Lists the sequences of DAVIS 2016 and 2017."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voslab.core import ConfigError, DataError, MissingDataSetError
from voslab.core.parameters import Side
from voslab.data.video_sequence import VideoSequence, select_names
from voslab.video.images import image_files

_LAYOUT = "JPEGImages/, Annotations/ and ImageSets/"


def davis(
    root: Path | str,
    year: int | None = 2017,
    split: str = "train",
    resolution: str = "480p",
    only: Sequence[str] | None = None,
    without: Sequence[str] = (),
    height: Side | None = None,
) -> tuple[VideoSequence, ...]:
    """List the sequences of a split without decoding images.

    Names of sequences come from `ImageSets/<year>/<split>.txt`, or from `ImageSets/<resolution>/<split>.txt` of the
    2016 release. Every frame must have a mask. In `test-…` splits only frame 0 must, and nothing can be scored.

    Args:
        root: Folder of the data set.
        year: 2016, which merges all objects into one, or 2017; None for 2017 if the split has a list there, else 2016.
        split: Name of the split.
        resolution: Name of the resolution, a subfolder of `JPEGImages` and `Annotations`.
        only: Names of sequences to use; None for all.
        without: Names of sequences to exclude.
        height: Height in pixels to which images and masks are scaled up; None for the original size.

    Returns:
        The sequences, in the order of the list.

    Raises:
        MissingDataSetError: If the folder or the list of the split does not exist.
        DataError: If another folder, a frame or a mask is missing.
        ConfigError: If the year is not 2016 or 2017, or `only` or `without` has an unknown name.
    """
    if year not in {2016, 2017, None}:
        raise ConfigError(f"there is no DAVIS {year}: choose 2016 or 2017")
    root = Path(root)
    if not root.is_dir():
        raise MissingDataSetError(f"{root}: no such folder; DAVIS is expected there as released, with {_LAYOUT}", root)
    if year is None:
        year = 2017 if (root / "ImageSets" / "2017" / f"{split}.txt").is_file() else 2016
    names = select_names(_names(root, year, split, resolution), only, without, f"DAVIS {year} {split}")
    sequences = tuple(_sequence(root, name, resolution, year == 2016, split.startswith("test")) for name in names)
    return tuple(replace(sequence, height=height) for sequence in sequences)


def _names(root: Path, year: int, split: str, resolution: str) -> tuple[str, ...]:
    lists = root / "ImageSets"
    candidates = [lists / str(year) / f"{split}.txt"]
    if year == 2016:
        candidates.append(lists / resolution / f"{split}.txt")
    for path in candidates:
        if path.is_file():
            return _read(path)
    existing = sorted(str(path.relative_to(lists)) for path in lists.glob("*/*.txt"))
    expected = " or ".join(str(path) for path in candidates)
    holds = ", ".join(existing) or "no lists"
    raise MissingDataSetError(f"{expected}: no such list of sequences; ImageSets holds {holds}", root)


def _read(path: Path) -> tuple[str, ...]:
    """Read the distinct sequence names of a list in either format, in order."""
    names: dict[str, None] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        name = Path(words[0]).parent.name if "/" in words[0] else words[0]
        if not name or name in {".", ".."}:
            raise DataError(f"{path}: line {number} names no sequence: {line.strip()[:80]}")
        names[name] = None
    if not names:
        raise DataError(f"{path}: the list of sequences is empty")
    return tuple(names)


def _sequence(root: Path, name: str, resolution: str, merge: bool, first_only: bool) -> VideoSequence:
    frames, annotations = (root / kind / resolution / name for kind in ("JPEGImages", "Annotations"))
    for folder in (frames, annotations):
        if not folder.is_dir():
            existing = sorted(path.name for path in folder.parent.parent.glob("*") if path.is_dir())
            raise DataError(
                f"{folder}: no such folder; {folder.parent.parent} holds {', '.join(existing) or 'nothing'}"
            )
    images = image_files(frames)
    masks = {path.stem: path for path in annotations.glob("*.png") if not path.name.startswith(".")}
    for image in images[:1] if first_only else images:
        if image.stem not in masks:
            raise DataError(f"{annotations / image.stem}.png: missing, the mask of {image} ({len(masks)} masks there)")
    if extra := sorted(masks.keys() - {image.stem for image in images}):
        raise DataError(
            f"{frames / extra[0]}.jpg: missing, the frame of {masks[extra[0]]} ({len(images)} frames there)"
        )
    by_frame = tuple(masks.get(image.stem) for image in images)
    return VideoSequence(name, tuple(images), by_frame, merge, truth=not first_only)
