"""Reads the frames of a video file in decoding order, with motion, references and residual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from voslab.core import CodecData, RawFrame, VideoError
from voslab.video.decode import readable
from voslab.video.encode import PINNED, Encoding, transcode_to_cache
from voslab.video.frame_index import KeyFrame
from voslab.video.h264.compensation import Compensated, compensate
from voslab.video.h264.interpolation import Interpolated
from voslab.video.h264.references import (
    HIDDEN,
    Buffer,
    Reference,
    fill_frame_num_gaps,
    has_lost_reference,
    mark_references,
    reference_lists,
)
from voslab.video.motion.rasterise import QUARTERS, Cells, dense, rasterise
from voslab.video.packets import DecodedFrame, NoVectorsError, Packet, numbered_packets, read_packets
from voslab.video.stream import Stream

Resolution = Literal["full", "quarter"]


def codec_frames(
    path: Path | str | Stream,
    *,
    resolution: Resolution = "full",
    residual: bool = True,
    size: tuple[int, int] | None = None,
    start: KeyFrame | None = None,
) -> Iterator[RawFrame]:
    """Yield the frames of an H.264 or MPEG-4 (no B-frames) file in decoding order, each with its `CodecData` (B = 1).

    Each frame follows its references. `index` is the presentation index, and images equal those of `open_video`.
    Only the frames that the decoder may refer to are in memory. `references` come from the reference lists of the
    stream. If a list has several frames, the one whose displaced luma is nearest is chosen. The residual is the frame
    minus this prediction. Implicit weights of bi-predictions are applied; explicit weights (fades) are not.

    Args:
        path: a video file or a stream.
        resolution: resolution of the fields: that of the frame, or a quarter of it, rounded up. A quarter field holds
            motion in pixels of the frame and references, both of the nearest pixel, and the mean residual of the
            middle four pixels.
        residual: whether to compute the residual. Without it, video whose references need no search is read faster.
        size: H, W to which frames and fields are cropped at the bottom and the right, to undo padding.
        start: frame to start at, one of `reference_starts`; None: the first frame.

    Yields:
        frames of size H W 3 with fields of batch size 1.

    Raises:
        NoVectorsError: if the codec is another one, or the video is interlaced, rotated, cropped, not 8-bit planar
            YUV, has hidden frames, or is MPEG-4 with B-frames.
        VideoError: if the file is not a video or is damaged; the frames before the damage are yielded first.
    """
    path = path if isinstance(path, Stream) else Path(path)
    reference_frames = _ReferenceFrames()
    for packet in read_packets(path, start):
        reference_frames.check(path, packet)
        if (decoded := packet.decoded) is not None:
            if size and (size[0] > decoded.luma.shape[0] or size[1] > decoded.luma.shape[1]):
                raise VideoError(
                    f"{path}: frame {decoded.index} has shape {decoded.luma.shape}, less than {tuple(size)}"
                )
            prediction, cells = reference_frames.compensate(packet, residual)
            reference_frames.advance(packet)
            height, width = size or decoded.luma.shape
            codec = _codec_data(decoded, prediction, cells, (height, width), resolution, reference_frames.live_refs)
            yield RawFrame(decoded.index, np.ascontiguousarray(decoded.image[:height, :width]), codec, decoded.time)
        else:
            reference_frames.advance(packet)


def ensure_motion_vectors(path: Path | str, folder: Path | str, settings: Encoding = PINNED) -> Path:
    """Return a file that `codec_frames` can read.

    Args:
        path: a video file.
        folder: cache for a transcoded copy.
        settings: encoder settings of the copy.

    Returns:
        the file itself if `codec_frames` can read it, else the copy that `transcode_to_cache` writes to `folder`.

    Raises:
        VideoError: if the file is not a video or is damaged.
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


class _ReferenceFrames:
    """Holds the reference frames of the stream, and which of them the next frame may use."""

    def __init__(self) -> None:
        self._buffer = Buffer()
        self._frames: dict[int, Interpolated] = {}

    def compensate(self, packet: Packet, residual: bool) -> tuple[Compensated, Cells]:
        """Compute references and residual of a shown frame, and its motion."""
        decoded = packet.decoded
        assert decoded is not None
        cells = rasterise(decoded.vectors, decoded.luma.shape)
        lists: tuple[tuple[int, ...], ...] = (tuple(self._buffer.indices()), ())
        if packet.slices:
            self._buffer = fill_frame_num_gaps(self._buffer, packet.slices[0])
            lists = reference_lists(self._buffer, packet.slices, decoded.index)
        implicit = any(header.implicit for header in packet.slices)
        prediction = compensate(
            *(decoded.luma, cells, lists, self._frames), index=decoded.index, implicit=implicit, residual=residual
        )
        return prediction, cells

    def check(self, path: Path | Stream, packet: Packet) -> None:
        """Raise `VideoError` if a reference of the frame was lost, which decoders conceal."""
        if packet.slices and has_lost_reference(self._buffer, packet.slices):
            name = f"frame {packet.decoded.index}" if packet.decoded else "a hidden frame"
            raise VideoError(f"{path}: damaged, a reference of {name} is missing")

    @property
    def live_refs(self) -> frozenset[int]:
        """Presentation indices of the frames that the next one may refer to."""
        return self._buffer.indices() - {HIDDEN}

    def advance(self, packet: Packet) -> None:
        """Update the reference buffer after a frame."""
        decoded, index = packet.decoded, packet.decoded.index if packet.decoded else HIDDEN
        if packet.slices:
            self._buffer = mark_references(fill_frame_num_gaps(self._buffer, packet.slices[0]), packet.slices[0], index)
        elif decoded:
            self._buffer = Buffer((Reference(index, 0),))
        references = self._buffer.indices()
        self._frames = {i: frame for i, frame in self._frames.items() if i in references}
        if decoded and index in references:
            self._frames[index] = Interpolated(decoded.luma, 6 if packet.slices else 2)


def _codec_data(
    decoded: DecodedFrame,
    prediction: Compensated,
    cells: Cells,
    size: tuple[int, int],
    resolution: Resolution,
    live_refs: frozenset[int],
) -> CodecData:
    height, width = size
    side, grid = cells.side, (height, width)
    residual = None if prediction.residual is None else prediction.residual[:height, :width] / np.float32(255)
    if resolution == "quarter":
        side, grid = side // 4, (-(-height // 4), -(-width // 4))
        if residual is not None:
            padded = np.pad(residual, ((0, -height % 4), (0, -width % 4)), "edge")
            total = padded[1::4, 1::4] + padded[1::4, 2::4] + padded[2::4, 1::4] + padded[2::4, 2::4]
            residual = total / np.float32(4)
    motion = cells.motion.astype(np.float32) / QUARTERS * (prediction.references >= 0)[:, None]
    return CodecData(
        decoded.type,
        motion=torch.from_numpy(dense(motion.reshape(4, *motion.shape[2:]), side, grid)[None]),
        references=torch.from_numpy(dense(prediction.references, side, grid)[None]),
        residual=None if residual is None else torch.from_numpy(residual[None, None]),
        live_refs=live_refs,
    )
