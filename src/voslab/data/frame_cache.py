"""Decodes video files into cached image files, for random access to frames."""

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


def decode_to_cache(video: Path, cache: Path) -> list[Path]:
    """Decode a video into PNG files `00000.png`, `00001.png`, … on first use, atomically.

    Args:
        video: The video file. A changed size or modification time makes it another video.
        cache: Folder of the cache.

    Returns:
        Files of all frames, in order.

    Raises:
        VideoError: If the file is damaged or not a video.
        WriteError: If the frames cannot be written.
    """
    try:
        seen = video.stat()
        key = f"{video.resolve()} {seen.st_size} {seen.st_mtime_ns}"
        target = cache / f"{video.stem[:40]}_{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        if not target.is_dir():
            _log.info("%s: decoding into %s, once", video, target)
            _decode(video, target)
    except OSError as error:
        raise WriteError(f"{cache}: frames of {video} cannot be written ({error.strerror or error})") from error
    return image_files(target)


def _decode(video: Path, target: Path) -> None:
    building = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        building.mkdir(parents=True)
        for frame in open_video(video):
            Image.fromarray(frame.image).save(building / f"{frame.index:05}.png", compress_level=1)
        try:
            building.rename(target)
        except OSError:
            # Another process finished first: rename cannot replace a folder that has files.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
