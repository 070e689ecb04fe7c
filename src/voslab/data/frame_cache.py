"""Decodes video files into cached image files, for random access to frames."""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image

from voslab.core import WriteError, atomic_folder, cache_key
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
        target = cache / f"{video.stem[:40]}_{cache_key(video)}"
        if not target.is_dir():
            _log.info("%s: decoding into %s, once", video, target)
            with atomic_folder(target) as temporary:
                for frame in open_video(video):
                    Image.fromarray(frame.image).save(temporary / f"{frame.index:05}.png", compress_level=1)
    except OSError as error:
        raise WriteError(f"{cache}: frames of {video} cannot be written ({error.strerror or error})") from error
    return image_files(target)
