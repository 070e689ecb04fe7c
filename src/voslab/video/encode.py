"""Encodes videos and image sequences as H.264 with known references, and caches the files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError, VideoError, WriteError, cache_key
from voslab.video.decode import DEFAULT_RATE, read_header
from voslab.video.images import image_files, read_image
from voslab.video.reader import Video, open_video
from voslab.video.video_writer import VideoWriter

_log = logging.getLogger(__name__)
_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_FILES = frozenset({"cqmfile", "dump-yuv", "opencl-clbin", "stats"})
"""Parameters of x264 that name a file to read or write."""
_VERSION = 1
"""Version of the cache. Increase it when the same settings produce other files."""


@dataclass(frozen=True)
class Encoding:
    """Settings of x264. None stands for the default of the preset.

    The defaults restrict each B-frame to one past and one future key frame, so that the direction of a vector
    identifies its reference. `refs=None, b_pyramid=None, weightp=None` restores the defaults of x264.

    Attributes:
        preset: speed of the encoder, `"ultrafast"` to `"placebo"`.
        crf: constant rate factor, 0 (lossless) to 51. The default of x264 is 23.
        bframes: maximum number of consecutive B-frames.
        b_adapt: choice of the number of B-frames: 0 the maximum, 1 fast, 2 optimal.
        refs: number of reference frames.
        b_pyramid: B-frames as references: `"none"`, `"strict"` or `"normal"`.
        weightp: weighted prediction of P-frames, 0, 1 or 2.
        weightb: whether bi-predictions are weighted by distance.
        direct: prediction of direct vectors: `"none"`, `"spatial"`, `"temporal"` or `"auto"`.
        keyint: maximum distance between I-frames.
        scenecut: sensitivity of the scene cut detection that inserts I-frames; 0 turns it off.
        rate: frames per second; None: the rate of the source.
        more: further x264 parameters, as `name=value:name=value`.
        threads: number of encoder threads. The stream depends on it.

    Raises:
        ConfigError: if x264 does not know a value.
    """

    preset: str = "medium"
    crf: float = 23.0
    bframes: int | None = None
    b_adapt: int | None = None
    refs: int | None = 1
    b_pyramid: str | None = "none"
    weightp: int | None = 0
    weightb: bool | None = None
    direct: str | None = None
    keyint: int | None = None
    scenecut: int | None = None
    rate: Fraction | float | None = None
    more: str = ""
    threads: int = 1

    def __post_init__(self) -> None:
        invalid = [
            f"{name} {value}"
            for name, value, choices in (
                ("preset", self.preset, _PRESETS),
                ("b_pyramid", self.b_pyramid, (None, "none", "strict", "normal")),
                ("direct", self.direct, (None, "none", "spatial", "temporal", "auto")),
                ("b_adapt", self.b_adapt, (None, 0, 1, 2)),
                ("weightp", self.weightp, (None, 0, 1, 2)),
                ("bframes", self.bframes, (None, *range(17))),
                ("refs", self.refs, (None, *range(1, 17))),
            )
            if value not in choices
        ]
        if not 0 <= self.crf <= 51 or (self.rate is not None and self.rate <= 0):
            invalid.append(f"crf {self.crf}, rate {self.rate}")
        if invalid:
            raise ConfigError(f"x264 knows no {invalid[0]}")
        names = {part.partition("=")[0].strip().replace("_", "-") for part in self.more.split(":")}
        if files := sorted(names & _FILES):
            raise ConfigError(f"more: {files[0]} is not allowed, because it names a file")

    def options(self) -> dict[str, str]:
        """Return the options of FFmpeg's encoder `libx264`."""
        parameters = {
            "bframes": self.bframes,
            "b-adapt": self.b_adapt,
            "ref": self.refs,
            "b-pyramid": self.b_pyramid,
            "weightp": self.weightp,
            "weightb": self.weightb,
            "direct": self.direct,
            "keyint": self.keyint,
            "scenecut": self.scenecut,
            "threads": self.threads,
            "asm": instructions(),
        }
        texts = [f"{name}={int(v) if isinstance(v, bool) else v}" for name, v in parameters.items() if v is not None]
        return {"preset": self.preset, "crf": str(self.crf), "x264-params": ":".join(filter(None, [*texts, self.more]))}


