"""Small videos made for a test."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from voslab.video.encode import instructions

Images = NDArray[np.uint8]


def moving_square(count: int = 12, size: tuple[int, int] = (48, 64)) -> Images:
    """T H W 3: smooth ground, and a bright square that moves 3 pixels a frame."""
    height, width = size
    ground = np.linspace(40, 120, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None] * [1.0, 0.5, 0.2]
    images = np.repeat(ground[None], count, 0)
    for index in range(count):
        left = 3 * index % (width - 12)
        images[index, 8:24, left : left + 12] = (230, 200, 60)
    return images.astype(np.uint8)


def encode(
    path: Path,
    images: Images,
    codec: str = "libx264",
    *,
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    turn: tuple[float, bool] | None = None,
    space: tuple[int, int] | None = None,
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode T H W 3 images at 25 frames/s; `times` in frames, `turn` = degrees, mirrored; `space` = matrix, range."""
    matrix, span = space or (None, None)
    with av.open(str(path), "w", options=muxer or {}) as container:
        fixed = {"crf": "4", "bf": "3", **options}
        if codec == "libx264":  # The same stream each time: one thread, and no AVX-512.
            named = (fixed.get("x264-params", ""), f"asm={found}" if (found := instructions()) else "")
            fixed |= {"threads": "1", "x264-params": ":".join(filter(None, named))}
        stream: Any = container.add_stream(codec, rate=Fraction(25), options=fixed)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], pixels
        if space:
            stream.codec_context.colorspace, stream.codec_context.color_range = space
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=span)
            frame.pts, frame.time_base = times[index] if times else index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source: Path, target: Path, *, shift: int = 0, skip: int = 0, drop: int | None = None) -> Path:
    """Copy the packets, `shift` frames earlier, without the first `skip` and without packet `drop`."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        template = old.streams.video[0]
        assert template.time_base is not None
        ticks = round(shift / (25 * template.time_base))
        stream = new.add_stream_from_template(template)
        for index, packet in enumerate(p for p in old.demux(template) if p.dts is not None):
            if index >= skip and index != drop:
                packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, stream
                new.mux(packet)
    return target
