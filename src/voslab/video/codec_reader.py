"""Pictures of a video file in decoding order, with what the codec knew about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from voslab.core import CodecData, RawFrame, VideoError
from voslab.video.decode import readable
from voslab.video.encode import PINNED, Encoding, transcoded
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
    """Yield the pictures of an H.264 or MPEG-4 (no B-frames) file in decoding order, each with its `CodecData` (B = 1).

    Each picture comes after those it refers to; `index` is the presentation index, and images are those of
    `open_video`. Memory holds the decoder's own window of pictures. `references` come from the stream's reference
    lists; where a list has several pictures, the one whose displaced luma is nearest. The residual is what is left of
    that prediction; bi-predictions are weighted as the stream says, the explicit weights of fades are not applied.

    Args:
        path: a video file.
        resolution: of the fields: the picture's, or a quarter of it, rounded up. There, motion is still in pixels of
            the picture, taken with the references from the nearest pixel; the residual is the mean of the middle four.
        residual: compute it; otherwise it is None, which saves time where references need no search.
        size: H, W to which pictures and fields are cropped at the bottom and the right, to undo padding.

    Raises:
        NoVectorsError: another codec; interlaced, turned or cropped video, hidden frames, pixels other than 8-bit
            planar ones, MPEG-4 with B-frames.
        VideoError: not a video, or damaged; then after the pictures before the damage.
    """
    path = Path(path)
    memory = _Memory()
    for access in read_packets(path):
        memory.check(path, access)
        if (shown := access.shown) is not None:
            if size and (size[0] > shown.luma.shape[0] or size[1] > shown.luma.shape[1]):
                raise VideoError(f"{path}: frame {shown.index} has shape {shown.luma.shape}, less than {tuple(size)}")
            found, cells = memory.compensated(access, residual)
            memory.advance(access)
            codec = _coded(shown, found, cells, size or shown.luma.shape, resolution, memory.live_refs)
            height, width = size or shown.luma.shape
            yield RawFrame(shown.index, np.ascontiguousarray(shown.image[:height, :width]), codec)
        else:
            memory.advance(access)


def ensure_motion_vectors(path: Path | str, folder: Path | str, settings: Encoding = PINNED) -> Path:
    """The file itself if `coded_pictures` can read it, or what `transcoded` makes of it in `folder`. Decodes little.

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
        return transcoded(path, folder, settings)
    return path


class _Memory:
    """The reference pictures, and which of them the next picture may use."""

    def __init__(self) -> None:
        self._buffer = Buffer()
        self._pictures: dict[int, Interpolated] = {}

    def compensated(self, access: Packet, residual: bool) -> tuple[Compensated, Cells]:
        """References and residual of a shown picture, and its motion."""
        shown = access.shown
        assert shown is not None
        cells = rasterise(shown.vectors, shown.luma.shape)
        lists: tuple[tuple[int, ...], ...] = (tuple(self._buffer.indices()), ())
        if access.slices:
            self._buffer = fill_frame_num_gaps(self._buffer, access.slices[0])
            lists = reference_lists(self._buffer, access.slices, shown.index)
        implicit = any(header.implicit for header in access.slices)
        found = compensate(
            *(shown.luma, cells, lists, self._pictures), index=shown.index, implicit=implicit, residual=residual
        )
        return found, cells

    def check(self, path: Path, access: Packet) -> None:
        """Raise `VideoError` where a decoder makes up a picture that is referred to."""
        if access.slices and has_lost_reference(self._buffer, access.slices):
            where = f"frame {access.shown.index}" if access.shown else "a frame"
            raise VideoError(f"{path}: damaged, a picture that {where} may refer to is missing")

    @property
    def live_refs(self) -> frozenset[int]:
        """Presentation indices of the pictures that the next one may refer to."""
        return self._buffer.indices() - {HIDDEN}

    def advance(self, access: Packet) -> None:
        """Go on behind a picture."""
        shown, index = access.shown, access.shown.index if access.shown else HIDDEN
        if access.slices:
            self._buffer = after(fill_frame_num_gaps(self._buffer, access.slices[0]), access.slices[0], index)
        elif shown:
            self._buffer = Buffer((Reference(index, 0),))
        kept = self._buffer.indices()
        self._pictures = {i: picture for i, picture in self._pictures.items() if i in kept}
        if shown and index in kept:
            self._pictures[index] = Interpolated(shown.luma, 6 if access.slices else 2)


def _coded(
    shown: DecodedFrame,
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
        shown.type,
        motion=torch.from_numpy(dense(motion.reshape(4, *motion.shape[2:]), side, grid)[None]),
        references=torch.from_numpy(dense(found.references, side, grid)[None]),
        residual=None if residual is None else torch.from_numpy(residual[None, None]),
        live_refs=live_refs,
    )