PINNED = Encoding()


@cache
def instructions() -> str | None:
    """Limit x264 to AVX2 on CPUs with AVX-512, where its streams differ from run to run; else None."""
    cpu_info = Path("/proc/cpuinfo")
    return "AVX2" if cpu_info.is_file() and " avx512" in cpu_info.read_text() else None


def encode(frames: Iterable[NDArray[np.uint8]], path: Path | str, settings: Encoding = PINNED) -> None:
    """Write an H.264 mp4 (yuv420p), atomically.

    An odd height or width is padded to even by repeating the last row or column, because yuv420p has no odd sizes.
    `codec_frames` crops the padding if it gets the `size` of the source.

    Args:
        frames: H W 3, RGB, all of one size.
        path: file to write.
        settings: encoder settings; a `rate` of None is 24.

    Raises:
        WriteError: if there is no frame, a frame has another size, or the file cannot be written.
    """
    path, frames = Path(path), iter(frames)
    first = next(frames, None)
    if first is None:
        raise WriteError(f"{path}: no frame was written")
    rate = Fraction(settings.rate if settings.rate is not None else DEFAULT_RATE).limit_denominator(1 << 16)
    with VideoWriter(path, rate, first.shape[:2], settings.options()) as video:
        for image in chain([first], frames):
            video.write(image)


def encode_to_cache(source: Video | Sequence[Path], folder: Path | str, settings: Encoding = PINNED) -> Path:
    """Encode a source as H.264, unless the cache has the file.

    Args:
        source: a video, or image files in order.
        folder: the cache. File names contain a hash of the source files (path, size, modification time) and settings.
        settings: encoder settings.

    Returns:
        the encoded file.

    Raises:
        VideoError, DataError: if the source is damaged.
        WriteError: see `encode`.
    """
    if isinstance(source, Video):
        files = image_files(source.path) if source.path.is_dir() else [source.path]
        images: Iterator[NDArray[np.uint8]] = (frame.image for frame in source)
        rate, name = source.rate, source.path.stem
    else:
        files = [Path(file) for file in source]
        if not files:
            raise VideoError("no image files were given to encode")
        images, rate, name = _read_images(files), DEFAULT_RATE, files[0].parent.name
    if settings.rate is None:
        settings = replace(settings, rate=rate)
    target = Path(folder) / f"{name[:80]}-{_key(files, settings)}.mp4"
    if not target.is_file():
        encode(images, target, settings)
    elif isinstance(source, Video) and source.is_video_file:
        missing = read_header(source.path).missing(read_header(target).declared_frames, None)
        if missing is not None:  # otherwise the iteration of the source logs it
            _log.warning("%s: %s", source.path, missing)
    return target


def _read_images(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    """Read images that must all have the size of the first one."""
    size: tuple[int, ...] | None = None
    for file in files:
        image = read_image(file)
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            raise DataError(f"{file}: is {image.shape[0]}x{image.shape[1]}, the first image {size[0]}x{size[1]}")
        yield image


def transcode_to_cache(path: Path | str, folder: Path | str, settings: Encoding = PINNED) -> Path:
    """Transcode a video file to upright H.264 with pinned references and log a warning; see `encode_to_cache`."""
    _log.warning("%s: read as a copy that is encoded as H.264, for motion vectors; its frames change a little", path)
    return encode_to_cache(open_video(path), folder, settings)


def _key(files: Sequence[Path], settings: Encoding) -> str:
    try:
        return cache_key(_VERSION, files, asdict(settings))
    except OSError as error:
        raise VideoError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
