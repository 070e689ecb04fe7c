"""Writes and checks submissions for YouTube-VOS and DAVIS servers: zips of palette PNGs."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from voslab.core import DataError, atomic_path, object_ids
from voslab.data.video_sequence import VideoSequence
from voslab.video import palette, read_mask
from voslab.video.mask_formats.options import LITERAL

_SHOWN = 10
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, RuntimeError, ValueError, EOFError, LookupError)


@dataclass(frozen=True)
class Fault:
    """A fault of a submission.

    Attributes:
        place: File or folder in the zip.
        reason: Description of the fault.
        warning: Whether servers accept the submission nevertheless.
        more: Number of other files in the folder with the same fault.
    """

    place: str
    reason: str
    warning: bool = False
    more: int = 0

    def __str__(self) -> str:
        others = f" and {self.more} more there" if self.more else ""
        text = f"{'warning: ' if self.warning else ''}{self.place}{others}: {self.reason}"
        return text if text.isprintable() else ascii(text)[1:-1]


def write_submission(target: Path, folder: Path, videos: Sequence[VideoSequence]) -> int:
    """Write a zip of masks atomically, as palette PNGs. Equal masks give equal bytes.

    Masks are named `Annotations/<sequence>/<frame>.png` if the sequences define output frames (YouTube-VOS), otherwise
    `<sequence>/<frame>.png` (DAVIS). Frames that are not submitted and missing masks are skipped; `check_submission`
    reports the latter.

    Args:
        target: The zip file.
        folder: Folder of the masks, `<sequence>/<frame>.png`.
        videos: Sequences of the split.

    Returns:
        Number of masks written.

    Raises:
        DataError: If a mask is damaged, or has an id that a palette PNG cannot represent.
        WriteError: If the zip cannot be written.
    """
    written = 0
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for video in videos:
            for frame in video.output_frames:
                path = folder / video.name / f"{video.images[frame].stem}.png"
                if path.is_file():
                    entry = zipfile.ZipInfo(_name(video, frame))  # always dated 1980
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, _palette_png(path, video))
                    written += 1
    return written


def check_submission(path: Path, videos: Sequence[VideoSequence]) -> list[Fault]:
    """Check a zip of masks. Nothing is unpacked to disk, and of each file at most the size of a mask is read.

    Args:
        path: The zip file.
        videos: Sequences of the split.

    Returns:
        The faults, in order; a fault of many files in a folder is listed once.

    Raises:
        DataError: If the file does not exist, or an image or given mask of the data set cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        return [Fault(path.name, f"no zip, or a damaged one ({error})")]
    with archive:
        files, faults = _files(archive)
        videos = [video for video in videos if video.output_frames]
        wanted = {_name(video, frame) for video in videos for frame in video.output_frames}
        root = _root(videos[0]) if videos else ""
        files, moved = _rebased(files, wanted, root)
        folders = {_folder(name) for name in files}
        faults += moved
        for video in videos:
            if f"{root}{video.name}" in folders:
                faults += _check_sequence(archive, files, video)
            else:
                faults.append(Fault(f"{root}{video.name}/", "missing, the folder of a sequence"))
        faults += dict.fromkeys(_surplus(files, wanted, root))
    return _merged(faults)


def _root(video: VideoSequence) -> str:
    return "" if video.outputs is None else "Annotations/"


