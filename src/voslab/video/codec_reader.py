"""Reads frames of a video file in decoding order, with motion, references and residual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from voslab.core import CodecData, RawFrame, VideoError
from voslab.video.decode import readable
from voslab.video.encode import PINNED, Encoding, transcode_to_cache
from voslab.video.h264.compensation import Compensated, compensate
from voslab.video.h264.interpolation import Interpolated
from voslab.video.h264.references import (
    HIDDEN,
    Buffer,
    Reference,
    after,
    fill_frame_num_gaps,
    has_lost_reference,
    reference_lists,
)
from voslab.video.motion.rasterise import QUARTERS, Cells, dense, rasterise
from voslab.video.packets import DecodedFrame, NoVectorsError, Packet, numbered_packets, read_packets

Resolution = Literal["full", "quarter"]


def codec_frames(
    path: Path | str, *, resolution: Resolution = "full", residual: bool = True, size: tuple[int, int] | None = None
) -> Iterator[RawFrame]:
    """Yield the frames of an H.264 or MPEG-4 (no B-frames) file in decoding order, each with its `CodecData` (B = 1).

    Each frame comes after those it refers to; `index` is the presentation index, and images are those of
    `open_video`. Memory holds the decoder's own window of frames. `references` come from the stream's reference
    lists; where a list has several frames, the one whose displaced luma is nearest. The residual is what is left of
    that prediction; bi-predictions are weighted as the stream says, the explicit weights of fades are not applied.

    Args:
        path: a video file.
        resolution: of the fields: the frame's, or a quarter of it, rounded up. There, motion is still in pixels of
            the frame, taken with the references from the nearest pixel; the residual is the mean of the middle four.
        residual: compute it; otherwise it is None, which saves time where references need no search.
        size: H, W to which frames and fields are cropped at the bottom and the right, to undo padding.

    Raises:
        NoVectorsError: another codec; interlaced, turned or cropped video, hidden frames, pixels other than 8-bit
            planar ones, MPEG-4 with B-frames.
        VideoError: not a video, or damaged; then after the frames before the damage.
    """
    path = Path(path)
    memory = _Memory()
    for packet in read_packets(path):
        memory.check(path, packet)
        if (decoded := packet.decoded) is not None:
            if size and (size[0] > decoded.luma.shape[0] or size[1] > decoded.luma.shape[1]):
                raise VideoError(
                    f"{path}: frame {decoded.index} has shape {decoded.luma.shape}, less than {tuple(size)}"
                )
            found, cells = memory.compensated(packet, residual)
            memory.advance(packet)
            codec = _codec_data(decoded, found, cells, size or decoded.luma.shape, resolution, memory.live_refs)
            height, width = size or decoded.luma.shape
            yield RawFrame(decoded.index, np.ascontiguousarray(decoded.image[:height, :width]), codec)
        else:
            memory.advance(packet)


def ensure_motion_vectors(path: Path | str, folder: Path | str, settings: Encoding = PINNED) -> Path:
    """Return the file itself if `codec_frames` can read it, else the copy that `transcode_to_cache` writes to `folder`.

    Raises:
        VideoError: not a video, or damaged.
    """
    path = Path(path)
    try:
        with readable(path) as (container, stream):
            for _ in numbered_packets(path, container, stream):
                pass
        next(codec_frames(path, residual=False), None)
    except NoVectorsError:
        return transcode_to_cache(path, folder, settings)
    return path


class _Memory:
    """The reference frames, and which of them the next frame may use."""

    def __init__(self) -> None:
        self._buffer = Buffer()
        self._frames: dict[int, Interpolated] = {}

    def compensated(self, packet: Packet, residual: bool) -> tuple[Compensated, Cells]:
        """References and residual of a shown frame, and its motion."""
        decoded = packet.decoded
        assert decoded is not None
        cells = rasterise(decoded.vectors, decoded.luma.shape)
        lists: tuple[tuple[int, ...], ...] = (tuple(self._buffer.indices()), ())
        if packet.slices:
            self._buffer = fill_frame_num_gaps(self._buffer, packet.slices[0])
            lists = reference_lists(self._buffer, packet.slices, decoded.index)
        implicit = any(header.implicit for header in packet.slices)
        found = compensate(
            *(decoded.luma, cells, lists, self._frames), index=decoded.index, implicit=implicit, residual=residual
        )
        return found, cells

    def check(self, path: Path, packet: Packet) -> None:
        """Raise `VideoError` where a decoder makes up a frame that is referred to."""
        if packet.slices and has_lost_reference(self._buffer, packet.slices):
            where = f"frame {packet.decoded.index}" if packet.decoded else "a frame"
            raise VideoError(f"{path}: damaged, a picture that {where} may refer to is missing")

    @property
    def live_refs(self) -> frozenset[int]:
        """Presentation indices of the frames that the next one may refer to."""
        return self._buffer.indices() - {HIDDEN}

    def advance(self, packet: Packet) -> None:
        """Update the reference buffer after a frame."""
        decoded, index = packet.decoded, packet.decoded.index if packet.decoded else HIDDEN
        if packet.slices:
            self._buffer = after(fill_frame_num_gaps(self._buffer, packet.slices[0]), packet.slices[0], index)
        elif decoded:
            self._buffer = Buffer((Reference(index, 0),))
        kept = self._buffer.indices()
        self._frames = {i: frame for i, frame in self._frames.items() if i in kept}
        if decoded and index in kept:
            self._frames[index] = Interpolated(decoded.luma, 6 if packet.slices else 2)


def _codec_data(
    decoded: DecodedFrame,
    found: Compensated,
    cells: Cells,
    size: tuple[int, ...],
    resolution: Resolution,
    live_refs: frozenset[int],
) -> CodecData:
    height, width = size
    side, grid = cells.side, (height, width)
    residual = None if found.residual is None else found.residual[:height, :width] / np.float32(255)
    if resolution == "quarter":
        side, grid = side // 4, (-(-height // 4), -(-width // 4))
        if residual is not None:
            whole = np.pad(residual, ((0, -height % 4), (0, -width % 4)), "edge")
            residual = (whole[1::4, 1::4] + whole[1::4, 2::4] + whole[2::4, 1::4] + whole[2::4, 2::4]) / np.float32(4)
    motion = cells.motion.astype(np.float32) / QUARTERS * (found.references >= 0)[:, None]
    return CodecData(
        decoded.type,
        motion=torch.from_numpy(dense(motion.reshape(4, *motion.shape[2:]), side, grid)[None]),
        references=torch.from_numpy(dense(found.references, side, grid)[None]),
        residual=None if residual is None else torch.from_numpy(residual[None, None]),
        live_refs=live_refs,
    )
