"""Frames of video files as image files, for whoever needs them in any order."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
from pathlib import Path

from PIL import Image

from voslab.core import WriteError
from voslab.video.images import image_files
from voslab.video.reader import open_video

_log = logging.getLogger(__name__)


def decoded(video: Path, cache: Path) -> list[Path]:
    """PNG files of a video's frames, `00000.png` on, in a folder of `cache` that holds all of them or does not exist.

    Made on first use; a video that has changed since (size or time) is another one.

    Raises:
        VideoError: not a video, or a damaged one.
        WriteError: the frames cannot be written.
    """
    try:
        seen = video.stat()
        key = f"{video.resolve()} {seen.st_size} {seen.st_mtime_ns}"
        target = cache / f"{video.stem[:40]}_{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        if not target.is_dir():
            _log.info("%s: decoding into %s, once", video, target)
            _decode(video, target)
    except OSError as error:
        raise WriteError(f"{cache}: frames of {video} cannot be kept ({error.strerror or error})") from error
    return image_files(target)


def _decode(video: Path, target: Path) -> None:
    building = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        building.mkdir(parents=True)
        for picture in open_video(video):
            Image.fromarray(picture.image).save(building / f"{picture.index:05}.png", compress_level=1)
        try:
            building.rename(target)
        except OSError:
            # Another process was first: a folder with files in it cannot be renamed over.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
