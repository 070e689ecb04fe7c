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
from voslab.video.writer import VideoWriter

_log = logging.getLogger(__name__)
_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_VERSION = 1
"""Of the cache; another number when the same settings give other files."""


@dataclass(frozen=True)
class Encoding:
    """Settings of x264; what is None is the preset's own.

    The defaults pin the references: one past key frame and one future one, so that the direction of a vector names its
    frame. `refs=None, b_pyramid=None, weightp=None` is a stream as others make it.

    Attributes:
        preset: speed of the encoder, `"ultrafast"` to `"placebo"`.
        crf: quality, 0 (lossless) to 51; 23 is x264's own.
        bframes: most B-frames in a row.
        b_adapt: how their number is chosen: 0 always the most, 1 fast, 2 best.
        refs: reference frames.
        b_pyramid: B-frames as references: `"none"`, `"strict"` or `"normal"`.
        weightp: weighted prediction of P-frames, 0, 1 or 2.
        weightb: bi-predictions weighted by distance.
        direct: mode of direct vectors: `"none"`, `"spatial"`, `"temporal"` or `"auto"`.
        keyint: most frames from one I-frame to the next.
        scenecut: how easily an I-frame is put at a cut; 0 never.
        rate: frames per second; None for the source's own.
        more: further x264 parameters, as `name=value:name=value`.
        threads: of the encoder; another number gives another stream.

    Raises:
        ConfigError: a value that x264 does not know.
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
        wrong = [
            f"{name} {value}"
            for name, value, known in (
                ("preset", self.preset, _PRESETS),
                ("b_pyramid", self.b_pyramid, (None, "none", "strict", "normal")),
                ("direct", self.direct, (None, "none", "spatial", "temporal", "auto")),
                ("b_adapt", self.b_adapt, (None, 0, 1, 2)),
                ("weightp", self.weightp, (None, 0, 1, 2)),
                ("bframes", self.bframes, (None, *range(17))),
                ("refs", self.refs, (None, *range(1, 17))),
            )
            if value not in known
        ]
        if not 0 <= self.crf <= 51 or (self.rate is not None and self.rate <= 0):
            wrong.append(f"crf {self.crf}, rate {self.rate}")
        if wrong:
            raise ConfigError(f"x264 knows no {wrong[0]}")

    def options(self) -> dict[str, str]:
        """Options of the encoder `libx264`."""
        named = {
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
        texts = [f"{name}={int(v) if isinstance(v, bool) else v}" for name, v in named.items() if v is not None]
        return {"preset": self.preset, "crf": str(self.crf), "x264-params": ":".join(filter(None, [*texts, self.more]))}


PINNED = Encoding()


@cache
def instructions() -> str | None:
    """The older instruction set where there is AVX-512, with which x264 was seen to give another stream each time."""
    described = Path("/proc/cpuinfo")
    return "AVX2" if described.is_file() and " avx512" in described.read_text() else None


def encode(frames: Iterable[NDArray[np.uint8]], path: Path | str, settings: Encoding = PINNED) -> None:
    """Write an H.264 mp4 (yuv420p), atomically.

    An odd height or width is padded to even by repeating the last row or column, as yuv420p knows no odd sizes; give
    `codec_frames` the source's `size` to get rid of it again.

    Args:
        frames: H W 3, RGB, all of one size.
        path: where to.
        settings: of the encoder; a `rate` of None is 24.

    Raises:
        WriteError: no frame, a frame of another size, or the file cannot be written.
    """
    path, frames = Path(path), iter(frames)
    first = next(frames, None)
    if first is None:
        raise WriteError(f"{path}: no picture was written")
    rate = Fraction(settings.rate if settings.rate is not None else DEFAULT_RATE).limit_denominator(1 << 16)
    with VideoWriter(path, rate, first.shape[:2], settings.options()) as video:
        for image in chain([first], frames):
            video.write(image)


def encode_to_cache(source: Video | Sequence[Path], folder: Path | str, settings: Encoding = PINNED) -> Path:
    """The source as an H.264 file in `folder`, encoded if it is not there yet.

    Args:
        source: a video, or image files in order.
        folder: the cache. Files are named by a key that holds the sources (path, size, time of change) and settings.
        settings: of the encoder.

    Raises:
        VideoError, DataError: the source is damaged.
        WriteError: as `encode`.
    """
    if isinstance(source, Video):
        files = image_files(source.path) if source.path.is_dir() else [source.path]
        images: Iterator[NDArray[np.uint8]] = (frame.image for frame in source)
        rate, name = source.rate, source.path.stem
    else:
        files = [Path(file) for file in source]
        if not files:
            raise VideoError("no image files were given to encode")
        images, rate, name = _of_one_size(files), DEFAULT_RATE, files[0].parent.name
    if settings.rate is None:
        settings = replace(settings, rate=rate)
    target = Path(folder) / f"{name[:80]}-{_key(files, settings)}.mp4"
    if not target.is_file():
        encode(images, target, settings)
    elif isinstance(source, Video) and not source.names:
        missing = read_header(source.path).missing(read_header(target).promised, None)
        if missing is not None:  # Reading the source itself has said it before.
            _log.warning("%s: %s", source.path, missing)
    return target


def _of_one_size(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    size: tuple[int, ...] | None = None
    for file in files:
        image = read_image(file)
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            raise DataError(f"{file}: is {image.shape[0]}x{image.shape[1]}, the first picture {size[0]}x{size[1]}")
        yield image


def transcode_to_cache(path: Path | str, folder: Path | str, settings: Encoding = PINNED) -> Path:
    """Transcode a video file to upright H.264 with pinned references, with a warning; see `encode_to_cache`."""
    _log.warning("%s: read as a copy that is encoded as H.264, for motion vectors; its frames change a little", path)
    return encode_to_cache(open_video(path), folder, settings)


def _key(files: Sequence[Path], settings: Encoding) -> str:
    try:
        return cache_key(_VERSION, files, asdict(settings))
    except OSError as error:
        raise VideoError(f"{error.filename}: cannot be read ({error.strerror or error})") from error