def _name(video: VideoSequence, frame: int) -> str:
    return f"{_root(video)}{video.name}/{video.images[frame].stem}.png"


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _palette_png(path: Path, video: VideoSequence) -> bytes:
    labels = video.as_predicted(read_mask(path, LITERAL))
    if labels.max() > 255:
        raise DataError(f"{path}: id {labels.max()} does not fit into a palette PNG (0 to 255), which servers ask for")
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(palette().tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def _files(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], list[Fault]]:
    """Return the files of the archive with safe names, by name, and the faults of all others."""
    files: dict[str, zipfile.ZipInfo] = {}
    faults = []
    for info in archive.infolist():
        name = info.orig_filename
        parts = name.rstrip("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name or not name.isprintable():
            faults.append(Fault(name, "unsafe name"))
        elif name in files:
            faults.append(Fault(name, "is in the zip twice"))
        elif not info.is_dir():
            files[name] = info
    return files, faults


def _rebased(
    files: dict[str, zipfile.ZipInfo], wanted: set[str], root: str
) -> tuple[dict[str, zipfile.ZipInfo], list[Fault]]:
    """If all masks are in another root folder, return them under the expected names, with one fault."""
    tails = {name.removeprefix(root) for name in wanted}
    roots = {name.removesuffix(tail) for name in files if (tail := "/".join(name.split("/")[-2:])) in tails}
    if len(roots) != 1 or root in roots:
        return files, []
    other = roots.pop()
    expected = f"under {root}" if root else "at the top of the zip"
    fault = Fault(other or "the zip", f"wrong root folder: the folders of the sequences must be {expected}")
    inside = {name: root + name.removeprefix(other) for name in files if name.startswith(other)}
    return {inside.get(name, name): info for name, info in files.items()}, [fault]


def _check_sequence(
    archive: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], video: VideoSequence
) -> Iterator[Fault]:
    starts = _starts(video)
    height, width, _ = video.image(video.output_frames[0]).shape
    for frame in video.output_frames:
        name = _name(video, frame)
        if name not in files:
            yield Fault(name, "missing")
            continue
        labels = _read(archive, files[name], (height, width))
        if isinstance(labels, str):
            yield Fault(name, labels)
            continue
        ids = [int(i) for i in np.flatnonzero(np.bincount(labels.ravel())) if i]
        if unknown := [i for i in ids if i not in starts]:
            valid = ", ".join(map(str, sorted(starts)))
            yield Fault(name, f"has an unknown id: {', '.join(map(str, unknown[:5]))} (the sequence has {valid})")
        for early in (i for i in ids if starts.get(i, 0) > frame):
            given = video.images[starts[early]].stem
            yield Fault(name, f"has id {early} before frame {given}, in which it is given", warning=True)


def _starts(video: VideoSequence) -> dict[int, int]:
    if video.starts is not None:
        return dict(video.starts)
    return dict.fromkeys(object_ids(video.given_masks()[0]), 0)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: tuple[int, int]) -> NDArray[np.uint8] | str:
    """Return the label map of a file in the zip, or the reason why it is invalid."""
    height, width = size
    # The limit admits 16-bit RGBA, eight bytes per pixel, to report its mode. Deflate may add a little.
    limit = 9 * height * width + (1 << 16)
    if info.flag_bits & 1:
        return "is encrypted"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is packed by method {info.compress_type}; servers read stored and deflated files"
    if info.file_size > limit:
        return f"has {info.file_size} bytes, too many for a mask of {width} x {height} pixels"
    try:
        with archive.open(info) as file:
            content = file.read(limit)
    except _DAMAGE as error:
        return f"is damaged in the zip ({error})"
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        return "is no PNG"
    found = struct.unpack(">II", content[16:24]) if len(content) >= 24 else (0, 0)
    if found != (width, height):
        return f"is {found[0]} x {found[1]} pixels, its frame {width} x {height}"
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.mode != "P":
                return f"is no palette PNG (its mode is {image.mode})"
            return np.array(image)
    except UnidentifiedImageError:
        return "is a damaged PNG (Pillow cannot identify it)"
    except Exception as error:  # Pillow raises many types of errors for damaged files
        return f"is a damaged PNG ({' '.join(str(error).split()) or type(error).__name__})"


def _surplus(files: Iterable[str], wanted: set[str], root: str) -> Iterator[Fault]:
    """List files that do not belong in the submission, such as folders of unknown sequences."""
    folders = {_folder(name) for name in wanted}
    for name in files:
        folder = _folder(name)
        if folder not in folders and folder.startswith(root) and folder and "/" not in folder.removeprefix(root):
            yield Fault(f"{folder}/", "is the folder of no sequence")
        elif name not in wanted:
            yield Fault(name, "is not a frame of the submission")


def _merged(faults: list[Fault]) -> list[Fault]:
    """Merge equal faults of more than ten files in a folder."""
    counts = Counter((_folder(fault.place), fault.reason) for fault in faults)
    out: dict[tuple[str, str] | int, Fault] = {}
    for number, fault in enumerate(faults):
        key = (_folder(fault.place), fault.reason)
        if counts[key] <= _SHOWN:
            out[number] = fault
        elif key not in out:
            out[key] = replace(fault, more=counts[key] - 1)
    return list(out.values())
